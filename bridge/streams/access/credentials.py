"""Finds the token in a request: in the `Authorization` header, a cookie, or the query. Pure functions."""

from urllib.parse import parse_qs

DEFAULT_COOKIE = "__Host-bridge_token"

_SCHEME = "bearer"


def find_token(
    *, authorization: str | None, cookies: str | None, query: str, cookie: str, in_query: bool
) -> str | None:
    """Return the token of a request, or `None`. It is not verified, and may be empty.

    `authorization` and `cookies` are the headers of those names, `query` the part of the URL after `?`, and
    `cookie` the name of the cookie. Other schemes than `Bearer` carry no token. The query counts only with
    `in_query`.
    """
    if authorization is not None:
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() == _SCHEME:
            return token.strip()
    if cookies is not None and cookie in cookies:
        token_of_cookie = _cookie(cookies, cookie)
        if token_of_cookie is not None:
            return token_of_cookie
    if in_query and "token=" in query:
        return parse_qs(query, keep_blank_values=True).get("token", [None])[0]
    return None


def has_token_in_query(query: str) -> bool:
    """Return whether a query has what looks like a token: other parameters may have the same name."""
    return "token=" in query and any(text.count(".") == 2 for text in parse_qs(query).get("token", ()))


def _cookie(header: str, name: str) -> str | None:
    """Return the value of a cookie. A cookie of that name may be sent twice: then the first counts."""
    for pair in header.split(";"):
        key, equals, value = pair.partition("=")
        if equals and key.strip() == name:
            return value.strip().strip('"')
    return None
