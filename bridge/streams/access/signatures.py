"""The signature of a token (JWS, RFC 7515): whether a key made it.

A token with a secret is verified with the standard library, which takes a quarter of the time that PyJWT
takes, because each stream that opens pays for it. PyJWT verifies all others, and signs.
"""

import base64
import hmac
import json

from bridge.streams.access.keys import Key


class InvalidToken(Exception):
    """A token does not count: it is malformed, forged, expired, or for somebody else. Never quotes it."""


def sign(payload: bytes, key: Key) -> str:
    """Return a token with `payload`. `key` must have what it needs to sign."""
    import jwt

    token: str = jwt.PyJWS().encode(payload, key.signing, algorithm=key.algorithm)
    return token


def payload_of(token: str, key: Key) -> bytes | None:
    """Return the payload if `key` signed `token`, else `None`. Raises `InvalidToken` for what is no token.

    The algorithm is that of the key, never that of the token.
    """
    if key.algorithm == "HS256":
        return _payload_by_secret(token, key.verifying)
    import jwt

    try:
        signed = jwt.PyJWS().decode_complete(token, key.verifying, algorithms=[key.algorithm])
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
        return None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidToken("the token is not valid") from None
    payload: bytes = signed["payload"]
    return payload


def _payload_by_secret(token: str, secret: bytes) -> bytes | None:
    signed, _, signature = token.rpartition(".")
    try:
        digest = hmac.digest(secret, signed.encode("ascii"), "sha256")
        expected = base64.urlsafe_b64encode(digest).rstrip(b"=")
        # Nothing of a token is parsed before its signature is right.
        if not hmac.compare_digest(expected, signature.encode("ascii")):
            return None
        header_text, _, payload = signed.partition(".")
        header = json.loads(_decoded(header_text))
        # A secret may sign for other programs too. `crit` names what a reader must understand.
        if not isinstance(header, dict) or header.get("alg") != "HS256" or "crit" in header:
            return None
        return _decoded(payload)
    except (ValueError, RecursionError):
        raise InvalidToken("the token is not valid") from None


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_id_of(token: str) -> str | None:
    """Return the `kid` of a token that nobody has verified, `None` if it has none or is no token."""
    import jwt

    try:
        found = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None
