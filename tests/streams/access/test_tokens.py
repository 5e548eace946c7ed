"""Tokens: what is signed, what is accepted, and what is not."""

import time
from base64 import urlsafe_b64decode
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

import bridge
from bridge.errors import ConfigurationError
from bridge.streams.access import tokens as tokens_module
from bridge.streams.access.keys import read_keys
from bridge.streams.access.signatures import InvalidToken, payload_of
from bridge.streams.access.tokens import (
    KEPT,
    LONGEST_TOKEN,
    Claims,
    Scope,
    Tokens,
    make_scope,
)
from bridge.tasks.events import tag_topic
from tests.tokens import AUDIENCE, OTHER_SECRET, SECRET, pem, public_pem, token

P256, ED25519 = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
TASK = bridge.task_topic("t1")


def tokens(*keys: str, issuer: str | None = None) -> Tokens:
    return Tokens(read_keys(keys or (SECRET,), "KEYS"), None, audience=AUDIENCE, issuer=issuer)


def invalid(text: str, by: Tokens | None = None) -> str:
    """Return why a token is not accepted."""
    with pytest.raises(InvalidToken) as caught:
        (by or tokens()).verify(text)
    return str(caught.value)


@pytest.mark.parametrize("key", [SECRET, pem(P256), pem(ED25519)], ids=["HS256", "ES256", "EdDSA"])
def test_a_token_says_what_it_was_made_for(key: str) -> None:
    """With each kind of key, the claims are those of the arguments."""
    made = tokens(key)
    scope = make_scope(["orders", TASK], "task:", ["user:42", "all"], ("read", "cancel"))
    before = int(time.time())
    claims = made.verify(made.sign(scope, expires=900, subject="42"))
    assert claims.scope == scope
    assert claims.subject == "42"
    assert len(claims.token_id) >= 16
    assert before + 900 <= claims.expires_at <= time.time() + 901


def test_the_claims_are_the_standard_ones() -> None:
    """Other programs may read them; what is not given is left out."""
    made = tokens(issuer="us")
    text = made.sign(make_scope([TASK], None, None, "read"), expires=1.5, subject=None)
    payload = jwt.decode(text, SECRET, algorithms=["HS256"], audience=AUDIENCE)
    assert set(payload) == {"iss", "aud", "exp", "iat", "jti", "bridge"}
    assert (payload["iss"], payload["aud"]) == ("us", AUDIENCE)
    assert payload["bridge"] == {"topics": [TASK], "may": ["read"]}
    assert 1.5 <= payload["exp"] - payload["iat"] < 3


@pytest.mark.parametrize(
    ("covered", "topic", "expected"),
    [
        ({"topics": ["orders"]}, "orders", True),
        ({"topics": ["orders"]}, "orders2", False),
        ({"prefixes": ["task:"]}, TASK, True),
        ({"prefixes": ["task:"]}, "tasks", False),
        ({"tags": ["user:42"]}, tag_topic("user:42"), True),
        ({"tags": ["user:42"]}, tag_topic("user:421"), False),
        ({"tags": ["user:42"]}, "user:42", False),
        ({}, "orders", False),
    ],
)
def test_a_scope_covers_topics_prefixes_and_the_feeds_of_tags(
    covered: dict[str, Any], topic: str, expected: bool
) -> None:
    """Whole names, beginnings, and feeds; nothing else."""
    assert tokens().verify(token(bridge=covered)).scope.covers(topic) is expected


def test_a_token_of_another_issuer_needs_no_more_than_aud_exp_and_bridge() -> None:
    """Without `sub`, `jti` and `may` it is for reading, and belongs to nobody."""
    text = token("orders", sub=None, jti=None)
    claims = tokens().verify(text)
    assert claims == Claims(Scope(frozenset(["orders"])), "", "", claims.expires_at, 0)


