"""The `bridge` command: `bridge migrate URL`."""

import argparse
import sys
from collections.abc import Sequence

from bridge.backends.base import Transactional
from bridge.channel.factory import connect
from bridge.channel.transport import transport_of
from bridge.errors import BridgeError, ConfigurationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Return the exit status: 0, or 1 with the reason in one line on standard error."""
    parser = argparse.ArgumentParser(prog="bridge", description="Stream the progress of Celery tasks.")
    commands = parser.add_subparsers(dest="command", required=True)
    migrate = commands.add_parser("migrate", help="create or upgrade the tables of a database")
    migrate.add_argument("url", metavar="URL", help="as for bridge.connect: postgresql://..., sqlite:///...")
    given = parser.parse_args(arguments)
    try:
        print(_migrate(given.url))  # noqa: T201
    except BridgeError as error:
        print(f"bridge: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _migrate(url: str) -> str:
    """Create or upgrade the tables of a database. Return a sentence about the result.

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
