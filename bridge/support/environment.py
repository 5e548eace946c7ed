"""The one variable of the environment that the library reads, for an application without a URL of its own."""

import os

URL_VARIABLE = "BRIDGE_URL"
"""The name of the variable."""


def url_of_environment() -> str | None:
    """Return the URL in the variable, or `None` if it is not set or empty."""
    return os.environ.get(URL_VARIABLE) or None
