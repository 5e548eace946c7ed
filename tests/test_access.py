"""Who may see what, in Flask, ASGI and Django alike: under real servers, with and without a takeover."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

import bridge
from tests.access_apps import FRAMEWORKS, KINDS, Forbidden, MayRead, Served, serving
from tests.tokens import OTHER_SECRET, SECRET, token

SECONDS = 20
TASK = bridge.task_topic("t1")
every = pytest.mark.parametrize("kind", KINDS)
frameworks = pytest.mark.parametrize("kind", FRAMEWORKS)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop ticks often."""
    monkeypatch.setattr("bridge.streams.loop.TICK", 0.05)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def get(served: Served, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Return the answer, without its body if it is a stream."""
    with (
        httpx.Client(trust_env=False, timeout=SECONDS) as client,
        client.stream("GET", f"{served.address}/{path}", headers=headers) as response,
    ):
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.read()
        return response


@contextmanager
def stream(served: Served, topic: str, headers: dict[str, str]) -> Iterator[Iterator[str]]:
    """Open a stream, and yield its lines. Fails at the next line or heartbeat if it takes too long."""
    deadline = time.monotonic() + SECONDS
    with (
        httpx.Client(trust_env=False, timeout=SECONDS) as client,
        client.stream("GET", f"{served.address}/stream?topic={topic}", headers=headers) as response,
    ):
        assert response.status_code == 200
        yield _until(deadline, response.iter_lines())


def _until(deadline: float, lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        assert time.monotonic() < deadline, "the stream did not end in time"
        yield line


@frameworks
def test_a_token_is_the_authorisation(kind: str) -> None:
    """The same statuses and headers everywhere, for streams and for snapshots."""
    with serving(kind, token_keys=[SECRET]) as served:
        for path in ("stream?topic=task:t1", "task/t1"):
            needed = get(served, path)
            django_view = kind.startswith("django") and path == "task/t1"  # Django itself knows no 401
            assert needed.status_code == (403 if django_view else 401)
            invalid = get(served, path, bearer(token(TASK, key=OTHER_SECRET)))
            narrow = get(served, path, bearer(token("task:t2")))
            assert (invalid.status_code, narrow.status_code) == (403 if django_view else 401, 403)
            if not django_view:
                assert needed.headers["www-authenticate"] == 'Bearer realm="celery-event-bridge"'
                assert 'error="invalid_token"' in invalid.headers["www-authenticate"]
                assert 'error="insufficient_scope"' in narrow.headers["www-authenticate"]
            for headers in (
                bearer(served.token(TASK, subject="42")),
                bearer(served.token(prefix="task:")),
                {"Cookie": f"a=1; __Host-bridge_token={token(TASK)}"},
            ):
                assert get(served, path, headers).status_code == 200
        assert get(served, f"stream?topic=task:t1&token={token(TASK)}").status_code == 401


@frameworks
def test_a_request_without_a_token_is_told_where_to_send_it(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the body; the log says once that a token in the query does not count, and never quotes it."""
    text = token("news")
    with serving(kind, token_keys=[SECRET]) as served:
        assert get(served, "stream?topic=news&token=of-another-kind").status_code == 401
        assert "token in its query" not in caplog.text
        for query in ("", f"&token={text}", f"&token={text}"):
            answer = get(served, f"stream?topic=news{query}")
            assert answer.status_code == 401
            assert "this needs a token: send it in the header Authorization: Bearer TOKEN" in answer.text
            assert "a token in the URL is not accepted" in answer.text
    told = [each.getMessage() for each in caplog.records if each.name == "bridge.streams.service"]
    assert len([each for each in told if "set BRIDGE_TOKEN_IN_QUERY = True" in each]) == 1
    assert text not in "".join(told)


@frameworks
def test_without_a_token_the_function_decides(kind: str) -> None:
    """A request with one is decided by it alone."""

    def may_read(headers: dict[str, str], topic: str) -> bool:
        return headers.get("x-user") == "ann"

    with serving(kind, may_read=may_read, token_keys=SECRET, token_in_query=True) as served:
        assert get(served, "stream?topic=news", {"X-User": "ann"}).status_code == 200
        assert get(served, "stream?topic=news").status_code == 403
        assert get(served, "stream?topic=news", {"X-User": "ann", **bearer("x")}).status_code == 401
        assert get(served, f"stream?topic=news&token={token('news')}").status_code == 200


@every
def test_a_stream_ends_with_its_token_and_a_new_one_resumes_it(kind: str) -> None:
    """Nothing is missed and nothing comes twice, with tokens that end every two seconds."""
    count = 60
    with serving(kind, token_keys=SECRET) as served, ThreadPoolExecutor() as pool:

        def publish() -> None:
            for number in range(count):
                served.channel.topic("news").publish(b"%d" % number)
                time.sleep(0.07)

        received: list[int] = []
        last_id, publishing, expired = bridge.BEGINNING, pool.submit(publish), 0
        deadline = time.monotonic() + SECONDS
        while len(received) < count and time.monotonic() < deadline:
            headers = {**bearer(served.token("news", expires=1)), "Last-Event-ID": last_id}
            with stream(served, "news", headers) as lines:
                event = ""
                for line in lines:
                    name, _, value = line.partition(": ")
                    if name == "event":
                        event = value
                    elif name == "id":
                        assert not event
                        last_id = value
                    elif name == "data" and event == "expired":
                        expired += 1
                        assert '"reason":"the token has expired"' in value
                    elif name == "data":
                        received.append(int(value))
                    if len(received) == count:
                        break
        publishing.result()
        assert received == list(range(count))
        assert expired >= 1


@every
def test_authorize_is_asked_again(kind: str) -> None:
    """With the same request, in a thread; a refusal ends the stream, and no message is lost before."""
    asked: list[tuple[str | None, str, str]] = []

    def may_read(headers: dict[str, str], topic: str) -> object:
        asked.append((headers.get("x-user"), topic, threading.current_thread().name))
        return 0.1 if len(asked) < 4 else False

    with serving(kind, may_read=may_read) as served:
        with stream(served, "news", {"X-User": "ann"}) as lines:
            assert next(lines).startswith("retry: ")
            served.channel.topic("news").publish(b"one")
            text = "\n".join(lines)
        assert text.index("data: one") < text.index("event: expired")
        assert '"reason":"not allowed any more"' in text
        assert [each[:2] for each in asked] == [("ann", "news")] * 4
        # A coroutine runs in the event loop of the server, which is no thread of the bridge.
        assert "bridge-viewers" not in {each[2] for each in asked}
        if not kind.startswith("fastapi"):
            assert {each[2] for each in asked[1:]} == {"bridge-ask"}


def forbidden(headers: dict[str, str], topic: str) -> object:
    raise Forbidden


def fault(headers: dict[str, str], topic: str) -> object:
    raise ZeroDivisionError("a fault of the application")


@frameworks
def test_an_error_of_the_client_ends_a_stream_and_a_fault_does_not(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault is logged, and the function is asked again."""
    answers: list[MayRead] = [lambda headers, topic: 0.05, fault, fault, forbidden]

    def may_read(headers: dict[str, str], topic: str) -> object:
        return answers.pop(0)(headers, topic)

    with serving(kind, may_read=may_read) as served, stream(served, "news", {}) as lines:
        text = "\n".join(lines)
    assert text.count("event: expired") == 1
    assert answers == []
    assert caplog.text.count("when it was asked again about an open stream") == 1


@every
def test_a_stream_is_open_for_a_limited_time(kind: str) -> None:
    """Then it ends with the time after which to come back, and no event."""
    with serving(kind, public=True, max_stream_seconds=0.3) as served, stream(served, "news", {}) as lines:
        text = "\n".join(lines)
    assert text.count("retry: ") == 2
    assert "event: " not in text


def viewer_key(request: Any) -> str | None:
    found: str | None = request.headers.get("X-User")
    return found


@frameworks
@pytest.mark.parametrize(
    ("options", "of", "other"),
    [
        ({"viewer_key": viewer_key, "public": True}, {"X-User": "ann"}, {"X-User": "bob"}),
        ({"token_keys": SECRET}, {"X-User": "ann"}, {"X-User": "bob"}),
    ],
    ids=["key of the request", "subject of the token"],
)
def test_the_streams_of_one_user_are_limited(
    kind: str, options: dict[str, Any], of: dict[str, str], other: dict[str, str]
) -> None:
    """Those of another are not, and one that left makes room."""
    if "token_keys" in options:
        of, other = (bearer(token("news", sub=sent["X-User"])) for sent in (of, other))
    with serving(kind, max_viewers_per_key=1, **options) as served:
        with stream(served, "news", of):
            refused = get(served, "stream?topic=news", of)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            assert get(served, "stream?topic=news", other).status_code == 200
        deadline = time.monotonic() + SECONDS
        while served.stats()["viewers"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert get(served, "stream?topic=news", of).status_code == 200


@frameworks
def test_cancelling_is_a_right_of_its_own(kind: str) -> None:
    """A token that may read may not cancel, and one that may cancel does so for its tasks only."""

    def may_cancel(headers: dict[str, str], task: str) -> bool:
        return headers.get("x-user") == "ann" and task == "t1"

    with serving(kind, may_cancel=may_cancel, public=True, token_keys=SECRET) as served:
        wanted: dict[int, list[dict[str, str]]] = {
            200: [{"X-User": "ann"}, bearer(served.token(TASK, may="cancel")), bearer(_both(served))],
            401: [bearer(token(TASK, expires=-1))],
            403: [{}, bearer(served.token(TASK)), bearer(served.token("task:t2", may=("read", "cancel")))],
        }
        found = {
            status: [get(served, "cancel/t1", sent).status_code for sent in requests]
            for status, requests in wanted.items()
        }
        assert found == {status: [status] * len(requests) for status, requests in wanted.items()}


def _both(served: Served) -> str:
    return served.token(prefix="task:", may=("read", "cancel"))
