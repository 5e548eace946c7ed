"""`bridge migrate`: create or upgrade the tables of a database."""

import click

from bridge.backends.base import Transactional
from bridge.channel.transport import transport_of
from bridge.cli.target import Target, takes_url
from bridge.errors import ConfigurationError


@click.command("migrate")
@takes_url()
def command(target: Target) -> None:
    """Create or upgrade the tables of a database.

    Stop the processes that use older tables first.
    """
    with target.open() as channel:
        backend = transport_of(channel).backend
        if not isinstance(backend, Transactional):
            raise ConfigurationError("only a database has tables, such as postgresql:// or sqlite:///")
        click.echo(backend.migrate())
