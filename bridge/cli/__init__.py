"""The command `bridge`: watches tasks, reads and publishes messages, and finds what is set up wrongly.

`celery -A app bridge`, `flask bridge` and `manage.py bridge` are the same commands for the bridge of an app.
The commands use the channel as any program does, and show what they get. This package does not know how
messages travel, and serves no viewers. Open `group.py` first: it lists the commands, each of which is one
module, and `target.py`, which finds the URL.
"""

import sys
from collections.abc import Sequence

from bridge.errors import MissingExtra, needs_extra

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `bridge` with `arguments`, or with those of the process. Return its exit status."""
    try:
        with needs_extra("the command bridge", "cli"):
            from bridge.cli.group import bridge
    except MissingExtra as error:
        print(f"bridge: {error}", file=sys.stderr)  # noqa: T201
        return 1
    try:
        bridge.main(arguments, prog_name="bridge")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
