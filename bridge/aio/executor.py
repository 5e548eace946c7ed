"""A few threads for each channel, for calls of coroutines that wait for the backend."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

# `Any` in this module: the queue of a topic holds calls of all result types.
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from bridge.channel.transport import Transport
from bridge.errors import PublishError
from bridge.support.fork import reset_in_child

T = TypeVar("T")

THREADS = 4
"""Threads of each channel. A backend that does not answer delays only its own channel."""

CALLS_AT_ONCE = 100
"""Calls of one topic after which a thread takes another topic."""


class TopicExecutor:
    """The threads of one channel. They start with the first call. Any thread may use it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "bridge-aio")
        self._lock = threading.Lock()  # Guards _queues.
        self._queues: dict[str, deque[_Call]] = {}

    def submit(self, work: Callable[..., T], *arguments: object) -> "Future[T]":
        """Call `work` in one of the threads."""
        return self._pool.submit(work, *arguments)

    def in_order(
        self, topic: str, work: Callable[[], T], within: float, hold: "Future[None] | None" = None
    ) -> "Future[T]":
        """Call `work` after all earlier calls for the same topic, and after `hold` is done.

        If this takes longer than `within` seconds, `work` is not called, and the future gets a
        `PublishError`. A call that is held takes no thread.
        """
        call = _Call(work, time.monotonic() + within, hold)
        with self._lock:
            queue = self._queues.get(topic)
            if queue is not None:
                queue.append(call)
                return call.future
            self._queues[topic] = deque([call])
        self._pool.submit(self._run, topic)
        return call.future

    def _run(self, topic: str) -> None:
        for _ in range(CALLS_AT_ONCE):
            with self._lock:
                queue = self._queues[topic]
                if not queue:
                    del self._queues[topic]
                    return
                hold = queue[0].hold
                call = queue.popleft() if hold is None or hold.done() else None
            if call is None:
                assert hold is not None
                hold.add_done_callback(lambda _: self._pool.submit(self._run, topic))
                return
            call.run()
        self._pool.submit(self._run, topic)


class _Call:
    """A call that waits for the calls before it."""

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
                raise PublishError("the backend did not accept the earlier messages in time")
            self.future.set_result(self._work())
        except BaseException as error:
            self.future.set_exception(error)


class _Executors:
    """The executors of all channels of this process. A forked child begins without any."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self.lock = threading.Lock()  # Guards `by_transport`.
        self.by_transport: WeakKeyDictionary[Transport, TopicExecutor] = WeakKeyDictionary()


_executors = _Executors()


def executor_of(transport: Transport) -> TopicExecutor:
    """Return the threads of one channel. They end when its transport is garbage collected."""
    with _executors.lock:
        executor = _executors.by_transport.get(transport)
        if executor is None:
            executor = _executors.by_transport[transport] = TopicExecutor()
        return executor
