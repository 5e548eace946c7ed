"""Tokens that are used after they were revoked, in the same process, in another, and after a restart."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import bridge
from bridge.streams.access.authorization import HowToAllow
from bridge.streams.access.revocations import TOPIC
from bridge.streams.limits import Client
from bridge.streams.refusal import Refusal
from bridge.streams.request import StreamRequest
from bridge.streams.service import StreamService
from bridge.streams.settings import read_settings
from bridge.streams.viewer import Viewer
from tests.access_apps import KINDS, serving
from tests.servers import Valkey, eventually
from tests.test_access import bearer, get, stream
from tests.tokens import AUDIENCE, SECRET, token

TASK = bridge.task_topic("t1")
SECONDS = 20

Make = Callable[..., StreamService]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes services of one namespace, as many processes have them."""
    made: list[StreamService] = []
    namespace = uuid.uuid4().hex

    def make(url: str, **options: Any) -> StreamService:
        quickly = {"POLL_INTERVAL": 0.01} if url.startswith("sql+") else {}
        given = {"URL": url, "NAMESPACE": namespace, "TOKEN_KEYS": SECRET, **quickly, **options}
        given["TOKEN_AUDIENCE"] = AUDIENCE
        settings = read_settings(given, prefix="", url_setting="URL")
        made.append(StreamService(settings, how_to_allow=HowToAllow("Set PUBLIC.", "Set CANCEL.")))
        return made[-1]

    yield make
    for service in made:
        service.loop.stop()
        service.channel.close()


def request(text: str | None) -> StreamRequest:
    return StreamRequest("GET", None, "", Client("192.0.2.1"), text and f"Bearer {text}")


def opened(service: StreamService, text: str | None, *topics: str) -> Viewer:
    """Return the viewer of a stream of "news" that a token, or else the settings, allow."""
    asked = request(text)
    permission = service.authorizer.permit(topics or ("news",), asked, None)
    answer = service.answer(topics or ("news",), asked, permission)
    assert answer.opening is not None
    viewer = answer.opening.open()
    assert viewer is not None
    return viewer


def established(viewer: Viewer) -> Viewer:
    assert viewer.wait_established(SECONDS)
    return viewer


def rest(viewer: Viewer) -> bytes:
    """Return what a stream has until it ends."""
    data, deadline = b"", time.monotonic() + SECONDS
    while not (viewer.finished and not viewer.backlog):
        assert time.monotonic() < deadline, data
        data += viewer.take(0.1)
    return data


def is_revoked(service: StreamService, text: str, *topics: str) -> bool:
    """Whether a token is refused as revoked."""
    try:
        service.authorizer.permit(topics or ("news",), request(text), None)
    except Refusal as refusal:
        return (refusal.status, refusal.detail) == (401, "the token has been revoked")
    return False


def refused_later(make: Make, url: str, text: str) -> bool:
    """Whether a process that starts now refuses a token."""
    return is_revoked(make(url), text)


def made(service: StreamService, subject: str, *topics: str) -> str:
    return service.authorizer.make_token(topics or ("news",), subject=subject, may=("read", "cancel"))


def id_of(text: str) -> str:
    import jwt

    token_id: str = jwt.decode(text, options={"verify_signature": False})["jti"]
    return token_id


@pytest.mark.parametrize("kind", KINDS)
def test_a_revoked_token_in_the_same_process(kind: str) -> None:
    """Its stream ends, it is refused everywhere, and a new token of its subject counts."""
    with serving(kind, token_keys=SECRET) as served:
        sent = bearer(served.token("news", TASK, subject="42", may=("read", "cancel")))
        other = bearer(served.token("news", subject="43"))
        with stream(served, "news", sent) as ended, stream(served, "news", other) as going_on:
            served.revoke(subject="42")
            text = "\n".join(ended)
            assert "event: expired" in text
            assert '"reason":"revoked"' in text
            assert "id: " not in text
            served.channel.topic("news").publish(b"still here")
            assert any(line == "data: still here" for line in going_on)
        for path in ("stream?topic=news", "stream?topic=task:t1", "task/t1", "cancel/t1"):
            answer = get(served, path, sent)
            is_view = kind.startswith("django") and path == "task/t1"  # Django itself knows no 401
            assert answer.status_code == (403 if is_view else 401)
            assert is_view or 'error="invalid_token"' in answer.headers["www-authenticate"]
        again = bearer(served.token("news", subject="42"))
        assert get(served, "stream?topic=news", again).status_code == 200


def test_a_revoked_token_in_another_process(url: str, make: Make) -> None:
    """On every backend: its streams end there, and one that starts later refuses it at once."""
    one = make(url)
    other = make(url)
    texts = {kind: made(one, f"user of {kind}", "news", kind) for kind in ("subject", "token_id", "topic")}
    viewers = {kind: established(opened(other, text, kind)) for kind, text in texts.items()}
    going_on = established(opened(other, made(one, "another user")))
    one.revoke(subject="user of subject")
    one.revoke(token_id=id_of(texts["token_id"]))
    one.revoke(topic="topic")
    for viewer in viewers.values():
        assert b'"reason":"revoked"' in rest(viewer)
    later = make(url)
    for service in (one, other, later):
        for kind, text in texts.items():
            assert is_revoked(service, text, kind)
        assert not is_revoked(service, made(one, "user of subject"))
        assert not is_revoked(service, texts["topic"], "news")
    assert not going_on.finished


