"""The background publisher: a task that publishes through it neither waits nor fails.

While the backend is out of reach messages queue up, and are sent in order when it is back.
"""

import threading
import time
from collections.abc import Iterable, Sequence

from bridge.backends.base import TopicsHeld
from bridge.channel.transport import Transport
from bridge.errors import MessageRefused, PublishError
from bridge.model.publication import Publication
from bridge.support.backoff import backoff
from bridge.support.fork import reset_in_child
from bridge.support.validate import check_payload
from bridge.tasks import publisher_log
from bridge.tasks.feed_limit import FeedLimit
from bridge.tasks.publish_queue import PublishQueue
from bridge.tasks.publisher_counts import PUBLISHERS, PublisherCounts
from bridge.tasks.sender_limits import SenderLimits
from bridge.tasks.sources import Source, Sources

BATCH = 200
"""The most messages in one batch."""

BATCH_BYTES = 4 * 1024 * 1024
"""The most bytes in one batch, unless one message alone has more."""

ASIDE = 1.0
"""Seconds until a topic that a transaction of others holds is tried again."""

PAUSE = 0.05
"""Seconds between two batches: many messages are sent in batches, and a few at once. A batch costs more
than its messages, so tasks that end quickly cost less the longer it is."""


class BackgroundPublisher:
    """Publishes messages through one channel, in its own thread. Safe to share by threads, and to fork.

    Where `feed` is false, the feed of all tasks gets nothing.
    """

    def __init__(self, transport: Transport, *, feed: bool = True) -> None:
        self._transport = transport
        self._queue = PublishQueue()
        self._sources = Sources()
        self._limits = SenderLimits()
        self._feed_limit = FeedLimit(all_tasks=feed)
        self._refused = False  # whether a refused message was logged
        self._sent_count = self._outages = 0
        self._reset()
        reset_in_child(self)
        PUBLISHERS.add(self)

    def _reset(self) -> None:
        # Guards everything below, the queue and the sources. The garbage collector may close a generator that
        # reports progress in a thread that holds the lock already.
        self._changed = threading.Condition(threading.RLock())
        self._sending = 0
        self._idle = False
        self._flushing = 0  # how many wait for the queue to be empty
        self._down = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def reset_after_fork(self) -> None:
        """Drop the queue: the parent sends it."""
        self._queue.clear()
        self._queue.dropped = self._sent_count = self._outages = 0
        self._sources.reset_after_fork()
        self._limits = SenderLimits()
        self._feed_limit = FeedLimit(all_tasks=self._feed_limit.all_tasks)
        self._reset()

    @property
    def dropped(self) -> int:
        """How many messages could not be sent and were left out."""
        return self._queue.dropped

    def counts(self) -> PublisherCounts:
        """Return what it counts. Any thread may call it."""
        return PublisherCounts(
            self._unsent, self._queue.held, self._sent_count, self._queue.dropped, self._outages
        )

    def takes(self, payload: bytes) -> bool:
        """Whether `payload` is not too large."""
        try:
            check_payload(payload, self._transport.max_payload)
        except ValueError:
            return False
        return True

    def put(self, publication: Publication) -> None:
        """Queue a message. Never waits; raises `ValueError` for a payload that is too large."""
        publication.payload = check_payload(publication.payload, self._transport.max_payload)
        change = publication.change
        with self._changed:
            if change is not None and not change.entry:
                latest = self._sources.ask(publication.topic)
                if latest is not None:
                    self._feed_limit.append_to(self._queue, latest)
            if self._limits.takes(publication):
                for held, stands_for in self._limits.held(publication.topic):
                    self._feed_limit.append_to(self._queue, held, stands_for)
                self._feed_limit.append_to(self._queue, publication)
                self._wake()
            else:
                self._queue.dropped += self._limits.hold(publication)

    def watch(self, topic: str, source: Source) -> None:
        """Send the messages of `source`: now if it is due, and whenever it is due while it is `waiting`.

        It is also asked before the next message that changes the state of `topic`, so that its last message
        is not late.
        """
        with self._changed:
            latest = self._sources.add(topic, source)
            if latest is not None:
                self._feed_limit.append_to(self._queue, latest)
            self._wake()

    def _wake(self) -> None:
        """Make the thread check the queue and the sources. Requires holding `_changed`."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="bridge-publisher", daemon=True)
            thread.start()  # if it cannot, the next message tries again
            self._thread = thread
        if self._idle:
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until all is sent; return whether it is.

        Returns at once while the backend is out of reach: an outage is waited for once, not by every task.
        Does not wait for topics that a transaction of others holds.
        """
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._down or not self._is_busy, timeout)
            self._flushing -= 1
            sent = not self._unsent
            if self._is_busy and not self._down:
                self._go_down(f"no answer within {timeout:g} s")
            return sent

    @property
    def _unsent(self) -> int:
        return len(self._queue) + self._sending

    @property
    def _is_busy(self) -> bool:
        """Whether something can be sent now. What a transaction of others holds up cannot."""
        return bool(self._sending or self._queue.is_ready())

    @property
    def down(self) -> bool:
        """Whether the backend was out of reach when it was last tried."""
        return self._down

    def close(self) -> None:
        """Send what waits if the backend can be reached, then stop."""
        self.flush(1.0)
        with self._changed:
            if unsent := self._unsent:
                self._queue.dropped += unsent
                publisher_log.closed_early(unsent)
        self.stop()
        self._transport.close()

    def stop(self) -> None:
        """End the thread, and leave the channel open. What waits may be sent or not. Does not block."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _go_down(self, reason: object) -> None:
        """Requires holding `_changed`."""
        if not self._down:
            self._down = True
            self._outages += 1
            publisher_log.down(reason)
            self._changed.notify_all()

    def _come_up(self) -> None:
        """Requires holding `_changed`."""
        if self._down:
            self._down = False
            publisher_log.up(self.dropped)

    # The thread.

    def _run(self) -> None:
        attempt = 0
        publications: list[Publication] = []
        while self._goes_on():
            if not publications:
                publications = self._take()
                continue
            began = time.monotonic()
            try:
                sent = self._send(publications)
            except TopicsHeld as error:
                self._put_aside(publications, error.topics)
                attempt, publications = 0, []
                continue
            except PublishError as error:
                attempt = self._wait_out(error, attempt)
                _mark_repeated(publications)
                continue
            # Those that are left were tried too: any of them may have been published.
            attempt, publications = 0, publications[sent:]
            _mark_repeated(publications)
            self._sent(began, len(publications))

    def _put_aside(self, publications: Sequence[Publication], topics: frozenset[str]) -> None:
        """Try what goes to these topics again later. All others of `publications` are published."""
        held = [publication for publication in publications if publication.topic in topics]
        with self._changed:
            self._queue.set_aside(held, ASIDE)
            self._sending = 0
            self._sent_count += len(publications) - len(held)
            self._come_up()
            self._changed.notify_all()

    def _goes_on(self) -> bool:
        """Whether this thread is to go on: gevent carries a copy of it into a forked child."""
        with self._changed:
            return not self._stopped and self._thread is threading.current_thread()

    def _take(self) -> list[Publication]:
        """Wait for messages and take what waits, as far as it goes in one batch."""
        with self._changed:
            for publication in self._sources.ask_due():
                self._feed_limit.append_to(self._queue, publication)
            self._feed_limit.append_due(self._queue)
            if not self._queue.is_ready():
                self._idle = True
                self._changed.wait(self._until_due())  # The loop around this checks again.
                self._idle = False
            # Where no messages are kept, one that is repeated would appear twice: fewer are at risk.
            taken = self._queue.take(BATCH if self._transport.backend.replays else 1, BATCH_BYTES)
            self._sending = len(taken)
            return taken

    def _until_due(self) -> float | None:
        """Return the seconds until there may be a message that nobody puts, `None` if there is none."""
        waits = (self._sources.wait(), self._feed_limit.wait(), self._queue.wait())
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _sent(self, began: float, left: int) -> None:
        with self._changed:
            self._sending = left
            self._come_up()
            if not self._is_busy:
                self._changed.notify_all()
                rest = began + PAUSE - time.monotonic()
                self._changed.wait_for(lambda: self._flushing or self._stopped, max(0.0, rest))

    def _send(self, publications: list[Publication]) -> int:
        """Send some of `publications`; return how many need not be sent any more."""
        try:
            sent = self._transport.publish_many(publications)
            self._sent_count += sent
            return sent
        except MessageRefused as error:
            # It is the first of them: to wait for it would hold up all others.
            self._drop()
            if not self._refused:
                self._refused = True
                publisher_log.refused(publications[0].topic, error)
            return 1
        except PublishError:
            raise
        except Exception as error:
            if len(publications) > 1:
                _mark_repeated(publications)
                return self._send(publications[:1])
            self._drop()
            publisher_log.failed(publications[0].topic, error)
            return 1

    def _drop(self) -> None:
        with self._changed:
            self._queue.dropped += 1

    def _wait_out(self, error: PublishError, attempt: int) -> int:
        with self._changed:
            self._go_down(error)
            self._changed.wait_for(lambda: self._stopped, backoff(attempt))
        return attempt + 1


def _mark_repeated(publications: Iterable[Publication]) -> None:
    for publication in publications:
        publication.repeated = True
