"""The messages that wait to be published: bounded in number and in bytes, with a fair share for each topic.

An entry is a message that joins the list of entries in the state of its topic: steps, logs and custom events.
If there is too much, the topic with the most entries loses the older half of its own. One message in their
place says how many they were. Messages of other topics stay.

Progress replaces the progress of the same task that waits just before it.
"""

import itertools
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.model.publication import Change, Publication
from bridge.support.memory import BUDGET
from bridge.tasks.changes import left_out

LIMIT = 10_000
"""Messages that may wait."""

LIMIT_BYTES = 64 * 1024 * 1024
"""Bytes that may wait, or the share of the memory budget if that is less."""

MESSAGE_BYTES = 1000
"""What a message takes beside its payload and its fields."""

FEW = 4
"""A topic with fewer entries leaves none out: the message about them would take as much."""


@dataclass(slots=True)
class _Waiting:
    publication: Publication
    number: int
    """Orders all messages of the queue."""
    size: int
    stands_for: int = 0
    """How many entries this message replaces."""

    @property
    def is_loose(self) -> bool:
        """Whether it is an entry that may be left out."""
        change = self.publication.change
        return not self.stands_for and change is not None and change.entry


class _TopicQueue(deque[_Waiting]):
    """The messages of one topic, the oldest first."""

    loose = loose_bytes = 0
    """The number of its entries that may be left out, and their bytes."""

    def note(self, waiting: _Waiting, sign: int) -> None:
        """Count a message that is added, or with a `sign` of -1 removed."""
        if waiting.is_loose:
            self.loose += sign
            self.loose_bytes += sign * waiting.size


