"""The hub: one thread a process that reads the backend once and hands each message to its readers.

Only this thread touches the reading connection. Other threads change the table of topics under the lock and
wake the thread. A lost connection is opened again, with every topic. Any other error closes every reader with
its cause; the next one that joins starts the thread again.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence

from bridge.backends.base import (
    Attached,
    Backend,
    History,
    Listener,
    ListenerEvent,
    Refused,
    Seen,
    States,
)
from bridge.channel.queue_memory import QueueMemory
from bridge.channel.reader import Reader, deliver
from bridge.channel.topic_table import TopicTable
from bridge.errors import ConnectionLost, SubscriptionClosed
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.state import Retention
from bridge.support.backoff import backoff
from bridge.support.fork import reset_in_child
from bridge.support.memory import BUDGET
from bridge.support.validate import INTERNAL

logger = logging.getLogger("bridge.channel.hub")


class Hub:
    """Hands what one backend carries to the readers of this process. Safe to share and to fork."""

    kind = "tails"
    share = 0.0

    def __init__(self, backend: Backend, retention: Retention, memory: int | None = None) -> None:
        """`memory` is the memory budget of the process that the channel asks for, in bytes."""
        self._backend = backend
        self._retention = retention
        self.queues = QueueMemory()
        """What waits for the subscriptions."""
        self.messages_received = 0
        self.connections_lost = 0
        self.slow_consumers = 0
        self.last_error: Exception | None = None
        """Why the backend could not be reached; `None` if it can, as far as is known."""
        self._reset()
        reset_in_child(self)
        BUDGET.add(self, memory)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # Guards what follows.
        self._topics = TopicTable(self._retention)
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self.held = 0
        """Bytes of messages that are kept for readers that catch up, when they were last counted."""
        self._received = self._step = 0  # bytes since then, and bytes after which they are counted again

    def reset_after_fork(self) -> None:
        """Leave the connection and the thread to the parent. The parent's readers end in the child."""
        listener, readers, was_closed = self._listener, self._topics.readers(), self._closed.is_set()
        self._reset()
        self.queues.reset_after_fork()
        if was_closed:
            self._closed.set()
        if listener is not None:
            listener.close()
        for reader in readers:
            reader.reset_after_fork()

    # Any thread.

    @property
    def outage(self) -> Exception | None:
        """Why the readers wait for the backend; `None` while they do not, and while there are none."""
        return self.last_error if self._thread is not None else None

    def topics(self) -> int:
        """Return how many topics this process reads, without those of the bridge itself."""
        with self._lock:
            return sum(not name.startswith(INTERNAL) for name in self._topics.names)

    def stats(self) -> dict[str, int]:
        """Return what this process counts, by name."""
        with self._lock:
            # Those of internal topics read for the process itself.
            readers = sum(
                not next(iter(reader.topics), "").startswith(INTERNAL) for reader in self._topics.readers()
            )
            self.held = self._topics.cached
        self.queues.measure()
        return {
            "subscriptions": readers,
            "messages_received": self.messages_received,
            "connections_lost": self.connections_lost,
            "slow_consumers": self.slow_consumers,
        }

    def join(self, reader: Reader, after: Mapping[str, Position] | None = None) -> None:
        """Add a reader to its topics, in each after the position given for it.

        Returns at once; the reader is established as soon as the backend confirms. Raises
        `SubscriptionClosed` after `close`.
        """
        with self._lock:
            if self._closed.is_set():
                raise SubscriptionClosed("the channel is closed; connect again")
            has_work = self._topics.join(reader, after or {})
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bridge-hub", daemon=True)
                self._thread.start()
            elif has_work:
                self._wake()

    def leave(self, reader: Reader) -> None:
        """Remove a reader. It may be removed already."""
        with self._lock:
            if self._topics.leave(reader):
                self._wake()

    def has_room(self, reader: Reader) -> None:
        """Go on with a reader whose `room` took less than it was offered, and that has room again."""
        with self._lock:
            self._topics.has_room(reader)
            self._wake()

    def shed(self, most: int) -> None:
        """Drop the messages that are kept for readers that catch up: they can be read again."""
        with self._lock:
            if self._topics.cached > most:
                self._topics.drop_caches()
            self.held = self._topics.cached

    def close(self) -> None:
        """Close every reader and the reading connection, and wait up to a second for the thread."""
        BUDGET.remove(self)
        with self._lock:
            self._closed.set()
            readers = self._topics.readers()
            thread = self._thread
            self._wake()
        for reader in readers:
            reader.fail(SubscriptionClosed("the channel is closed"))
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def _wake(self) -> None:
        """Make the thread check the pending topics. Requires holding `_lock`."""
        if self._listener is not None:
            self._listener.wake()

    # Everything below runs in the hub's own thread.

    def _run(self) -> None:
        attempt = 0
        while True:
            is_open = False
            try:
                listener = self._backend.open_listener()
                is_open = True
                try:
                    self._use(listener)
                    while not self._closed.is_set():
                        self._dispatch(listener.poll())
                        attempt = 0
                        self._do_pending(listener)
                finally:
                    listener.close()
                return
            except ConnectionLost as error:
                self.connections_lost += is_open
                if not self._goes_on_after(error, attempt):
                    return
                self._closed.wait(backoff(attempt))
                attempt += 1
            except Exception as error:
                self._fail_all(error)
                return

    def _is_current(self) -> bool:
        """Return whether this thread is still the hub's: gevent copies threads into a forked child."""
        return self._thread is threading.current_thread()

    def _use(self, listener: Listener) -> None:
        """Make `listener` the current connection and attach every topic to it."""
        with self._lock:
            if not self._is_current():
                raise ConnectionLost("this process was forked")
            self._listener = listener
            self._topics.on_connect()
        if self.last_error is not None:
            logger.info("the backend is back", extra={"event": "backend_back"})
            self.last_error = None
        self._do_pending(listener)

    def _do_pending(self, listener: Listener) -> None:
        """Attach and detach topics, and request what they need."""
        while self._topics.pending:
            with self._lock:
                request, deliveries = self._topics.next_step(listener)
            # Without the lock: the request may open a connection, and an event loop must not wait for that.
            if request is not None:
                request()
            deliver(deliveries)

    def _goes_on_after(self, error: ConnectionLost, attempt: int) -> bool:
        """Note that the connection is lost; return whether a reader waits for the next one."""
        with self._lock:
            if not self._is_current():
                return False
            self._listener = None
            self._topics.on_disconnect()
            if not self._topics or self._closed.is_set():
                self._thread = None
                return False
        self.last_error = error
        if attempt == 0:
            logger.warning(
                "the backend is out of reach, its readers wait until it is back: %s",
                error,
                extra={"event": "backend_unreachable", "error": str(error)},
            )
        return True

    def _fail_all(self, error: Exception) -> None:
        with self._lock:
            if not self._is_current():
                return
            readers = self._topics.readers()
            self._topics = TopicTable(self._retention)
            self._listener = self._thread = None
        logger.error(
            "the hub ended; the next subscribe starts another", exc_info=error, extra={"event": "hub_ended"}
        )
        reason = ConnectionLost(f"the hub that read the backend ended: {error!r}")
        reason.__cause__ = error
        for reader in readers:
            reader.fail(reason)

    def _dispatch(self, events: Sequence[ListenerEvent]) -> None:
        """Hand on `events` in order, adjacent messages of a topic in one go."""
        batches: defaultdict[str, list[Message]] = defaultdict(list)
        for event in events:
            if isinstance(event, Message):
                batches[event.topic].append(event)
                continue
            self._dispatch_messages(batches)
            batches.clear()
            if isinstance(event, Refused):
                self._refuse(event)
            else:
                self._take(event.topic, event)
        self._dispatch_messages(batches)

    def _dispatch_messages(self, batches: Mapping[str, list[Message]]) -> None:
        for topic, messages in batches.items():
            self.messages_received += len(messages)
            self._received += sum(map(len, messages))
            self._take(topic, messages)
        if self._received > self._step:
            self._received, self._step = 0, BUDGET.step
            with self._lock:
                self.held = self._topics.cached
            BUDGET.check()

    def _take(self, topic: str, event: Attached | Seen | History | States | list[Message]) -> None:
        """Let the sequencer of a topic decide who gets what, and hand it out without holding the lock."""
        with self._lock:
            deliveries = self._topics.take(topic, event)
        deliver(deliveries)

    def _refuse(self, refused: Refused) -> None:
        with self._lock:
            readers = self._topics.remove(refused.topic)
        reason = ConnectionLost(f"the backend refuses to let us read {refused.topic!r}: {refused.error}")
        logger.error(
            "%s", reason, extra={"event": "topic_refused", "topic": refused.topic, "error": refused.error}
        )
        for reader in readers:
            reader.fail(reason)
