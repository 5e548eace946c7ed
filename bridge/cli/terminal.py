"""What all commands share that print on a terminal: a console without markup, and words for figures."""

import sys
import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.cli.text import plain

STYLES = {
    "SUCCESS": "green",
    "FAILURE": "red",
    "REJECTED": "red",
    "REVOKED": "magenta",
    "STALLED": "yellow",
    "RETRY": "yellow",
    "STARTED": "cyan",
}
"""The colours of states."""


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def console() -> Console:
    """Return a console that prints what it gets: no markup, no emoji codes, no highlighting."""
    return Console(file=sys.stdout, markup=False, emoji=False, highlight=False, soft_wrap=True)


def state_text(state: str) -> Text:
    """Return the name of a state in its colour."""
    return Text(plain(state), STYLES.get(state, ""))


def table(*columns: str) -> Table:
    """Return a table without lines around it."""
    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def clock(at: float) -> str:
    """Return the local time of day of `at`, in seconds since the epoch."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):  # anyone may publish any number
        return "--:--:--"


def duration(seconds: float) -> str:
    """Return a number of seconds in words: `0.4 s`, `12 s`, `3:05`, `2:03:05`."""
    if not 0 <= seconds < 1e9:
        return "?"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def number(value: float) -> str:
    """Return a figure without needless digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
