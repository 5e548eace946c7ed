"""The hub: one thread a process that reads the backend once and hands each message to its readers.

All danger of shared state lives here. The thread alone touches the reading connection; others change the
table of topics under the lock, name the topic in the inbox and wake the thread. It never dies silently:
a lost connection is opened again, with every topic; any other error closes every subscription with its cause.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bridge.channel import Gap, Message
from bridge.errors import ConnectionLost, SubscriptionClosed
from bridge.fork import reset_in_child
from bridge.ports import Attached, Backend, Event, Reader, Refused, States
from bridge.subscription import Item, QueuedSubscription

logger = logging.getLogger("bridge.hub")

FIRST_DELAY = 0.05
LONGEST_DELAY = 2.0


def backoff(attempt: int) -> float:
    """Return the seconds to wait before reconnecting for the `attempt`-th time in a row.

    Full jitter, so that the processes that lost a backend together do not come back together (Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), but never so little as to spin.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(attempt, 16))
    return random.uniform(FIRST_DELAY, max(FIRST_DELAY, longest))


@dataclass(slots=True)
class _Topic:
    """Who reads a topic. Guarded by the hub's lock."""

    readers: dict[QueuedSubscription, None] = field(default_factory=dict)
    waiting: dict[QueuedSubscription, None] = field(default_factory=dict)
    """Stateful subscriptions that join `readers` with the next `States`."""
    asked: bool = False
    """Attaching has been asked of the current connection."""
    attached: bool = False
    state_requested: bool = False

    def everyone(self) -> list[QueuedSubscription]:
        return [*self.readers, *self.waiting]

    def detached(self) -> None:
        """The connection is gone: whoever reads state needs it again."""
        self.asked = self.attached = self.state_requested = False
        for subscription in [s for s in self.readers if s.stateful]:
            del self.readers[subscription]
            self.waiting[subscription] = None


