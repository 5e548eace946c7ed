"""A few threads a channel, for calls of coroutines that have to wait for the backend."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from bridge.channel.transport import Transport
from bridge.errors import PublishError
from bridge.support.fork import reset_in_child

T = TypeVar("T")

THREADS = 4
"""For each channel, so that a backend that does not answer holds up no other channel."""

TURN = 100
"""Calls of one topic after which it is another topic's turn."""


class TopicExecutor:
    """The threads of one channel. They begin with the first call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "bridge-aio")
        self._lock = threading.Lock()  # Guards _lanes.
        self._lanes: dict[str, deque[_Call]] = {}

    def submit(self, work: Callable[..., T], *arguments: object) -> "Future[T]":
        """Have `work` done."""
        return self._pool.submit(work, *arguments)

    def in_order(
        self, topic: str, work: Callable[[], T], within: float, hold: "Future[None] | None" = None
    ) -> "Future[T]":
        """Have `work` done after all that came before it for the same topic, and not before `hold` is done.

        If its turn does not come within so many seconds, it is not done, for a `PublishError`. While it is
        held it takes no thread.
        """
        call = _Call(work, time.monotonic() + within, hold)
        with self._lock:
            lane = self._lanes.get(topic)
            if lane is not None:
                lane.append(call)
                return call.future
            self._lanes[topic] = deque([call])
        self._pool.submit(self._run, topic)
        return call.future

    def _run(self, topic: str) -> None:
        for _ in range(TURN):
            with self._lock:
                lane = self._lanes[topic]
                if not lane:
                    del self._lanes[topic]
                    return
                hold = lane[0].hold
                call = lane.popleft() if hold is None or hold.done() else None
            if call is None:
                assert hold is not None
                hold.add_done_callback(lambda _: self._pool.submit(self._run, topic))
                return
            call.run()
        self._pool.submit(self._run, topic)


class _Call:
    """A call that waits for its turn."""

    def __init__(self, work: Callable[[], Any], deadline: float, hold: "Future[None] | None") -> None:
        self.future: Future[Any] = Future()
        self.hold = hold
        self._work = work
        self._deadline = deadline

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            if time.monotonic() > self._deadline:
                raise PublishError("the backend did not take what came before it in time")
            self.future.set_result(self._work())
        except BaseException as error:
            self.future.set_exception(error)


class _All:
    """The threads of every channel of this process."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self.lock = threading.Lock()  # Guards of.
        self.of: WeakKeyDictionary[Transport, TopicExecutor] = WeakKeyDictionary()


_all = _All()


def executor_of(transport: Transport) -> TopicExecutor:
    """Return the threads of one channel. They end when its transport is garbage collected."""
    with _all.lock:
        threads = _all.of.get(transport)
        if threads is None:
            threads = _all.of[transport] = TopicExecutor()
        return threads
