"""Metrics for Prometheus: of the processes that serve streams, and of the workers.

`collector(streams)` is for the registry of a web application, `install_worker(app, port=...)` for the module
of a Celery app. Both read what the bridge counts anyway; nothing is done for each message. docs/metrics.md
lists the metrics. To read the code, open `metrics.py` first: it has their names.
"""

from typing import TYPE_CHECKING

from bridge.prometheus.streams import collector

if TYPE_CHECKING:
    from bridge.prometheus.worker import install_worker

__all__ = ["collector", "install_worker"]


def __getattr__(name: str) -> object:
    """Import what needs Celery when it is used: a web application may not have it."""
    if name == "install_worker":
        from bridge.prometheus import worker

        return worker.install_worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
