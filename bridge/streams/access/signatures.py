"""The signature of a token (JWS, RFC 7515): whether a key made it. PyJWT signs and verifies."""

from functools import cache

# `Any` in this module: PyJWT is imported when the first key is used, because it is an extra.
from typing import Any

from bridge.streams.access.keys import Key


class InvalidToken(Exception):
    """A token does not count: it is malformed, forged, expired, or for somebody else. Never quotes it."""


def sign(payload: bytes, key: Key) -> str:
    """Return a token with `payload`. `key` must have what it needs to sign."""
    token: str = _jws(key.algorithm).encode(payload, key.signing, algorithm=key.algorithm)
    return token


def payload_of(token: str, key: Key) -> bytes | None:
    """Return the payload if `key` signed `token`, else `None`. Raises `InvalidToken` for what is no token.

    The algorithm is that of the key, never that of the token.
    """
    import jwt

    try:
        payload: bytes = _jws(key.algorithm).decode(token, key.verifying, algorithms=[key.algorithm])
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
        return None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidToken("the token is not valid") from None
    return payload


@cache
def _jws(algorithm: str) -> Any:
    """Return what knows this algorithm only. One is enough for a process: to make it takes longer than to
    verify a token.
    """
    import jwt

    return jwt.PyJWS(algorithms=[algorithm])


def key_id_of(token: str) -> str | None:
    """Return the `kid` of a token that nobody has verified, `None` if it has none or is no token."""
    import jwt

    try:
        found = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None