class PublishQueue:
    """A queue of messages. Not thread-safe: its user has a lock. Any thread may read `held`."""

    kind = "unpublished"
    share = 0.25

    def __init__(self) -> None:
        self.dropped = 0
        """Messages that were left out since the process began."""
        self._numbers = itertools.count()
        self.clear()
        BUDGET.add(self)

    def clear(self) -> None:
        """Forget all messages. They do not count as left out."""
        self._topics: OrderedDict[str, _TopicQueue] = OrderedDict()
        self._count = 0
        self.held = 0
        """Bytes that wait."""
        self._set_aside: dict[str, float] = {}
        """By topic: until when nothing of it is taken; from `time.monotonic`."""

    def shed(self, _most: int) -> None:
        """Do nothing: what waits is within the share already, and its sender would lose it."""

    def __len__(self) -> int:
        return self._count

    def append(self, publication: Publication, *, stands_for: int = 0, within: str | None = None) -> None:
        """Add a message, and leave out others if there are too many.

        It stands for `stands_for` entries that are left out already, and counted in `dropped`. It keeps its
        place among the messages of the topic `within`, by default its own.
        """
        topic = publication.topic if within is None else within
        waiting = _Waiting(publication, next(self._numbers), _size(publication), stands_for)
        queue = self._topics.get(topic)
        if queue is None:
            queue = self._topics[topic] = _TopicQueue()
        if queue and _replaces(publication, queue[-1].publication):
            self._pop(queue, last=True)
        queue.append(waiting)
        queue.note(waiting, 1)
        self._count += 1
        self.held += waiting.size
        if self._count > LIMIT or self.held > LIMIT_BYTES // 4:
            most = min(LIMIT_BYTES, int(BUDGET.limit * self.share))
            if self._count > LIMIT or self.held > most:
                self._make_room(LIMIT * 7 // 8, most * 7 // 8)

    def take(self, most: int, most_bytes: int = LIMIT_BYTES) -> list[Publication]:
        """Remove and return messages, in the order in which they came.

        If not all fit, each topic in turn gives its oldest, so none waits for the many of another.
        """
        later = {topic: self._topics.pop(topic) for topic in self._topics.keys() & self._later().keys()}
        taken: list[_Waiting] = []
        size = 0
        while self._topics and len(taken) < most and size < most_bytes:
            topic, queue = self._topics.popitem(last=False)
            taken.append(self._pop(queue))
            size += taken[-1].size
            if queue:
                self._topics[topic] = queue
        self._topics.update(later)
        taken.sort(key=lambda waiting: waiting.number)
        return [waiting.publication for waiting in taken]

    def set_aside(self, publications: Sequence[Publication], seconds: float) -> None:
        """Put messages back in front of their topics, of which nothing is taken for `seconds`."""
        until = time.monotonic() + seconds
        for publication in reversed(publications):
            # Before all that wait, and before those that were put back earlier.
            waiting = _Waiting(publication, -next(self._numbers), _size(publication))
            queue = self._topics.setdefault(publication.topic, _TopicQueue())
            queue.appendleft(waiting)
            queue.note(waiting, 1)
            self._count += 1
            self.held += waiting.size
            self._set_aside[publication.topic] = until

    def _later(self) -> dict[str, float]:
        """Return the topics of which nothing is taken now."""
        if self._set_aside:
            now = time.monotonic()
            self._set_aside = {topic: until for topic, until in self._set_aside.items() if until > now}
        return self._set_aside

    def is_ready(self) -> bool:
        """Whether there are messages to take."""
        later = self._later()
        return bool(self._topics) and (not later or not self._topics.keys() <= later.keys())

    def wait(self) -> float | None:
        """Return the seconds until a topic that was set aside is ready, `None` if there is none."""
        later = self._later()
        return max(0.0, min(later.values()) - time.monotonic()) if later else None

    def _pop(self, queue: _TopicQueue, *, last: bool = False) -> _Waiting:
        waiting = queue.pop() if last else queue.popleft()
        queue.note(waiting, -1)
        self._count -= 1
        self.held -= waiting.size
        return waiting

    def _make_room(self, most: int, most_bytes: int) -> None:
        """Leave out entries of the topics that have the most, else the oldest messages."""
        while self._count > most or self.held > most_bytes:
            queue = max(
                self._topics.values(),
                key=lambda queue: (queue.loose >= FEW, queue.loose / most + queue.loose_bytes / most_bytes),
            )
            if queue.loose < FEW:
                break
            self._leave_out(queue)
        if self._count > most or self.held > most_bytes:
            self._drop_oldest(most, most_bytes)

    def _leave_out(self, queue: _TopicQueue) -> None:
        """Replace the older half of the entries of a topic by one message."""
        surplus = queue.loose // 2
        kept: list[_Waiting] = []
        removed: list[_Waiting] = []
        place = 0
        while surplus:
            waiting = self._pop(queue)
            if not (waiting.is_loose or waiting.stands_for):
                kept.append(waiting)
                continue
            surplus -= waiting.is_loose
            place = place if removed else len(kept)
            removed.append(waiting)
        self.dropped += sum(waiting.is_loose for waiting in removed)
        count = sum(waiting.stands_for or 1 for waiting in removed)
        changes = [found for waiting in removed if (found := waiting.publication.change) is not None]
        notice = left_out(removed[0].publication.topic, count, changes)
        kept.insert(place, _Waiting(notice, removed[0].number, _size(notice), count))
        queue.extendleft(reversed(kept))
        self._count += len(kept)
        self.held += sum(waiting.size for waiting in kept)

    def _drop_oldest(self, most: int, most_bytes: int) -> None:
        oldest = sorted((waiting.number, topic) for topic, queue in self._topics.items() for waiting in queue)
        for _, topic in oldest:
            if self._count <= most and self.held <= most_bytes:
                break
            self._pop(self._topics[topic])
            self.dropped += 1
        for topic in [topic for topic, queue in self._topics.items() if not queue]:
            del self._topics[topic]


def _replaces(later: Publication, earlier: Publication) -> bool:
    """Whether progress of a task replaces what waits before it. It then goes where that was to go.

    Messages for the feeds alone have no change, and the progress of a canvas tells which parts begin and end.
    """
    if later.type != "progress" or earlier.type != "progress" or earlier.repeated:
        return False
    if later.change is None or earlier.change is None or later.part is not None or earlier.part is not None:
        return False
    later.change.groups = later.change.groups or earlier.change.groups
    return True


def _size(publication: Publication) -> int:
    """Return about how many bytes a message takes while it waits."""
    size = MESSAGE_BYTES + len(publication.payload) + _size_of_fields(publication.change)
    if publication.part is not None:
        follow_up = publication.part.follow_up
        size += len(publication.part.row) + (0 if follow_up is None else _size(follow_up))
    return size


def _size_of_fields(change: Change | None) -> int:
    values: Iterable[bytes] = () if change is None else change.fields.values()
    return sum(map(len, values))