def test_every_key_verifies_and_the_first_signs() -> None:
    """Keys are rotated by putting the new one first; without the old one its tokens end."""
    old, new = tokens(OTHER_SECRET), tokens(SECRET, OTHER_SECRET)
    scope = make_scope(["orders"], None, None, "read")
    assert new.verify(old.sign(scope, expires=60, subject=None)).scope == scope
    assert invalid(new.sign(scope, expires=60, subject=None), old) == "the token is not valid"
    assert invalid(token("orders", key=OTHER_SECRET)) == "the token is not valid"


def test_a_public_key_verifies_and_does_not_sign() -> None:
    """The error says what to do."""
    both = tokens(public_pem(ED25519), SECRET)
    assert both.verify(token("a", key=ED25519, algorithm="EdDSA")).scope.covers("a")
    with pytest.raises(ConfigurationError, match="is public and can only verify"):
        both.sign(make_scope(["a"], None, None, "read"), expires=1, subject=None)
    without_keys = Tokens((), None, audience=AUDIENCE)
    with pytest.raises(ConfigurationError, match="first key of BRIDGE_TOKEN_KEYS; set it"):
        without_keys.sign(make_scope(["a"], None, None, "read"), expires=1, subject=None)


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"expires": -1}, "the token has expired"),
        ({"exp": None}, "the token is not valid"),
        ({"exp": "soon"}, "the token is not valid"),
        ({"exp": 2**2000}, "the token is not valid"),
        ({"exp": float("inf")}, "the token is not valid"),
        ({"nbf": int(time.time()) + 86_400}, "the token is not valid"),
        ({"exp": True}, "the token is not valid"),
        ({"exp": float("nan")}, "the token is not valid"),
        ({"nbf": "soon"}, "the token is not valid"),
        ({"aud": None}, "the token is for another audience"),
        ({"aud": "celery-event-bridge:other"}, "the token is for another audience"),
        ({"aud": {AUDIENCE: 1}}, "the token is for another audience"),
        ({"sub": 42}, "the claims 'sub' and 'jti' must be text"),
        ({"jti": 42}, "the claims 'sub' and 'jti' must be text"),
        ({"bridge": None}, "the token has no claim 'bridge', an object that says what it allows"),
        ({"bridge": ["orders"]}, "the token has no claim 'bridge', an object that says what it allows"),
        ({"bridge": {"topics": "orders"}}, "in the claim 'bridge', 'topics' must be a list of names"),
        ({"bridge": {"prefixes": [""]}}, "in the claim 'bridge', 'prefixes' must be a list of names"),
        ({"bridge": {"tags": [7]}}, "in the claim 'bridge', 'tags' must be a list of names"),
        ({"bridge": {"may": "read"}}, "in the claim 'bridge', 'may' must be a list of names"),
    ],
)
def test_a_token_with_wrong_claims_is_not_valid(claims: dict[str, Any], says: str) -> None:
    """Whoever signed it."""
    assert invalid(token("orders", **claims)) == says


def test_an_issuer_that_is_set_is_demanded() -> None:
    """A token of another issuer, or of none, does not count, although a key verifies it."""
    made = tokens(issuer="us")
    assert made.verify(token("a", iss="us"))
    for issuer in ("them", None):
        assert invalid(token("a", iss=issuer), made) == "the token is of another issuer"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "é.è.ü",
        "\udcff",
        "e30.e30.e30",
        "W10.e30.AA",
        "[" * 9000,
        "null",
        token("a") + ".",
    ],
)
def test_what_is_no_token_is_not_valid(text: str) -> None:
    """Whatever the text, the answer is a refusal and no error."""
    assert invalid(text) in ("the token is not valid", "the token is too long")


