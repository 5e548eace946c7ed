"""The keys of another issuer: fetched when needed, seldom, and only over a safe connection."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from bridge.errors import ConfigurationError
from bridge.streams.access import jwks
from bridge.streams.access.jwks import KeySet, KeysUnavailable, MustWait, check_jwks_url
from bridge.streams.access.keys import read_keys
from bridge.streams.access.signatures import InvalidToken
from bridge.streams.access.tokens import Tokens
from tests.tokens import AUDIENCE, SECRET, token

P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def public(algorithm: Any, key: Any, key_id: str | None, **members: Any) -> dict[str, Any]:
    found: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, **({"kid": key_id} if key_id is not None else {}), **members}


class Issuer:
    """A server of a JWKS document."""

    def __init__(self) -> None:
        self.keys: list[Any] = [
            public(ECAlgorithm, P256, "ec"),
            public(RSAAlgorithm, RSA, "rsa", alg="RS256", use="sig"),
            public(OKPAlgorithm, ED25519, "ed"),
        ]
        self.status = 200
        self.padding = 0
        self.location = ""
        self.requests: list[str] = []
        self.allowed = threading.Event()
        self.allowed.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                issuer.allowed.wait(10)
                body = json.dumps({"keys": issuer.keys, "padding": "x" * issuer.padding}).encode()
                self.send_response(issuer.status)
                if issuer.location:
                    self.send_header("Location", issuer.location)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/keys"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.allowed.set()
    issuer.server.shutdown()
    issuer.server.server_close()


def tokens(issuer: Issuer) -> Tokens:
    return Tokens((), KeySet(issuer.url), audience=AUDIENCE)


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"), [(P256, "ES256", "ec"), (RSA, "RS256", "rsa"), (ED25519, "EdDSA", "ed")]
)
def test_a_token_of_another_issuer_is_verified(issuer: Issuer, key: Any, algorithm: str, key_id: str) -> None:
    """With each kind of key that it names by `kid`; the keys are fetched once."""
    verifying = tokens(issuer)
    for _ in range(2):
        text = token("a", key=key, algorithm=algorithm, headers={"kid": key_id})
        assert verifying.verify(text).scope.covers("a")
    assert issuer.requests == ["/keys"]


def test_a_token_without_a_key_id_needs_a_set_of_one(issuer: Issuer) -> None:
    """Nobody lets us try all keys of a large set."""
    text = token("a", key=P256, algorithm="ES256")
    with pytest.raises(InvalidToken):
        tokens(issuer).verify(text)
    issuer.keys = [public(ECAlgorithm, P256, None)]
    assert tokens(issuer).verify(text)


def test_own_keys_and_those_of_another_issuer_go_together(issuer: Issuer) -> None:
    """A token of our own fetches nothing."""
    verifying = Tokens(read_keys(SECRET, "KEYS"), KeySet(issuer.url), audience=AUDIENCE)
    assert verifying.verify(token("a"), may_wait=False)
    assert issuer.requests == []
    assert verifying.verify(token("a", key=P256, algorithm="ES256", headers={"kid": "ec"}))


def test_an_unknown_key_is_fetched_but_not_for_each_token(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is sent, one fetch follows another after some seconds only."""
    verifying = tokens(issuer)
    verifying.verify(token("a", key=P256, algorithm="ES256", headers={"kid": "ec"}))
    new = ec.generate_private_key(ec.SECP256R1())
    issuer.keys.append(public(ECAlgorithm, new, "new"))
    text = token("a", key=new, algorithm="ES256", headers={"kid": "new"})
    for number in range(20):
        with pytest.raises(InvalidToken):
            verifying.verify(token("a", key=new, algorithm="ES256", headers={"kid": f"forged-{number}"}))
    with pytest.raises(InvalidToken):
        verifying.verify(text)
    assert len(issuer.requests) == 1
    monkeypatch.setattr(jwks, "FETCH_AT_MOST_EVERY", 0.0)
    assert verifying.verify(text)
    assert len(issuer.requests) == 2


