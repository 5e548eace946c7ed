"""The monitor page."""

from flask import Blueprint, current_app, render_template

from api.config import MIB

blueprint = Blueprint("monitor", __name__)


@blueprint.get("/")
def page() -> str:
    limit = current_app.config["MAX_UPLOAD_BYTES"]
    return render_template("monitor.html", max_upload_bytes=limit, max_upload=f"{limit / MIB:.3g} MiB")
