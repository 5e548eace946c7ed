"""`install_worker`: the metrics of a worker, served by its main process."""

import logging
import os

# `Any` in this module: Celery hands workers of several unrelated classes to its signals.
from typing import Any
from wsgiref.simple_server import WSGIServer

from bridge.errors import ConfigurationError, needs_extra
from bridge.prometheus.reports import Reports
from bridge.prometheus.tasks import PublisherMetrics, Report, TaskMetrics
from bridge.support.fork import reset_in_child

with needs_extra("bridge.prometheus", "prometheus"):
    from prometheus_client import REGISTRY, CollectorRegistry, start_http_server, values
    from prometheus_client.multiprocess import MultiProcessCollector

with needs_extra("bridge.prometheus.install_worker", "celery"):
    from celery import Celery, signals

    from bridge.celery.apps import installed

logger = logging.getLogger("bridge.prometheus")


def install_worker(
    app: Celery, *, port: int, address: str = "127.0.0.1", registry: CollectorRegistry = REGISTRY
) -> None:
    """Have each worker of `app` serve its metrics over HTTP at `address` and `port`, from its main process.

    Call it after `bridge.celery.install`, in the same module. Other processes that import the module, such as
    a web application, serve nothing. The child processes of a worker report to the main process, so one port
    has the numbers of all. The metrics are added to `registry` in the worker, and all of it is served; in the
    multiprocess mode of prometheus_client, those of all processes. If the port is in use, an error is logged
    and the worker works all the same.

    Raises `ConfigurationError` if `install` was not called for `app`, or if `port` is no port.
    """
    if not isinstance(app, Celery) or installed(app) is None:
        raise ConfigurationError("call bridge.celery.install(app, url) before install_worker(app, port=...)")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigurationError(f"port must be a number from 0 to 65535, not {port!r}")
    metrics = _WorkerMetrics(app, address, port, registry)
    signals.worker_init.connect(metrics.begin, weak=False)
    signals.worker_ready.connect(metrics.serve, weak=False)
    signals.worker_shutdown.connect(metrics.stop, weak=False)


class _WorkerMetrics:
    """The metrics of the workers of one app in this process."""

    def __init__(self, app: Celery, address: str, port: int, registry: CollectorRegistry) -> None:
        self._app = app
        self._at = address, port
        self._registry = registry
        self._publishers = PublisherMetrics()
        self._reports: Reports | None = None
        self._server: WSGIServer | None = None
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Leave the port to the main process: a child that outlives it must not keep it."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()

    def begin(self, sender: Any = None, **_: Any) -> None:
        """Begin to count, before the worker starts its child processes."""
        found = installed(self._app)
        if sender.app is not self._app or found is None or self._reports is not None:
            return
        tasks, publishers = TaskMetrics(self._registry, self._app.tasks), self._publishers
        self._registry.register(publishers)

        def take(report: Report) -> None:
            if report.name is not None:
                tasks.add(report.name, report.state, report.seconds)
            if report.pid != main:
                publishers.add(report)

        main = os.getpid()
        self._reports = Reports(take)
        found.on_state = self._reports.on_state
        signals.worker_process_shutdown.connect(self._reports.flush, weak=False)

    def serve(self, sender: Any = None, **_: Any) -> None:
        """Serve the metrics."""
        if sender.app is not self._app or self._server is not None:
            return
        registry = self._registry
        if values.ValueClass is not values.MutexValue:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
            registry.register(self._publishers)
        address, port = self._at
        try:
            self._server, _thread = start_http_server(port, address, registry)
        except OSError as error:
            logger.error(
                "the metrics of this worker cannot be served at %s:%d: %s. Give each worker of a machine its "
                "own port; the worker works all the same",
                address,
                port,
                error,
                extra={
                    "event": "metrics_port_unusable",
                    "address": address,
                    "port": port,
                    "error": str(error),
                },
            )
            return
        port = self._server.server_port
        logger.info(
            "metrics are served at http://%s:%d/metrics",
            address,
            port,
            extra={"event": "metrics_served", "address": address, "port": port},
        )

    def stop(self, **_: Any) -> None:
        """Stop serving."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