class Hub:
    """Hands what one backend carries to the subscriptions of this process. Safe to share and to fork."""

    def __init__(self, backend: Backend, *, queue_size: int) -> None:
        self._backend = backend
        self._queue_size = queue_size
        self.messages_received = 0
        self.connections_lost = 0
        self.slow_consumers = 0
        self.last_error: Exception | None = None
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        # Guards everything below.
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}
        self._inbox: deque[str] = deque()
        self._reader: Reader | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def reset_after_fork(self) -> None:
        reader, topics, closed = self._reader, self._topics, self._stop.is_set()
        self._reset()
        if closed:
            self._stop.set()
        if reader is not None:
            reader.close()
        for topic in topics.values():
            for subscription in topic.everyone():
                subscription.reset_after_fork()

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are open."""
        with self._lock:
            return len({s for topic in self._topics.values() for s in topic.everyone()})

    def open(self, topics: Iterable[str], *, stateful: bool = False) -> QueuedSubscription:
        """Add a subscription and return it at once; it is established as soon as the backend confirms."""
        subscription = QueuedSubscription(
            topics, queue_size=self._queue_size, on_close=self._discard, stateful=stateful
        )
        with self._lock:
            if self._stop.is_set():
                raise SubscriptionClosed("the channel is closed; connect again")
            for name in subscription.topics:
                topic = self._topics.setdefault(name, _Topic())
                if stateful:
                    topic.waiting[subscription] = None
                else:
                    topic.readers[subscription] = None
                    if topic.attached:
                        subscription.establish(name)
                if stateful or not topic.attached:
                    self._inbox.append(name)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bridge-hub", daemon=True)
                self._thread.start()
            self._wake()
        return subscription

    def close(self) -> None:
        """Close every subscription and the reading connection."""
        with self._lock:
            self._stop.set()
            subscriptions = {s for topic in self._topics.values() for s in topic.everyone()}
            thread = self._thread
            self._wake()
        for subscription in subscriptions:
            subscription.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def _discard(self, subscription: QueuedSubscription) -> None:
        with self._lock:
            for name in subscription.topics:
                topic = self._topics.get(name)
                if topic is not None:
                    topic.readers.pop(subscription, None)
                    topic.waiting.pop(subscription, None)
                    if not topic.readers and not topic.waiting:
                        self._inbox.append(name)
            self._wake()

    def _wake(self) -> None:
        """Have the thread look at the inbox. Requires holding `_lock`."""
        if self._reader is not None:
            self._reader.wake()

    # Everything below runs in the hub's own thread.

    def _run(self) -> None:
        attempt = 0
        while True:
            try:
                reader = self._backend.open_reader()
                try:
                    self._take(reader)
                    while not self._stop.is_set():
                        self._dispatch(reader.poll())
                        attempt = 0
                        self._look_at_inbox(reader)
                finally:
                    reader.close()
                return
            except ConnectionLost as error:
                if not self._outlives(error, attempt):
                    return
                self._stop.wait(backoff(attempt))
                attempt += 1
            except Exception as error:
                self._fail_everyone(error)
                return

    def _mine(self) -> bool:
        """Whether this thread is still the hub's: gevent carries a copy of it into a forked child."""
        return self._thread is threading.current_thread()

    def _take(self, reader: Reader) -> None:
        """Make `reader` the current connection and attach every topic to it."""
        with self._lock:
            if not self._mine():
                raise ConnectionLost("this process was forked")
            self._reader = reader
            self._inbox.clear()
            self._inbox.extend(self._topics)
        if self.last_error is not None:
            logger.info("the backend is back")
            self.last_error = None
        self._look_at_inbox(reader)

    def _look_at_inbox(self, reader: Reader) -> None:
        """Attach what is newly wanted, detach what is no longer, ask for the states waited for."""
        if not self._inbox:
            return
        with self._lock:
            while self._inbox:
                name = self._inbox.popleft()
                topic = self._topics.get(name)
                if topic is None:
                    continue
                if not topic.readers and not topic.waiting:
                    if topic.asked:
                        reader.detach(name)
                    del self._topics[name]
                elif not topic.asked:
                    reader.attach(name)
                    topic.asked = True
                elif topic.attached and topic.waiting and not topic.state_requested:
                    reader.request_state(name)
                    topic.state_requested = True

    def _outlives(self, error: ConnectionLost, attempt: int) -> bool:
        """Note the outage; return whether anyone still waits for its end."""
        with self._lock:
            if not self._mine():
                return False
            self._reader = None
            for topic in self._topics.values():
                topic.detached()
            for name in [n for n, t in self._topics.items() if not t.readers and not t.waiting]:
                del self._topics[name]
            if not self._topics or self._stop.is_set():
                self._thread = None
                return False
        self.last_error = error
        if attempt == 0:
            self.connections_lost += 1
            logger.warning("the backend is out of reach, its readers wait until it is back: %s", error)
        return True

    def _fail_everyone(self, error: Exception) -> None:
        with self._lock:
            if not self._mine():
                return
            subscriptions = {s for topic in self._topics.values() for s in topic.everyone()}
            self._topics.clear()
            self._reader = self._thread = None
        logger.error("the hub ended; the next subscribe starts another", exc_info=error)
        reason = ConnectionLost(f"the hub that read the backend ended: {error!r}")
        reason.__cause__ = error
        for subscription in subscriptions:
            subscription.fail(reason)

    def _dispatch(self, events: Sequence[Event]) -> None:
        """Hand on `events` in order, the messages of a topic in one go."""
        batches: dict[str, list[Item]] = {}
        for event in events:
            if isinstance(event, Message):
                self.messages_received += 1
                batches.setdefault(event.topic, []).append(event)
                continue
            self._deliver(batches)
            batches = {}
            if isinstance(event, Attached):
                self._attached(event.topic)
            elif isinstance(event, States):
                self._join(event)
            else:
                self._refused(event)
        self._deliver(batches)

    def _deliver(self, batches: dict[str, list[Item]]) -> None:
        for name, items in batches.items():
            with self._lock:
                topic = self._topics.get(name)
                readers = list(topic.readers) if topic else []
            self._hand(readers, items)

    def _hand(self, readers: Iterable[QueuedSubscription], items: Sequence[Item]) -> None:
        for subscription in readers:
            if not subscription.deliver(items):
                self.slow_consumers += 1
                self._discard(subscription)

    def _attached(self, name: str) -> None:
        with self._lock:
            topic = self._topics.get(name)
            if topic is None:
                return
            topic.attached = True
            returning = [s for s in topic.readers if not s.establish(name)]
            if topic.waiting:
                self._inbox.append(name)
        self._hand(returning, [Gap(topic=name)])

    def _join(self, states: States) -> None:
        """Let the stateful subscriptions that waited for `states` join the readers."""
        with self._lock:
            topic = self._topics.get(states.topic)
            if topic is None:
                return
            joining = dict(topic.waiting)
            topic.readers.update(joining)
            topic.waiting.clear()
            topic.state_requested = False
            first = {s for s in joining if s.establish(states.topic)}
        self._hand(first, [states])
        self._hand(joining.keys() - first, [Gap(topic=states.topic), states])

    def _refused(self, refused: Refused) -> None:
        with self._lock:
            topic = self._topics.pop(refused.topic, None)
        reason = ConnectionLost(f"the backend refuses to let us read {refused.topic!r}: {refused.error}")
        logger.error("%s", reason)
        for subscription in topic.everyone() if topic else ():
            subscription.fail(reason)
