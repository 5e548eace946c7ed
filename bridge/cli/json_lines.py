"""What a command prints in a pipe: one JSON object in each line, in UTF-8."""

import json
from typing import Any  # Any: the values of a JSON object

import click

from bridge.aio import to_json
from bridge.cli.text import plain_json
from bridge.tasks.event_types import Event, Reset


def print_object(members: Any) -> None:
    """Print a JSON object in one line, and flush it."""
    _print(json.dumps(members, ensure_ascii=False, separators=(",", ":")))


def print_event(task: str, event: Event | Reset) -> None:
    """Print an event of a task as a stream sends it."""
    _print(to_json(event))


def _print(text: str) -> None:
    click.echo(plain_json(text).encode())
