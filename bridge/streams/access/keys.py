"""The keys of `BRIDGE_TOKEN_KEYS`: each has one algorithm, whatever a token says."""

from collections.abc import Iterable
from dataclasses import dataclass, field

# `Any` in this module: an option may have any value until it is checked, and a key is of cryptography.
from typing import Any

from bridge.errors import ConfigurationError, needs_extra

SHORTEST_SECRET = 32
"""Bytes of a secret: as many as HS256 has in its result (RFC 7518, section 3.2)."""

_PEM = b"-----BEGIN"


@dataclass(frozen=True, slots=True)
class Key:
    """A key and its algorithm. Its repr does not show the key."""

    algorithm: str
    """HS256, ES256 or EdDSA. The key of another issuer may have another asymmetric one."""
    verifying: Any = field(repr=False)
    signing: Any = field(default=None, repr=False)
    """`None` for a public key."""


def read_keys(given: object, name: str) -> tuple[Key, ...]:
    """Return the keys of the option `name`: secrets, and keys in PEM. One key need not be in a list.

    Raises `ConfigurationError`. No message contains a key.
    """
    if isinstance(given, str | bytes):
        given = [given]
    if not isinstance(given, Iterable) or not (keys := list(given)):
        raise ConfigurationError(f"{name} must be a list of keys, not {_kind(given)}")
    with needs_extra(name, "tokens"):
        import jwt  # noqa: F401
        from cryptography.hazmat.primitives import serialization  # noqa: F401
    return tuple(_read_key(key, f"{name}[{place}]") for place, key in enumerate(keys))


def _kind(value: object) -> str:
    return "empty" if isinstance(value, Iterable) else type(value).__name__


def _read_key(given: object, name: str) -> Key:
    if not isinstance(given, str | bytes):
        raise ConfigurationError(f"{name} must be a str or bytes, not {type(given).__name__}")
    data = given.encode() if isinstance(given, str) else given
    if data.lstrip().startswith(_PEM):
        return _read_pem(data.lstrip(), name)
    if len(data) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"{name} must have at least {SHORTEST_SECRET} bytes, this one has {len(data)}; make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return _read_secret(data, name)


def _read_secret(data: bytes, name: str) -> Key:
    import jwt

    try:
        jwt.PyJWS(algorithms=["HS256"]).encode(b"", data, algorithm="HS256")
    except jwt.PyJWTError:  # what everyone may know must never sign
        raise ConfigurationError(
            f"{name} is a key of a kind that cannot be a secret, such as a JWK or a key of SSH; "
            "give a secret, or a key in PEM"
        ) from None
    return Key("HS256", data, data)


def _read_pem(data: bytes, name: str) -> Key:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    private = None
    try:
        if b"PRIVATE KEY-----" in data:
            private = load_pem_private_key(data, None)
        public = load_pem_public_key(data) if private is None else private.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):  # a message of cryptography may quote the key
        raise ConfigurationError(
            f"{name} is no key in PEM that can be read; give an unencrypted private key or a public key, "
            "for ES256 (P-256) or EdDSA (Ed25519)"
        ) from None
    return Key(_algorithm(public, name), public, private)


def _algorithm(public: Any, name: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(public, ed25519.Ed25519PublicKey):
        return "EdDSA"
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return "ES256"
    raise ConfigurationError(f"{name} is no key for ES256 (P-256) or EdDSA (Ed25519)")