def test_a_withdrawn_key_stops_to_count(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old keys are fetched again, although the one that is asked for is known."""
    verifying = tokens(issuer)
    text = token("a", key=P256, algorithm="ES256", headers={"kid": "ec"})
    assert verifying.verify(text)
    issuer.keys = issuer.keys[1:]
    assert verifying.verify(text)
    monkeypatch.setattr(jwks, "FRESH_FOR", 0.0)
    monkeypatch.setattr(jwks, "FETCH_AT_MOST_EVERY", 0.0)
    with pytest.raises(InvalidToken):
        verifying.verify(text)


def test_keys_count_while_their_issuer_does_not_answer(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For an hour; the log says once that they cannot be fetched, and why."""
    verifying = tokens(issuer)
    text = token("a", key=P256, algorithm="ES256", headers={"kid": "ec"})
    assert verifying.verify(text)
    issuer.status = 500
    monkeypatch.setattr(jwks, "FRESH_FOR", 0.0)
    monkeypatch.setattr(jwks, "FETCH_AT_MOST_EVERY", 0.0)
    for _ in range(2):
        assert verifying.verify(text)
    assert len(issuer.requests) == 3
    assert caplog.text.count("cannot be fetched: HTTP Error 500") == 1
    monkeypatch.setattr(jwks, "KEPT_FOR", 0.0)
    with pytest.raises(KeysUnavailable):
        verifying.verify(text)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("status", 404),
        ("keys", []),
        ("keys", None),
        ("keys", ["no key", {"kty": "EC"}, {"kty": "new"}, {}]),
        ("keys", [{"kty": "oct", "kid": "ec", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]),
        ("keys", [public(ECAlgorithm, P256, "ec", use="enc")]),
        ("keys", [public(ECAlgorithm, P256, "ec", alg="HS256")]),
        ("padding", jwks.LARGEST_DOCUMENT),
    ],
)
def test_a_document_without_public_keys_is_none(
    issuer: Issuer, caplog: pytest.LogCaptureFixture, attribute: str, value: Any
) -> None:
    """Neither is one that is too large, or has secrets for keys."""
    setattr(issuer, attribute, value)
    with pytest.raises(KeysUnavailable):
        tokens(issuer).verify(token("a", key=P256, algorithm="ES256", headers={"kid": "ec"}))
    assert caplog.text.count("cannot be fetched: ") == 1


def test_a_redirect_is_not_followed(issuer: Issuer) -> None:
    """It could lead to a server without encryption."""
    issuer.status, issuer.location = 302, "/elsewhere"
    with pytest.raises(KeysUnavailable):
        tokens(issuer).verify(token("a", key=P256, algorithm="ES256", headers={"kid": "ec"}))
    assert issuer.requests == ["/keys"]


def test_an_event_loop_does_not_wait(issuer: Issuer) -> None:
    """Neither for the issuer nor for a thread that waits for it."""
    verifying = tokens(issuer)
    text = token("a", key=P256, algorithm="ES256", headers={"kid": "ec"})
    with pytest.raises(MustWait):
        verifying.verify(text, may_wait=False)
    assert issuer.requests == []
    issuer.allowed.clear()
    found: list[Any] = []
    waiting = [threading.Thread(target=lambda: found.append(verifying.verify(text))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    deadline = time.monotonic() + 10
    while not issuer.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(MustWait):
        verifying.verify(text, may_wait=False)
    issuer.allowed.set()
    for thread in waiting:
        thread.join(10)
    assert len(found) == 3
    assert issuer.requests == ["/keys"]
    assert verifying.verify(text, may_wait=False)


def test_while_one_thread_fetches_others_go_on(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there are keys, tokens of an unknown one hold no thread but the first."""
    verifying = tokens(issuer)
    assert verifying.verify(token("a", key=P256, algorithm="ES256", headers={"kid": "ec"}))
    monkeypatch.setattr(jwks, "FETCH_AT_MOST_EVERY", 0.0)
    forged = token("a", key=P256, algorithm="ES256", headers={"kid": "forged"})
    issuer.allowed.clear()

    def fetch() -> None:
        with pytest.raises(InvalidToken):
            verifying.verify(forged)

    fetching = threading.Thread(target=fetch)
    fetching.start()
    deadline = time.monotonic() + 10
    while len(issuer.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(InvalidToken):
        verifying.verify(forged)
    assert fetching.is_alive()
    issuer.allowed.set()
    fetching.join(10)


@pytest.mark.parametrize(
    "url", ["https://idp.example/keys", "http://localhost:1/k", "http://[::1]/k", "http://127.0.0.2/"]
)
def test_a_safe_url_is_taken(url: str) -> None:
    """Encrypted, or on this machine."""
    assert check_jwks_url(url, "JWKS_URL") == url


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/keys",
        "file:///etc/passwd",
        "https://",
        "http://[x",
        "",
        7,
        "http://127.0.0.1.example/",
    ],
)
def test_another_url_is_refused(url: Any) -> None:
    """Anyone in between could replace the keys."""
    with pytest.raises(ConfigurationError, match="JWKS_URL must be a URL that begins with https://"):
        check_jwks_url(url, "JWKS_URL")