def test_a_revoked_token_after_a_restart_of_the_backend(make: Make) -> None:
    """With its data a server keeps revocations, and without them a process that knows them restores them."""
    for server in (Valkey.durable(), Valkey()):
        server.start()
        try:
            url = server.url("redis")
            knows = make(url)
            text = made(knows, f"user of {server.port}")
            established(opened(knows, made(knows, "another user")))
            knows.revoke(subject=f"user of {server.port}")
            server.kill()
            server.start()
            assert is_revoked(knows, text)
            eventually(partial(refused_later, make, url, text), SECONDS)
        finally:
            server.stop()


def test_a_revoked_token_while_the_backend_is_away(make: Make) -> None:
    """A stream opens and waits, is ended once the process knows, and nothing is cancelled meanwhile."""
    server = Valkey.durable().start()
    try:
        url = server.url("redis")
        knows = make(url)
        text = made(knows, "42", "news", TASK)
        knows.revoke(subject="42")
        server.kill()
        later = make(url)
        viewer = opened(later, text)
        claims = later.authorizer.claims(request(text))
        with pytest.raises(Refusal) as caught:
            later.authorizer.check_cancel("t1", claims, None)
        assert caught.value.status == 503
        with pytest.raises(bridge.ConnectionLost):
            later.task("t1")
        server.start()
        assert b'"reason":"revoked"' in rest(viewer)
        assert is_revoked(later, text)
    finally:
        server.stop()


def test_a_revoked_token_while_only_the_revocations_are_missing(make: Make) -> None:
    """The backend answers, but not what was revoked: no snapshot is shown, and nothing is cancelled."""
    service = make(f"memory://{uuid.uuid4().hex}")
    claims = service.authorizer.claims(request(made(service, "42", TASK)))
    service.authorizer.check_cancel("t1", claims, None)
    assert (service.task("t1"), service.tasks(10)) == (None, [])
    service._revocations.fail(bridge.ConnectionLost("the reader was closed"))
    for ask in (lambda: service.task("t1"), lambda: service.tasks(10)):
        with pytest.raises(bridge.ConnectionLost, match="which tokens are revoked"):
            ask()
    with pytest.raises(Refusal) as caught:
        service.authorizer.check_cancel("t1", claims, None)
    assert caught.value.status == 503


def test_a_token_that_is_revoked_while_its_stream_opens(make: Make) -> None:
    """The request is decided, and the revocation arrives before there is a viewer that it could end."""
    service = make(f"memory://{uuid.uuid4().hex}")
    text = made(service, "42")
    permission = service.authorizer.permit(("news",), request(text), None)
    answer = service.answer(("news",), request(text), permission)
    assert answer.opening is not None
    service.revoke(subject="42")
    viewer = answer.opening.open()
    assert viewer is not None
    assert b'"reason":"revoked"' in rest(viewer)


def test_a_stream_that_the_function_allowed(make: Make) -> None:
    """It ends when its topic is revoked. The function decides whether it opens again."""
    service = make(f"memory://{uuid.uuid4().hex}", PUBLIC=True)
    viewer, other = established(opened(service, None)), established(opened(service, None, "other"))
    service.revoke(topic="news")
    assert b'"reason":"revoked"' in rest(viewer)
    assert not other.finished
    again = established(opened(service, None))
    service.channel.topic("news").publish(b"hello")
    assert b"hello" in again.take(SECONDS)


def test_a_token_of_another_issuer(make: Make) -> None:
    """Whole seconds, and no time at all, count as before the revocation; so does no life beyond the limit."""
    service = make(f"memory://{uuid.uuid4().hex}", TOKEN_MAX_SECONDS=600)
    service.revoke(subject="42")
    now = int(time.time())
    assert is_revoked(service, token("news", iat=now))
    assert is_revoked(service, token("news"))
    assert not is_revoked(service, token("news", iat=now + 2))
    for text in (
        token("news", sub="43", iat=now - 700, expires=10**9),
        token("news", sub="43", expires=10**9),
        token("news", sub="43", iat=now + 10**6),
    ):
        with pytest.raises(Refusal) as caught:
            service.authorizer.claims(request(text))
        assert caught.value.status == 401
    claims_of = service.authorizer.claims(request(token("news", sub="43", iat=now - 300, expires=10**9)))
    assert claims_of is not None
    assert claims_of.expires_at == now + 300


def test_revocations_cannot_be_forged_or_read(make: Make) -> None:
    """No view of a channel has their topic, and no stream shows it, whatever a token covers."""
    service = make(f"memory://{uuid.uuid4().hex}", PUBLIC=True)
    with pytest.raises(ValueError, match="control characters"):
        service.channel.topic(TOPIC)
    for text in (None, token(TOPIC), token(bridge={"prefixes": ["\x1f"]})):
        with pytest.raises(Refusal) as caught:
            service.authorizer.permit((TOPIC,), request(text), None)
        assert caught.value.status == 404
    subject = "a subject that is a secret"
    service.revoke(subject=subject)
    assert subject not in json.dumps(str(service._transport.states(TOPIC)))
