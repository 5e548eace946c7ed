"""Grants: how an open stream ends that may not go on, and when the application is asked again."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.streams import grants
from bridge.streams.access.grant import Grant
from bridge.streams.cursor import Cursor
from bridge.streams.limits import Client, ViewerLimits
from bridge.streams.loop import Loop
from bridge.streams.refusal import Refusal
from bridge.streams.viewer import Viewer
from tests.servers import eventually

SECONDS = 10


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop that ticks often."""
    monkeypatch.setattr("bridge.streams.loop.TICK", 0.02)
    with bridge.connect("memory://grants") as channel:
        yield Loop(transport_of(channel), heartbeat=15, backlog=10_000, limits=ViewerLimits())


def opened(loop: Loop, grant: Grant | None) -> Viewer:
    loop.limits.acquire(Client())
    return loop.open(["news"], Cursor(), Client(), grant)


def rest(viewer: Viewer) -> str:
    """Return what a viewer gets until its stream ends."""
    text = b""
    deadline = time.monotonic() + SECONDS
    while not viewer.finished and time.monotonic() < deadline:
        text += viewer.take(0.1)
    return (text + viewer.take(0)).decode()


def kept(loop: Loop) -> int:
    """Return how many viewers the schedule keeps."""
    found = loop._connections.grants._by_second
    assert all(found.values()), "an empty second is forgotten"
    return sum(map(len, found.values()))


def soon() -> float:
    return time.monotonic() + 0.1


def test_a_stream_ends_when_its_token_does(loop: Loop) -> None:
    """With an event that says why and has no id, so that the cursor stays; others go on."""
    other, viewer = opened(loop, None), opened(loop, Grant(expires_at=soon()))
    text = rest(viewer)
    assert text.startswith(
        'event: expired\ndata: {"v":1,"type":"expired","reason":"the token has expired","at":'
    )
    assert "id:" not in text
    assert text.endswith("}\n\n")
    assert not other.finished
    for each in (viewer, other):
        loop.close(each)


def test_a_stream_is_not_longer_than_it_may_be(loop: Loop) -> None:
    """It ends as when the server stops: the browser comes back, at a random time."""
    text = rest(opened(loop, Grant(leave_at=soon())))
    assert text.startswith("retry: ")
    assert "event:" not in text


def test_who_left_is_forgotten(loop: Loop) -> None:
    """Neither viewers nor seconds stay, however far the end of a token is."""
    viewers = [opened(loop, Grant(expires_at=time.monotonic() + 1000 + number)) for number in range(5)]
    viewers.append(opened(loop, Grant()))
    eventually(lambda: kept(loop) == 5, SECONDS)
    for viewer in viewers:
        loop.close(viewer)
    eventually(lambda: kept(loop) == 0, SECONDS)
    opened_and_gone = opened(loop, Grant(expires_at=soon()))
    loop.close(opened_and_gone)
    eventually(lambda: not loop._connections.grants._new, SECONDS)
    assert kept(loop) == 0


class Application:
    """Answers when it is asked again."""

    def __init__(self, answer: Callable[[], float | None]) -> None:
        self.answer = answer
        self.threads: list[str] = []

    def __call__(self) -> float | None:
        self.threads.append(threading.current_thread().name)
        return self.answer()

    def grant(self, after: float = 0.02) -> Grant:
        return Grant(ask=self, ask_after=after, ask_at=time.monotonic() + after)


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> None:
        raise error

    return answer


def test_a_refusal_ends_the_stream(loop: Loop) -> None:
    """The application is asked in a thread, not in that of the loop."""
    application = Application(raising(Refusal(403, "no")))
    text = rest(opened(loop, application.grant()))
    assert '"reason":"not allowed any more"' in text
    assert application.threads == ["bridge-ask"]


def test_an_answer_says_when_to_ask_again(loop: Loop) -> None:
    """Until it is `None`, which stands for never."""
    answers: list[float | None] = [0.01, 0.01, None]
    application = Application(lambda: answers.pop(0))
    viewer = opened(loop, application.grant())
    eventually(lambda: not answers, SECONDS)
    eventually(lambda: viewer.grant is not None and viewer.grant.ask_at == math.inf, SECONDS)
    assert not viewer.finished
    loop.close(viewer)


def test_an_error_keeps_the_stream_and_is_logged_once(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked again after the same time. After an answer, the next error is logged again."""
    answers: list[Callable[[], float | None]] = [
        raising(ZeroDivisionError("a fault")),
        raising(ZeroDivisionError("a fault")),
        lambda: 0.01,
        raising(KeyError("another")),
        raising(Refusal(403, "no")),
    ]
    application = Application(lambda: answers.pop(0)())
    text = rest(opened(loop, application.grant()))
    assert text.count("event: expired") == 1
    assert answers == []
    assert caplog.text.count("raised an exception when it was asked again") == 2
    assert caplog.text.count("ZeroDivisionError: a fault") == 1


def test_a_late_answer_keeps_the_stream_and_counts(
    loop: Loop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there was none is logged once, and it is not asked again meanwhile."""
    monkeypatch.setattr(grants, "ANSWER_WITHIN", 0.05)
    allowed = threading.Event()

    def answer() -> None:
        allowed.wait(SECONDS)
        raise Refusal(403, "no")

    application = Application(answer)
    viewer = opened(loop, application.grant())
    eventually(lambda: "has not answered for 0.05 seconds" in caplog.text, SECONDS)
    assert not viewer.finished
    allowed.set()
    assert "not allowed any more" in rest(viewer)
    assert len(application.threads) == 1
    assert caplog.text.count("has not answered") == 1


def test_a_slow_answer_delays_no_other_stream(loop: Loop) -> None:
    """Other applications are asked, and messages go out, while all threads but one wait."""
    allowed = threading.Event()
    slow = Application(lambda: allowed.wait(SECONDS) and None)
    waiting = [opened(loop, slow.grant()) for _ in range(3)]
    eventually(lambda: len(slow.threads) == 3, SECONDS)
    quick = Application(raising(Refusal(403, "no")))
    assert "not allowed any more" in rest(opened(loop, quick.grant()))
    assert not any(viewer.finished for viewer in waiting)
    allowed.set()
    for viewer in waiting:
        loop.close(viewer)
