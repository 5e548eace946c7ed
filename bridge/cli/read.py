"""`bridge read`: print the messages of a topic as they come."""

import base64
from typing import Any  # Any: the values of a JSON object

import click

from bridge.channel.contract import Subscription
from bridge.cli.json_lines import print_object
from bridge.cli.target import Target, takes_url
from bridge.cli.terminal import is_terminal
from bridge.cli.text import plain
from bridge.model.message import Gap, Message


@click.command("read")
@takes_url("TOPIC", least=1, most=1)
@click.option("--after", metavar="ID", help='Begin after the message with this id, or at the "beginning".')
@click.option("--count", type=click.IntRange(1), metavar="NUMBER", help="Stop after so many messages.")
def command(target: Target, topic: str, *, after: str | None, count: int | None) -> None:
    """Print the messages of a topic until Ctrl-C.

    On a terminal a line has the id, the type and the payload. In a pipe it is a JSON object with the members
    id, topic, type and payload, or base64 instead of payload if that is no text.
    """
    with target.open() as channel:
        try:
            subscription = channel.topic(topic).subscribe(after=after)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        with subscription:
            _print_all(subscription, count)


def _print_all(subscription: Subscription, count: int | None) -> None:
    """Print messages as they come, at most `count`."""
    terminal = is_terminal()
    for number, message in enumerate(subscription, 1):
        if terminal:
            click.echo(_line(message))
        else:
            print_object(members(message))
        if number == count:
            return


def members(message: Message) -> dict[str, Any]:
    """Return a message as a JSON object."""
    found: dict[str, Any] = {"id": message.id, "topic": message.topic, "type": message.type}
    if isinstance(message, Gap):
        return found | {"gap": True}
    try:
        return found | {"payload": message.decode()}
    except UnicodeDecodeError:
        return found | {"base64": base64.b64encode(message).decode()}


def _line(message: Message) -> str:
    """Return a message as a line for a terminal."""
    if isinstance(message, Gap):
        return "-- messages were lost here: this backend keeps none --"
    words = (message.id or "-", message.type or "-", message.decode("utf-8", "backslashreplace"))
    return plain("  ".join(words))
