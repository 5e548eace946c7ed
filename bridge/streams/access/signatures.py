"""The signature of a token (JWS, RFC 7515): whether a key made it. PyJWT signs, and verifies the unusual."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cache

# `Any` in this module: PyJWT is imported when the first key is used, because it is an extra.
from typing import Any

from bridge.streams.access.keys import Key

_USUAL_HEADER = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode() + "."


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
    usual = _payload_of_usual(token, key) if key.algorithm == "HS256" else None
    if usual is not None:
        return usual
    import jwt

    try:
        payload: bytes = _jws(key.algorithm).decode(token, key.verifying, algorithms=[key.algorithm])
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
        return None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidToken("the token is not valid") from None
    return payload


def _payload_of_usual(token: str, key: Key) -> bytes | None:
    """Return the payload of a token with the header that `sign` writes, if `key` signed it, else `None`.

    PyJWT takes several times as long, which is much for each viewer. So this only finds what is surely right,
    by the exact text of the header and of the signature, and PyJWT decides about everything else.
    """
    signed, _, signature = token.rpartition(".")
    if not signed.startswith(_USUAL_HEADER) or not token.isascii():
        return None
    right = urlsafe_b64encode(hmac.digest(key.verifying, signed.encode(), "sha256")).rstrip(b"=")
    if not hmac.compare_digest(right, signature.encode()):
        return None
    try:
        return urlsafe_b64decode(signed.removeprefix(_USUAL_HEADER) + "==")
    except ValueError:
        return None


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
