"""`bridge doctor`: find what is set up wrongly, and say what to do."""

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from bridge import __version__
from bridge.cli.diagnosis import diagnose
from bridge.cli.target import Target, takes_url
from bridge.cli.text import plain
from bridge.support.urls import without_secrets

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "red")}
_PACKAGES = ("celery", "redis", "SQLAlchemy", "flask", "starlette", "django")


@click.command("doctor")
@takes_url()
@click.option(
    "--wait",
    type=click.FloatRange(min=0.1),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen for workers.",
)
@click.pass_context
def command(context: click.Context, target: Target, *, wait: float) -> None:
    """Find out what is set up wrongly, and say what to do.

    It looks at the backend, publishes a message and receives it, and listens for workers. As a command of
    Celery it also compares with the workers that answer on the broker. The exit status is 1 if there is a
    problem.
    """
    where = f"{without_secrets(target.url)}, namespace {target.namespace!r}"
    click.echo(plain(f"{where}, from {target.origin}"))
    click.echo(f"celery-event-bridge {__version__}, Python {platform.python_version()}{_versions()}")
    problems = 0
    for finding in diagnose(target, wait):
        mark, colour = _MARKS[finding.level]
        problems += finding.level == "problem"
        click.echo(f"{click.style(mark, colour)}: {plain(finding.text)}")
        if finding.remedy:
            click.echo(f"    {plain(finding.remedy)}")
    context.exit(1 if problems else 0)


def _versions() -> str:
    """Return the versions of the packages that matter and are installed."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f", {name} {version(name)}")
        except PackageNotFoundError:
            continue
    return "".join(found)
