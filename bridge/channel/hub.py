"""The hub: one thread a process that reads the backend once and hands each message to its readers.

All danger of shared state lives here. The thread alone touches the reading connection; others change the
table of topics under the lock, name the topic in the inbox and wake the thread. It never dies silently:
a lost connection is opened again, with every topic; any other error closes every subscription with its cause.
"""

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

from bridge.backends.base import Attached, Backend, Event, History, Item, Listener, Refused, Seen, States
from bridge.channel.sequencer import Delivery, Sequencer
from bridge.channel.subscription import QueuedSubscription
from bridge.errors import ConnectionLost, PositionLost, SubscriptionClosed
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.state import Retention
from bridge.support.backoff import backoff
from bridge.support.fork import reset_in_child

logger = logging.getLogger("bridge.channel.hub")


class Member(Protocol):
    """Who reads through the hub, beside subscriptions: many at a time are given what there is."""

    topics: frozenset[str]
    stateful: bool
    opens_with_state: bool

    @property
    def post(self) -> Callable[[Sequence[Any], Sequence[Item]], None]:
        """Takes members and the items for them. Must not block."""
        ...

    def establish(self, topic: str) -> None: ...

    def room(self, items: Sequence[Item]) -> int: ...

    def fail(self, reason: SubscriptionClosed) -> None:
        """Nothing more will come."""
        ...

    def reset_after_fork(self) -> None: ...