def test_a_token_that_was_verified_before_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that comes again is remembered, not decoded again, and counts no longer for it."""
    made, text, now = tokens(), token("a", expires=60), [time.time()]
    monkeypatch.setattr(tokens_module, "time", SimpleNamespace(time=lambda: now[0]))
    first = made.verify(text)
    assert made.verify(text) is first
    assert invalid(text[:-2] + ("A" if text[-2] != "A" else "B") + text[-1], made) == "the token is not valid"
    now[0] += 61
    assert invalid(text, made) == "the token has expired"


def test_few_and_small_tokens_are_remembered() -> None:
    """Whatever many clients send, their tokens take a bounded number of bytes."""
    made = tokens()
    for number in range(KEPT + 10):
        made.verify(token("a", jti=str(number)))
    large = token(*(f"topic {number}" for number in range(100)))
    assert made.verify(large) is not made.verify(large)
    assert len(made._verified) == KEPT


@pytest.mark.parametrize("headers", [None, {"typ": "at+jwt"}, {"kid": "1"}])
def test_a_secret_verifies_tokens_with_any_header(headers: dict[str, Any] | None) -> None:
    """Whatever the header says beside the algorithm, a wrong secret or signature is never right."""
    text = token("a", headers=headers)
    assert payload_of(text, read_keys(SECRET, "KEYS")[0]) == _payload(text)
    assert payload_of(text, read_keys(OTHER_SECRET, "KEYS")[0]) is None
    signed = text.rpartition(".")[0]
    for signature in ("", "A" * 43, "é" * 43):
        assert invalid(f"{signed}.{signature}") == "the token is not valid"
    head, _, rest = text.partition(".")
    assert (
        invalid(f"{head}.A{rest[1:]}" if rest[0] != "A" else f"{head}.B{rest[1:]}")
        == "the token is not valid"
    )


def _payload(text: str) -> bytes:
    part = text.split(".")[1]
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_long_token_is_refused_before_it_is_parsed() -> None:
    """Neither is one made."""
    topics = [f"topic-{number}" for number in range(1000)]
    assert invalid(token(*topics)) == "the token is too long"
    with pytest.raises(ValueError, match=f"and {LONGEST_TOKEN} are allowed; name a prefix or a tag"):
        tokens().sign(make_scope(topics, None, None, "read"), expires=60, subject=None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (((), None, None, "read"), "at least one topic, prefix or tag"),
        ((["a\nb"], None, None, "read"), "a topic must not contain control characters"),
        ((["a"], "", None, "read"), "a prefix must have 1 to 255 characters"),
        ((["a"], None, ["t", ""], "read"), "a tag must have 1 to 255 characters"),
        ((["a"], None, None, ()), "may must be some of"),
        ((["a"], None, None, ("read", "write")), "may must be some of"),
    ],
)
def test_a_bad_scope_is_refused(arguments: tuple[Any, ...], says: str) -> None:
    """An empty prefix, which would cover everything, is refused too."""
    with pytest.raises(ValueError, match=says):
        make_scope(*arguments)


@pytest.mark.parametrize("expires", [0, -1, "15", True, float("inf"), None])
def test_a_token_is_for_a_number_of_seconds(expires: Any) -> None:
    """A token without an end is not made."""
    with pytest.raises(ValueError, match="expires must be"):
        tokens().sign(make_scope(["a"], None, None, "read"), expires=expires, subject=None)
    with pytest.raises(ValueError, match="a subject must be"):
        tokens().sign(make_scope(["a"], None, None, "read"), expires=60, subject=42)  # type: ignore[arg-type]  # wrong on purpose


def test_no_token_is_made_for_longer_than_a_token_may_count() -> None:
    """The error names the limit; a token for exactly as long counts to its end."""
    made = Tokens(read_keys(SECRET, "KEYS"), None, audience=AUDIENCE, lifetime=600)
    scope = make_scope([TASK], None, None, "read")
    with pytest.raises(ValueError, match=r"at most 600 seconds \(BRIDGE_TOKEN_MAX_SECONDS\), not 601"):
        made.sign(scope, expires=601, subject=None)
    assert made.verify(made.sign(scope, expires=600, subject=None)).expires_at > time.time() + 590
