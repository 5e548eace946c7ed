"""The web application. gunicorn serves it as `gunicorn "api.app:create_app()"`."""

from collections.abc import Mapping

# `Any` in this module: the settings of Flask have values of several types.
from typing import Any

from celery import Celery
from flask import Flask, Response

import worker.tasks  # noqa: F401 - registers the tasks with Celery
from api import config, forms, health, problems, views
from api.extensions import bridge
from worker.app import app as worker_app

FORM_OVERHEAD = 64 * 1024

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

# A request must not wait for a broker that is down: Celery tries once more, then the answer is 503.
PUBLISH_TRANSPORT = {
    "socket_connect_timeout": 2,
    "socket_timeout": 2,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}


def create_app(overrides: Mapping[str, Any] | None = None, celery: Celery = worker_app) -> Flask:
    """Return the WSGI application. `overrides` replace settings; `celery` sends the tasks."""
    app = Flask(__name__)
    app.config.update(config.defaults)
    app.config.update(overrides or {})
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_UPLOAD_BYTES"] + FORM_OVERHEAD
    if not celery.conf.task_always_eager:
        given = celery.conf.broker_transport_options
        celery.conf.broker_transport_options = {**given, **PUBLISH_TRANSPORT}
        celery.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0}
    app.extensions["celery"] = celery
    bridge.init_app(app)
    bridge.monitor(app, "/monitor", celery=celery, run_again=True, title="Task monitor")
    problems.init_app(app)
    for blueprint in (forms.blueprint, views.blueprint, health.blueprint):
        app.register_blueprint(blueprint)
    app.after_request(_secure)
    return app


def _secure(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    return response
