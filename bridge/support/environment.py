"""The variables of the environment that the library reads, for what has no configuration of its own."""

import os

URL_VARIABLE = "BRIDGE_URL"
"""The URL of the channel, for an application that does not name one."""

TOKEN_KEY_VARIABLE = "BRIDGE_TOKEN_KEY"  # noqa: S105
"""The key that `bridge token` signs with."""


def read_variable(name: str) -> str | None:
    """Return the value of a variable, or `None` if it is not set or empty."""
    return os.environ.get(name) or None
