"""The `bridge` command: `bridge migrate URL`."""

import argparse
import sys
from collections.abc import Sequence

from bridge.backends.base import Transactional
from bridge.channel.factory import connect
from bridge.channel.transport import transport_of
from bridge.errors import BridgeError, ConfigurationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 with a line on standard error that says why."""
    parser = argparse.ArgumentParser(prog="bridge", description="What a Celery task has to say, live.")
    commands = parser.add_subparsers(dest="command", required=True)
    migrate = commands.add_parser("migrate", help="make the tables of a database, or bring them up to date")
    migrate.add_argument("url", metavar="URL", help="as for bridge.connect: postgresql://..., sqlite:///...")
    given = parser.parse_args(arguments)
    try:
        print(_migrate(given.url))  # noqa: T201
    except BridgeError as error:
        print(f"bridge: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _migrate(url: str) -> str:
    """Make the tables of a database or bring them up to date; return what there is now, in words.

    Raises `ConfigurationError` if the backend is no database or its tables are newer than this package, and
    `ConnectionLost`.
    """
    with connect(url) as channel:
        backend = transport_of(channel).backend
        if not isinstance(backend, Transactional):
            raise ConfigurationError("only a database has tables, such as postgresql:// or sqlite:///")
        return backend.migrate()


if __name__ == "__main__":
    sys.exit(main())
