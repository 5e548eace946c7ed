"""The monitor page, and the route of the browser modules that it imports."""

from pathlib import Path

from flask import Blueprint, current_app, render_template

import bridge
from api.config import MIB

blueprint = Blueprint(
    "monitor",
    __name__,
    static_folder=str(Path(bridge.__file__).parent / "static"),
    static_url_path="/bridge",
)


@blueprint.get("/")
def page() -> str:
    limit = current_app.config["MAX_UPLOAD_BYTES"]
    return render_template("monitor.html", max_upload_bytes=limit, max_upload=f"{limit / MIB:.3g} MiB")
