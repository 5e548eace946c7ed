"""Keys and tokens for tests, made without the code that verifies them."""

import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

SECRET = "a secret of tests, with 40 characters ..."
OTHER_SECRET = "another secret, which nobody told anyone"
AUDIENCE = "celery-event-bridge:bridge"


def pem(key: Any, password: bytes | None = None) -> str:
    """Return a private key in PEM."""
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return text.decode()


def public_pem(key: Any) -> str:
    """Return the public key of a private key in PEM."""
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def token(
    *topics: str,
    key: Any = SECRET,
    algorithm: str = "HS256",
    headers: dict[str, Any] | None = None,
    expires: float = 60,
    **claims: Any,
) -> str:
    """Return a token for `topics`, as any issuer of JWTs makes it. A claim that is `None` is left out."""
    given = {
        "aud": AUDIENCE,
        "exp": int(time.time() + expires),
        "sub": "42",
        "jti": "a-token",
        "bridge": {"topics": list(topics)},
        **claims,
    }
    payload = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)
