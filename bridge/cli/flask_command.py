"""`flask bridge`: the commands for the bridge of a Flask app. Flask finds them by an entry point."""

from typing import Any  # Any: an extension of Flask may be any object

import click
from flask.cli import ScriptInfo

from bridge.cli.application import target_of
from bridge.cli.group import BridgeGroup
from bridge.cli.target import Target, find_with
from bridge.errors import ConfigurationError
from bridge.streams.service import StreamService


@click.group("bridge", cls=BridgeGroup)
@click.pass_context
def bridge(context: click.Context) -> None:
    """Watch tasks, and the messages of any topic."""
    info = context.ensure_object(ScriptInfo)
    find_with(context, lambda: _target(info))


def _target(info: ScriptInfo) -> Target:
    """Return what the streams of the app read. Raises `ConfigurationError`."""
    service: Any = info.load_app().extensions.get("bridge")
    if not isinstance(service, StreamService):
        raise ConfigurationError("this Flask app has no bridge: call bridge.flask.Bridge(app), or give a URL")
    return target_of(service)
