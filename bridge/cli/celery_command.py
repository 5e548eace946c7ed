"""`celery -A app bridge`: the commands for the bridge of a Celery app. Celery finds them by an entry point.

Celery imports this module at each of its commands.
"""

from typing import Any  # Any: Celery is imported by then, and has no types for its context

import click

from bridge.cli.group import BridgeGroup
from bridge.cli.target import Target, find_with
from bridge.errors import ConfigurationError


@click.group("bridge", cls=BridgeGroup)
@click.pass_context
def bridge(context: click.Context) -> None:
    """Watch the tasks of this app, and the messages of any topic."""
    found: Any = context.obj
    find_with(context, lambda: _target(found.app))


def _target(app: Any) -> Target:
    """Return where the tasks of `app` publish. Raises `ConfigurationError`."""
    from bridge.celery.apps import installed, name_of, names_of_installed

    found = installed(app)
    if found is None:
        others = ", ".join(names_of_installed())
        instead = f" (install() was called for {others})" if others else ""
        raise ConfigurationError(
            f"the Celery app {name_of(app)} has no bridge{instead}: name an app whose module calls "
            "bridge.celery.install(app), as in celery -A proj bridge, or give a URL"
        )
    return Target(found.chosen.url, found.chosen.origin, found.chosen.options, app=app)
