"""`bridge topics`: list the topics of a namespace."""

import click

from bridge.backends.base import Listing
from bridge.channel.transport import transport_of
from bridge.cli.json_lines import print_object
from bridge.cli.target import Target, takes_url
from bridge.cli.terminal import is_terminal
from bridge.cli.text import plain
from bridge.errors import ConfigurationError
from bridge.support.validate import INTERNAL


@click.command("topics")
@takes_url()
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    metavar="NUMBER",
    help="How many topics at most.",
)
def command(target: Target, limit: int) -> None:
    """List the topics that have messages.

    Pub/Sub alone keeps nothing, so with redis+pubsub:// and redis+sharded:// there is no list.
    """
    with target.open() as channel:
        backend = transport_of(channel).backend
        if not backend.replays or not isinstance(backend, Listing):
            raise ConfigurationError(
                "this backend keeps no messages, so it cannot list topics; use redis:// or a database"
            )
        found = backend.topics(limit)
    for name in found.names:
        if name.startswith(INTERNAL):
            continue
        if is_terminal():
            click.echo(plain(name))
        else:
            print_object({"topic": name})
    if not found.complete:
        click.echo("bridge: there are more topics; ask for more with --limit", err=True)
