"""`bridge token`: make a token that lets its holder read topics or cancel tasks."""

from collections.abc import Sequence
from pathlib import Path

import click

from bridge.cli.target import find_application
from bridge.errors import ConfigurationError
from bridge.streams.access.keys import Key, read_keys
from bridge.streams.access.tokens import RIGHTS, Tokens, make_scope
from bridge.support.environment import TOKEN_KEY_VARIABLE, read_variable


@click.command("token")
@click.argument("topics", nargs=-1, metavar="[TOPIC]...")
@click.option(
    "--prefix", multiple=True, metavar="TEXT", help="All topics that begin with this, as task: does."
)
@click.option("--tag", multiple=True, metavar="TAG", help="The feed of this tag.")
@click.option("--expires", type=float, default=900, show_default=True, metavar="SECONDS")
@click.option("--subject", metavar="NAME", help="Whose token it is.")
@click.option("--may", multiple=True, type=click.Choice(sorted(RIGHTS)), default=("read",), show_default=True)
@click.option("--audience", metavar="NAME", help="The claim aud, if the application has its own.")
@click.option("--issuer", metavar="NAME", help="The claim iss, if the application asks for one.")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the key that signs: a secret, or a private key in PEM.",
)
@click.option("--namespace", envvar="BRIDGE_NAMESPACE", show_envvar=True, metavar="NAME")
@click.pass_context
def command(
    context: click.Context,
    topics: tuple[str, ...],
    prefix: tuple[str, ...],
    tag: tuple[str, ...],
    expires: float,
    subject: str | None,
    may: tuple[str, ...],
    audience: str | None,
    issuer: str | None,
    key_file: Path | None,
    namespace: str | None,
) -> None:
    """Print a signed token for topics, prefixes and tags.

    The key is that of the application (flask bridge, manage.py bridge), else it comes from --key-file or the
    variable BRIDGE_TOKEN_KEY. It is the first of BRIDGE_TOKEN_KEYS.
    """
    try:
        scope = make_scope(topics, prefix, tag, may)
        application = find_application(context)
        tokens = None if application is None else application.tokens
        if tokens is None or key_file is not None:
            name = audience or f"celery-event-bridge:{namespace or 'bridge'}"
            tokens = Tokens(_keys(key_file), None, audience=name, issuer=issuer)
        click.echo(tokens.sign(scope, expires=expires, subject=subject))
    except ValueError as error:
        raise click.UsageError(str(error), context) from None


def _keys(file: Path | None) -> Sequence[Key]:
    """Return the key that signs. Raises `ConfigurationError` without one."""
    if file is not None:
        return read_keys(file.read_bytes().strip(), str(file))
    given = read_variable(TOKEN_KEY_VARIABLE)
    if given is None:
        raise ConfigurationError(
            f"no key signs the token: name a file with --key-file, or set {TOKEN_KEY_VARIABLE} to the first "
            "key of BRIDGE_TOKEN_KEYS"
        )
    return read_keys(given, TOKEN_KEY_VARIABLE)
