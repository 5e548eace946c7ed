"""The keys of the settings: which are taken, and that none is ever shown."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bridge.errors import ConfigurationError
from bridge.streams.access.keys import read_keys
from tests.tokens import SECRET, pem, public_pem

P256, ED25519 = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("given", "algorithms"),
    [
        (SECRET, ["HS256"]),
        (SECRET.encode(), ["HS256"]),
        ([SECRET, pem(P256), public_pem(ED25519)], ["HS256", "ES256", "EdDSA"]),
        ((b"\n" + pem(P256).encode(),), ["ES256"]),
    ],
)
def test_a_key_has_the_algorithm_of_its_kind(given: Any, algorithms: list[str]) -> None:
    """A secret and each kind of PEM has one algorithm; one key need not be in a list."""
    keys = read_keys(given, "KEYS")
    assert [key.algorithm for key in keys] == algorithms


def test_a_public_key_only_verifies() -> None:
    """It has nothing to sign with."""
    private, public = read_keys([pem(P256), public_pem(P256)], "KEYS")
    assert private.signing is not None
    assert public.signing is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "KEYS must be a list of keys, not empty"),
        (7, "KEYS must be a list of keys, not int"),
        ([SECRET, 7], r"KEYS\[1\] must be a str or bytes, not int"),
        (["hunter2" * 4], r"KEYS\[0\] must have at least 32 bytes, this one has 28; make one with: python"),
        ([pem(ec.generate_private_key(ec.SECP384R1()))], r"KEYS\[0\] is no key for ES256 \(P-256\)"),
        ([pem(rsa.generate_private_key(65537, 2048))], r"KEYS\[0\] is no key for ES256 \(P-256\) or EdDSA"),
        ([pem(P256, b"a password")], r"KEYS\[0\] is no key in PEM that can be read; give an unencrypted"),
        (["-----BEGIN PRIVATE KEY-----\nhunter2hunter2hunter2"], "no key in PEM that can be read"),
        ([f'{{"kty": "oct", "k": "{"hunter2" * 4}"}}'], r"KEYS\[0\] is a key of a kind that cannot"),
        (["ssh-ed25519 " + "hunter2" * 8], r"KEYS\[0\] is a key of a kind that"),
        (["-----BEGIN CERTIFICATE-----\nhunter2hunter2hunter2"], "no key in PEM that can be read"),
    ],
)
def test_a_bad_key_is_named_and_not_shown(given: Any, says: str) -> None:
    """The error says which key is wrong and what to do, without a part of it."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        read_keys(given, "KEYS")
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "hunter2" not in shown
    assert "-----BEGIN" not in shown


def test_a_key_is_not_in_its_repr() -> None:
    """Keys may stand in logs with all that is around them."""
    assert repr(read_keys(SECRET, "KEYS")) == "(Key(algorithm='HS256'),)"
