"""Health checks and metrics: /healthz, /readyz and /metrics."""

import time
from collections.abc import Callable

from celery import Celery
from flask import Blueprint, Response, current_app, jsonify
from kombu.exceptions import OperationalError
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from api.extensions import bridge
from api.problems import problem
from bridge import BridgeError
from bridge.prometheus import collector

blueprint = Blueprint("health", __name__)

streams = collector(bridge)


@blueprint.get("/healthz")
def healthz() -> Response:
    return jsonify(status="ok", time=time.time())


@blueprint.get("/readyz")
def readyz() -> Response:
    checks = {"bridge": _reachable(bridge.ping), "broker": _reachable(_ping_broker)}
    down = [name for name, reachable in checks.items() if not reachable]
    if down:
        return problem(503, f"Not reachable: {', '.join(down)}.", unreachable=down)
    plain = bridge.why_plain()
    streams = "taken over" if plain is None else f"one thread or greenlet each: {plain}"
    return jsonify(status="ok", reachable=list(checks), streams=streams)


@blueprint.get("/metrics")
def metrics() -> Response:
    registry = CollectorRegistry()
    registry.register(streams)
    ProcessCollector(registry=registry)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _reachable(ping: Callable[[], object]) -> bool:
    try:
        ping()
    except (BridgeError, OperationalError, OSError):
        return False
    return True


def _ping_broker() -> None:
    celery: Celery = current_app.extensions["celery"]
    with celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
