"""The thread that waits for sockets, does what it is given, and ticks."""

import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.streams.selector_thread import SelectorThread
from tests.servers import eventually


@pytest.fixture
def thread() -> Iterator[SelectorThread]:
    thread = SelectorThread("test")
    yield thread
    thread.do(thread.stop)
    thread.join(10)


def ignore(*arguments: Any) -> None:
    """Do nothing."""


def test_work_is_done_in_order_in_one_thread(thread: SelectorThread) -> None:
    """What was given before the start is done too; the thread starts once."""
    done: list[tuple[int, str]] = []

    def work(number: int) -> None:
        done.append((number, threading.current_thread().name))

    thread.do(work, 0)
    assert thread.start(ignore, ignore, every=10)
    assert not thread.start(ignore, ignore, every=10)
    for number in range(1, 100):
        thread.do(work, number)
    eventually(lambda: len(done) == 100)
    assert done == [(number, "test") for number in range(100)]


def test_an_error_is_logged_and_stops_nothing(
    thread: SelectorThread, caplog: pytest.LogCaptureFixture
) -> None:
    """The next work is done, and ticks go on."""
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        raise RuntimeError("a tick")

    thread.start(ignore, tick, every=0.01)
    eventually(lambda: len(ticks) > 2)
    assert "a viewer could not be served" in caplog.text


def test_a_socket_that_is_ready_is_reported_with_its_data(thread: SelectorThread) -> None:
    """The data that it was registered with, and what it is ready for."""
    ready: list[tuple[str, int]] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def on_ready(data: str, mask: int) -> None:
            ready.append((data, mask))
            ours.recv(10)

        def register() -> None:
            assert thread.selector is not None
            thread.selector.register(ours, selectors.EVENT_READ, "it")

        thread.start(on_ready, ignore, every=10)
        thread.do(register)
        theirs.send(b"1")
        eventually(lambda: ready == [("it", selectors.EVENT_READ)])


def test_a_child_process_starts_a_thread_of_its_own() -> None:
    """After a fork nothing of the parent's thread is left, and the next start is a new one."""
    thread = SelectorThread("test")
    thread.start(ignore, ignore, every=0.01)
    before = thread.selector
    thread.do(thread.stop)
    thread.join(10)
    thread.reset_after_fork()
    assert thread.selector is None
    done = threading.Event()
    assert thread.start(ignore, ignore, every=10)
    assert thread.selector is not before
    thread.do(done.set)
    assert done.wait(10)
    thread.do(thread.stop)
    thread.join(10)
