"""`bridge publish`: publish one message."""

import os
import sys

import click

from bridge.cli.target import Target, takes_url


@click.command("publish")
@takes_url("TOPIC [PAYLOAD]", least=1, most=2)
@click.option("--type", "event_type", metavar="TYPE", help="The event type of the message.")
def command(target: Target, topic: str, payload: str | None = None, *, event_type: str | None) -> None:
    """Publish a message, and print its id.

    Without PAYLOAD it is what comes on standard input, byte by byte. A backend that keeps no messages has no
    ids.
    """
    given = sys.stdin.buffer.read() if payload is None else os.fsencode(payload)
    with target.open() as channel:
        try:
            message_id = channel.topic(topic).publish(given, type=event_type)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    if message_id is not None:
        click.echo(message_id)
