"""`bridge migrate URL`: what is done to a bridge from a shell."""

import argparse
import sys
from collections.abc import Sequence

from bridge.channel.factory import connect
from bridge.errors import BridgeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 with a line on standard error that says why."""
    parser = argparse.ArgumentParser(prog="bridge", description="What a Celery task has to say, live.")
    commands = parser.add_subparsers(dest="command", required=True)
    migrate = commands.add_parser("migrate", help="make the tables of a database, or bring them up to date")
    migrate.add_argument("url", metavar="URL", help="as for bridge.connect: postgresql://..., sqlite:///...")
    given = parser.parse_args(arguments)
    try:
        with connect(given.url) as channel:
            print(channel.migrate())  # noqa: T201
    except BridgeError as error:
        print(f"bridge: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