class Hub:
    """Hands what one backend carries to the subscriptions of this process. Safe to share and to fork."""

    def __init__(self, backend: Backend, *, queue_size: int, retention: Retention) -> None:
        self._backend = backend
        self._queue_size = queue_size
        self._retention = retention
        self.messages_received = 0
        self.connections_lost = 0
        self.slow_consumers = 0
        self.last_error: Exception | None = None
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        # Guards everything below.
        self._lock = threading.Lock()
        self._sequencers: dict[str, Sequencer] = {}
        self._asked: set[str] = set()  # topics that the current connection was asked to attach
        self._inbox: deque[str] = deque()
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def reset_after_fork(self) -> None:
        reader, lines, closed = self._listener, self._sequencers, self._stop.is_set()
        self._reset()
        if closed:
            self._stop.set()
        if reader is not None:
            reader.close()
        for member in _members(lines):
            member.reset_after_fork()

    @property
    def outage(self) -> Exception | None:
        """Why its readers wait; `None` while they do not, and while there are none."""
        return self.last_error if self._thread is not None else None

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are open."""
        with self._lock:
            return len(_members(self._sequencers))

    def open(
        self,
        topics: Iterable[str],
        *,
        after: Mapping[str, Position] | None = None,
        acknowledge: Callable[[Position], None] | None = None,
        woken: Callable[[], bool] | None = None,
    ) -> QueuedSubscription:
        """Add a subscription and return it at once; it is established as soon as the backend confirms."""
        subscription = QueuedSubscription(
            topics, self, queue_size=self._queue_size, acknowledge=acknowledge, woken=woken
        )
        self.join(subscription, after)
        return subscription

    def join(self, member: Member | QueuedSubscription, after: Mapping[str, Position] | None) -> None:
        """Add a reader to its topics, in each after the place given for it."""
        with self._lock:
            if self._stop.is_set():
                raise SubscriptionClosed("the channel is closed; connect again")
            asking = False
            for name in member.topics:
                sequencer = self._sequencers.get(name) or self._sequencers.setdefault(
                    name, Sequencer(name, self._retention)
                )
                if sequencer.join(member, (after or {}).get(name)):
                    self._inbox.append(name)
                    asking = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bridge-hub", daemon=True)
                self._thread.start()
            elif asking:
                self._wake()

    def close(self) -> None:
        """Close every subscription and the reading connection."""
        with self._lock:
            self._stop.set()
            members = _members(self._sequencers)
            thread = self._thread
            self._wake()
        for member in members:
            if isinstance(member, QueuedSubscription):
                member.close()
            else:
                member.fail(SubscriptionClosed("the channel is closed"))
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def discard(self, member: Member | QueuedSubscription) -> None:
        with self._lock:
            for name in member.topics:
                sequencer = self._sequencers.get(name)
                if sequencer is not None:
                    sequencer.leave(member)
                    if not sequencer.readers():
                        self._inbox.append(name)
            self._wake()

    def has_room(self, member: Member | QueuedSubscription) -> None:
        with self._lock:
            for name in member.topics:
                sequencer = self._sequencers.get(name)
                if sequencer is not None:
                    sequencer.has_room(member)
                    self._inbox.append(name)
            self._wake()

    def _wake(self) -> None:
        """Have the thread look at the inbox. Requires holding `_lock`."""
        if self._listener is not None:
            self._listener.wake()

    # Everything below runs in the hub's own thread.

    def _run(self) -> None:
        attempt = 0
        while True:
            opened = False
            try:
                reader = self._backend.open_listener()
                opened = True
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
                self.connections_lost += opened
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

    def _take(self, listener: Listener) -> None:
        """Make `reader` the current connection and attach every topic to it."""
        with self._lock:
            if not self._mine():
                raise ConnectionLost("this process was forked")
            self._listener = listener
            self._inbox.clear()
            self._inbox.extend(self._sequencers)
        if self.last_error is not None:
            logger.info("the backend is back")
            self.last_error = None
        self._look_at_inbox(listener)

    def _look_at_inbox(self, listener: Listener) -> None:
        """Attach what is newly read, detach what no longer is, and ask for what is waited for."""
        while self._inbox:
            with self._lock:
                name = self._inbox.popleft()
                sequencer = self._sequencers.get(name)
                ask, deliveries = self._look_at(sequencer, listener) if sequencer is not None else (None, [])
            if ask is not None:  # without the lock: it may open a connection, and an event loop must not wait
                ask()
            self._hand_out(deliveries)

    def _look_at(
        self, sequencer: Sequencer, listener: Listener
    ) -> tuple[Callable[[], None] | None, list[Delivery]]:
        """Return what to ask of the backend and what can be given already. Requires holding `_lock`."""
        name = sequencer.topic
        ask: Callable[[], None] | None = None
        if not sequencer.readers():
            if name in self._asked:
                self._asked.discard(name)
                ask = partial(listener.detach, name)
            del self._sequencers[name]
            return ask, []
        if name not in self._asked:
            self._asked.add(name)
            return partial(listener.attach, name), []
        deliveries = list(sequencer.serve_from_tail())
        wanted = sequencer.wants()
        if wanted is not None:
            sequencer.asked(wanted)
            if isinstance(wanted, Position):
                ask = partial(listener.request_history, name, wanted)
            else:
                ask = partial(listener.request_state, name, wanted.after)
        return ask, deliveries

    def _outlives(self, error: ConnectionLost, attempt: int) -> bool:
        """Note the outage; return whether anyone still waits for its end."""
        with self._lock:
            if not self._mine():
                return False
            self._listener = None
            self._asked.clear()
            for name, sequencer in list(self._sequencers.items()):
                sequencer.detach()
                if not sequencer.readers():
                    del self._sequencers[name]
            if not self._sequencers or self._stop.is_set():
                self._thread = None
                return False
        self.last_error = error
        if attempt == 0:
            logger.warning("the backend is out of reach, its readers wait until it is back: %s", error)
        return True

    def _fail_everyone(self, error: Exception) -> None:
        with self._lock:
            if not self._mine():
                return
            members = _members(self._sequencers)
            self._sequencers.clear()
            self._asked.clear()
            self._listener = self._thread = None
        logger.error("the hub ended; the next subscribe starts another", exc_info=error)
        reason = ConnectionLost(f"the hub that read the backend ended: {error!r}")
        reason.__cause__ = error
        for member in members:
            member.fail(reason)

    def _dispatch(self, events: Sequence[Event]) -> None:
        """Hand on `events` in order, the messages of a topic in one go."""
        batches: defaultdict[str, list[Message]] = defaultdict(list)
        for event in events:
            if isinstance(event, Message):
                batches[event.topic].append(event)
                continue
            self._deliver(batches)
            batches.clear()
            if isinstance(event, Refused):
                self._refused(event)
            else:
                self._tell(event.topic, event)
        self._deliver(batches)

    def _deliver(self, batches: Mapping[str, list[Message]]) -> None:
        for name, messages in batches.items():
            self.messages_received += len(messages)
            self._tell(name, messages)

    def _tell(self, name: str, event: Attached | Seen | History | States | list[Message]) -> None:
        """Let the topic's line decide who gets what, and hand it out without holding the lock."""
        with self._lock:
            sequencer = self._sequencers.get(name)
            if sequencer is None or name not in self._asked:
                return
            match event:
                case list():
                    deliveries = list(sequencer.messages(event))
                case Attached():
                    deliveries = list(sequencer.attach(event.position))
                case Seen():
                    deliveries = list(sequencer.seen_at(event.position))
                case History():
                    deliveries = list(sequencer.history(event))
                case States():
                    deliveries = list(sequencer.states(event))
            if sequencer.busy or not sequencer.head:
                self._inbox.append(name)
        self._hand_out(deliveries)

    def _hand_out(self, deliveries: Iterable[Delivery]) -> None:
        for readers, given in deliveries:
            members = cast(Sequence[Member | QueuedSubscription], readers)
            if isinstance(given, PositionLost):
                for member in members:
                    member.fail(given)
                continue
            crowds: defaultdict[Callable[..., None], list[Member]] = defaultdict(list)
            for member in members:
                if isinstance(member, QueuedSubscription):
                    if not member.deliver(given):
                        self.slow_consumers += 1
                        self.discard(member)
                else:
                    crowds[member.post].append(member)
            for post, crowd in crowds.items():
                post(crowd, given)

    def _refused(self, refused: Refused) -> None:
        with self._lock:
            sequencer = self._sequencers.pop(refused.topic, None)
            self._asked.discard(refused.topic)
        reason = ConnectionLost(f"the backend refuses to let us read {refused.topic!r}: {refused.error}")
        logger.error("%s", reason)
        for member in _members({refused.topic: sequencer} if sequencer else {}):
            member.fail(reason)


def _members(lines: Mapping[str, Sequencer]) -> set[Member | QueuedSubscription]:
    return {
        cast(Member | QueuedSubscription, reader)
        for sequencer in lines.values()
        for reader in sequencer.readers()
    }
