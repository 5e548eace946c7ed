"""Parses the URLs of databases."""

import re
from contextlib import suppress

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from bridge.errors import PERCENT_ENCODE, ConfigurationError


def parse(url: str, scheme: str, example: str) -> URL:
    """Parse the URL of a database. Raises `ConfigurationError`.

    Neither the error nor its context quotes the URL: a part of it may be a password.
    """
    parsed = None
    with suppress(SQLAlchemyError, ValueError, TypeError):
        parsed = make_url(url)
    if parsed is None or (parsed.get_backend_name() != "sqlite" and _is_cut_wrongly(url, parsed)):
        raise ConfigurationError(f"not a usable {scheme}:// URL: write it as {example}; {PERCENT_ENCODE}")
    return parsed


def _is_cut_wrongly(url: str, parsed: URL) -> bool:
    """Return whether a part of an unescaped password was parsed as host, database or parameter."""
    return "@" in f"{parsed.host}{parsed.database}" or bool(re.search(r"\?[^@]*=[^@]*@", url))
