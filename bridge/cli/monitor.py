"""`bridge monitor`: serve the page of all tasks, with no application at all."""

# `Any` in this module: a Celery app, whose types are not needed here.
from typing import Any

import click

from bridge.cli.target import Target, takes_url
from bridge.errors import ConfigurationError, needs_extra
from bridge.monitor.standalone import serve


@click.command("monitor")
@takes_url()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port; 0 takes a free one.",
)
@click.option("--public", is_flag=True, help="Let everyone see the monitor who reaches another --host.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name by which browsers call this machine.",
)
@click.option("--broker", metavar="URL", help="The broker of Celery, to cancel tasks.")
@click.option("--run-again", is_flag=True, help="Let tasks be run again. It needs --broker.")
@click.option("--title", default="Tasks", show_default=True, help="The heading of the page.")
def command(
    target: Target,
    *,
    host: str,
    port: int,
    public: bool,
    allowed_hosts: tuple[str, ...],
    broker: str | None,
    run_again: bool,
    title: str,
) -> None:
    """Serve a page of all tasks until Ctrl-C.

    On another address than this machine's own it needs the secret in the URL that is printed.
    """
    celery = target.app if broker is None else _celery(broker, target)
    if run_again and celery is None:
        raise ConfigurationError("--run-again needs --broker, because a task is run again through the broker")
    serve(
        target.url,
        host=host,
        port=port,
        public=public,
        allowed_hosts=allowed_hosts,
        celery=celery,
        run_again=run_again,
        title=title,
        announce=lambda address: click.echo(f"The monitor is at {address}"),
        **target.options,
    )


def _celery(broker: str, target: Target) -> Any:
    """Return an app that sends messages to the workers of a broker."""
    with needs_extra("bridge monitor --broker", "celery"):
        from celery import Celery

        from bridge.celery import install
    app = Celery("bridge-monitor", broker=broker, set_as_current=False)
    install(app, target.url, **target.options)
    return app
