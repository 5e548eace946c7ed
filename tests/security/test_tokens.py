"""Attacks with tokens: each is refused, and each test fails if its defence is removed."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm

import bridge
from bridge.streams.access.keys import read_keys
from bridge.streams.access.signatures import InvalidToken
from bridge.streams.access.tokens import Tokens
from bridge.tasks.events import tag_topic
from tests.access_apps import FRAMEWORKS, Served, serving
from tests.test_access import bearer, get
from tests.tokens import AUDIENCE, OTHER_SECRET, SECRET, public_pem, token

P256, ED25519 = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
TASK = bridge.task_topic("t1")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """An application that verifies by a secret and by the public keys of another issuer."""
    keys = [SECRET, public_pem(P256), public_pem(ED25519)]
    with serving("flask", token_keys=keys, token_in_query=True) as served:
        yield served


def status(served: Served, text: str, path: str = "stream?topic=news") -> int:
    return get(served, path, bearer(text)).status_code


def encoded(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def crafted(header: dict[str, Any], payload: dict[str, Any], secret: bytes | None = None) -> str:
    """Return a token that no library makes, signed with HMAC if there is a secret."""
    signed = encoded(header) + b"." + encoded(payload)
    signature = b"" if secret is None else hmac.digest(secret, signed, hashlib.sha256)
    return (signed + b"." + encoded(signature)).decode()


def payload(**claims: Any) -> dict[str, Any]:
    return {"aud": AUDIENCE, "exp": int(time.time()) + 60, "bridge": {"topics": ["news"]}, **claims}


def test_the_tokens_of_these_tests_count_if_nothing_is_wrong(served: Served) -> None:
    """Otherwise the tests below would hold nothing."""
    good = crafted({"alg": "HS256"}, payload(), SECRET.encode())
    assert status(served, good) == 200
    assert status(served, token("news", key=P256, algorithm="ES256")) == 200
    assert status(served, token("news", key=ED25519, algorithm="EdDSA")) == 200
    assert get(served, f"stream?topic=news&token={good}").status_code == 200


def test_a_forged_token(served: Served) -> None:
    """Signed with another key, or with the signature of another token."""
    header, claims, signature = token("news").split(".")
    other = token("news", "secrets").split(".")
    for forged in (
        token("news", key=OTHER_SECRET),
        token("news", key=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"),
        f"{header}.{other[1]}.{signature}",
        f"{header}.{claims}.",
        f"{header}.{claims}",
        f"{header}.{claims}.{signature[:-4]}AAAA",
    ):
        assert status(served, forged) == 401


def test_an_expired_token(served: Served) -> None:
    """To the second, whoever signed it; so is one without an end."""
    assert status(served, token("news", expires=0)) == 401
    assert status(served, token("news", expires=-1, key=P256, algorithm="ES256")) == 401
    assert status(served, token("news", exp=None)) == 401


def test_a_token_that_is_not_valid_yet(served: Served) -> None:
    """Its issuer said from when on it counts."""
    assert status(served, token("news", nbf=int(time.time()) + 60)) == 401


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None])
def test_a_token_without_a_signature(served: Served, algorithm: str | None) -> None:
    """The algorithm is that of the key, and none has none."""
    assert status(served, crafted({"alg": algorithm, "typ": "JWT"}, payload())) == 401
    assert status(served, crafted({"typ": "JWT"}, payload())) == 401


def test_a_public_key_as_a_secret(served: Served) -> None:
    """Everyone knows it: it verifies by its own algorithm only."""
    for key in (P256, ED25519):
        for text in (public_pem(key), public_pem(key).strip()):
            assert status(served, crafted({"alg": "HS256"}, payload(), text.encode())) == 401


def test_a_key_in_the_token(served: Served) -> None:
    """The keys are those of the settings, whatever the header of a token brings or names."""
    own = ec.generate_private_key(ec.SECP256R1())
    key = ECAlgorithm.to_jwk(own.public_key(), as_dict=True)
    for headers in (
        {"jwk": key},
        {"jku": "http://127.0.0.1:1/"},
        {"x5u": "http://127.0.0.1:1/"},
        {"kid": "../x"},
    ):
        assert status(served, token("news", key=own, algorithm="ES256", headers=headers)) == 401


def test_a_token_of_another_audience(served: Served) -> None:
    """Another application or another namespace may have the same keys."""
    wrong: list[Any] = ["celery-event-bridge:other", "celery-event-bridge", f"{AUDIENCE}2", [], None]
    for audience in wrong:
        assert status(served, token("news", aud=audience)) == 401
    assert status(served, token("news", aud=["other", AUDIENCE])) == 200


def test_a_token_of_another_topic(served: Served) -> None:
    """A token is for what it names: neither for more, nor for another right, nor for the list of all."""
    for topics in ("other", "new", "news2", "NEWS", "task:t1"):
        assert status(served, token(topics)) == 403
    both = "stream?topic=news&topic=secrets"
    assert get(served, both, bearer(token("news"))).status_code == 403
    assert status(served, token(bridge={"prefixes": [TASK]}), "task/t2") == 403
    assert status(served, token(bridge={"prefixes": [""]})) == 401
    assert status(served, token(bridge={"topics": ["news"], "may": ["cancel"]})) == 403
    assert status(served, token(TASK), "cancel/t1") == 403


def test_a_tag_of_another_tenant(served: Served) -> None:
    """A token for the feed of one tag shows neither that of another tag, nor the feed of all, nor a task."""
    mine = token(bridge={"tags": ["tenant:7"]})
    assert status(served, mine, f"stream?topic={bridge.task_topic('x')}&topic={tag_topic('tenant:7')}") == 403
    assert status(served, mine, f"stream?topic={tag_topic('tenant:7')}") == 200
    for name in ("tenant:8", "tenant:77", "tenant:", "TENANT:7", "*"):
        assert status(served, mine, f"stream?topic={tag_topic(name)}") == 403
        assert status(served, mine, f"stream?topic={tag_topic('tenant:7')}&topic={tag_topic(name)}") == 403
    for topic in ("tenant:7", bridge.FEED, TASK):
        assert status(served, mine, f"stream?topic={topic}") == 403


def test_a_token_that_is_not_the_last_word(served: Served) -> None:
    """A second one, in another place, does not replace one that is refused."""
    good, bad = token("news"), token("news", key=OTHER_SECRET)
    sent = {**bearer(bad), "Cookie": f"__Host-bridge_token={good}"}
    assert get(served, f"stream?topic=news&token={good}", sent).status_code == 401
    sent = {"Cookie": f"__Host-bridge_token={bad}"}
    assert get(served, f"stream?topic=news&token={good}", sent).status_code == 401


@pytest.mark.parametrize(
    "text",
    [
        "x" * 7000,
        "." * 7000,
        encoded(b"[" * 4000).decode() + ".e30.AA",
        "e30." + encoded(b'{"a":' * 1000).decode() + ".AA",
        encoded({"alg": "HS256", "crit": ["b64"], "b64": False}).decode() + "..AA",
        "a.b.c.d",
    ],
)
def test_a_token_that_breaks_a_parser(served: Served, text: str) -> None:
    """It is refused like any other, and costs no more than its length."""
    assert status(served, text) == 401


@pytest.mark.parametrize("kind", FRAMEWORKS)
def test_no_token_is_in_a_log_or_an_answer(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is valid or not, and whatever is asked with it."""
    caplog.set_level("DEBUG")
    texts: list[str] = []
    tokens = [token("news"), token("news", key=OTHER_SECRET), token("other"), token("news", expires=-5)]
    with serving(kind, token_keys=SECRET, max_viewers_per_key=1) as served:
        for text in tokens:
            for path, headers in (
                ("stream?topic=news", bearer(text)),
                ("stream?topic=news", {"Cookie": f"__Host-bridge_token={text}"}),
                ("task/t1", bearer(text)),
                ("cancel/t1", bearer(text)),
            ):
                answer = get(served, path, headers)
                texts += [str(answer.headers), answer.text if answer.is_stream_consumed else ""]
    shown = caplog.text + "".join(texts)
    assert "invalid_token" in shown
    for text in tokens:
        assert text.split(".")[2] not in shown
    assert SECRET not in shown


def test_the_error_of_a_token_names_no_part_of_it() -> None:
    """Neither itself nor what it was raised from: error trackers show both."""
    tokens = Tokens(read_keys(SECRET, "KEYS"), None, audience=AUDIENCE)
    for text in (token("news", key=OTHER_SECRET), token("news", expires=-1), "secret.secret.secret"):
        with pytest.raises(InvalidToken) as caught:
            tokens.verify(text)
        error: BaseException | None = caught.value
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        while error is not None:
            assert not any(part in str(error) for part in text.split("."))
            error = error.__cause__
    assert SECRET not in repr(tokens) + repr(vars(tokens))
