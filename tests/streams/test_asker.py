"""Asker: threads for calls of the application."""

import threading
import time

from bridge.streams.asker import THREADS, Asker
from tests.servers import eventually


def test_few_threads_make_all_calls() -> None:
    """As many as are needed, and at most a few; they are used again."""
    asker = Asker()
    before = threading.active_count()
    done: list[str] = []
    asker.submit(lambda: done.append(threading.current_thread().name))
    eventually(lambda: done == ["bridge-ask"])
    allowed = threading.Event()

    def late() -> None:
        if allowed.wait(10):
            done.append("late")

    for _ in range(THREADS * 3):
        asker.submit(late)
    deadline = time.monotonic() + 10
    while threading.active_count() < before + THREADS and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before + THREADS
    allowed.set()
    eventually(lambda: len(done) == 1 + THREADS * 3)
    assert threading.active_count() == before + THREADS
