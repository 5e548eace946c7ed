"""The group of commands. Each command is a module, which is imported when the command is used."""

import importlib
import logging
from typing import IO, Any  # Any: a command of click may return anything, and print to any file

import click

from bridge import __version__
from bridge.cli.target import find_with
from bridge.cli.text import plain
from bridge.errors import BridgeError, ConnectionLost, MissingExtra, needs_extra

INTERRUPTED = 130
"""The exit status after Ctrl-C, as of a shell."""

COMMANDS = {
    "doctor": "bridge.cli.doctor",
    "migrate": "bridge.cli.migrate",
    "monitor": "bridge.cli.monitor",
    "publish": "bridge.cli.publish",
    "read": "bridge.cli.read",
    "stats": "bridge.cli.stats",
    "tail": "bridge.cli.tail",
    "tasks": "bridge.cli.tasks",
    "token": "bridge.cli.token",
    "topics": "bridge.cli.topics",
}
"""The module of each command; its `command` is a command of click."""


class Failure(click.ClickException):
    """Ends a command with the status 1 and one line on standard error."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"bridge: {plain(self.message)}", file=file, err=file is None)


class Lost(Failure):
    """The backend cannot be reached."""

    exit_code = 6


class BridgeGroup(click.Group):
    """A group whose commands are imported when they are used, and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        try:
            with needs_extra("the command bridge", "cli"):
                found: click.Command = importlib.import_module(module).command
        except MissingExtra as error:  # also where the commands are only listed
            raise Failure(str(error)) from error
        return found

    def invoke(self, ctx: click.Context) -> Any:
        _show_warnings()
        try:
            return super().invoke(ctx)
        except ConnectionLost as error:
            raise Lost(str(error)) from error
        except BridgeError as error:
            raise Failure(str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


class _PlainHandler(logging.Handler):
    """Prints a record in one line on standard error, whatever a task has put into it."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"bridge: {plain(record.getMessage())}", err=True)


def _show_warnings() -> None:
    """Show the warnings of the bridge on standard error, unless the application has set up logging."""
    logger = logging.getLogger("bridge")
    if not logger.hasHandlers():
        logger.addHandler(_PlainHandler(logging.WARNING))


@click.group(cls=BridgeGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="celery-event-bridge")
@click.pass_context
def bridge(context: click.Context) -> None:
    """Watch Celery tasks, and the messages of any topic.

    URL is that of `bridge.connect`, such as redis://localhost:6379/0 or sqlite:///bridge.db. Without it the
    variable BRIDGE_URL counts.
    """
    if callable(context.obj):
        find_with(context, context.obj)
