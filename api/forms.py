"""The page with a form for each task."""

from flask import Blueprint, current_app, render_template

from api.config import MIB

blueprint = Blueprint("forms", __name__)


@blueprint.get("/")
def page() -> str:
    limit = current_app.config["MAX_UPLOAD_BYTES"]
    return render_template("forms.html", max_upload_bytes=limit, max_upload=f"{limit / MIB:.3g} MiB")
