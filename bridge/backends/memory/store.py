"""All topics of one store, as a server would have them."""

import threading
import time
from collections.abc import Sequence

from bridge.backends.base import PAGE_BYTES, Attached, Listed, States
from bridge.backends.memory.members import Members
from bridge.backends.memory.topic import Put, StoredState, TopicLog
from bridge.model.counts import Counts
from bridge.model.position import ORIGIN, Position
from bridge.model.publication import MAX_MEMBERS, Publication
from bridge.model.state import END, Retention, TopicState
from bridge.support.fork import reset_in_child

_UNLISTED = "\0"
"""The group of topics that are listed in no group. As many ended topics of it are kept as of a group."""


class Store:
    """The logs and states of topics, and the members of groups. Readers and publishers share it."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        # Guards everything below, and the queues of the listeners.
        self.lock = threading.Lock()
        self._logs: dict[str, TopicLog] = {}
        self._states: dict[str, StoredState] = {}
        self._members: dict[str, Members] = {}
        self._listings: dict[str, set[str]] = {}  # the groups that list a topic

    def log(self, topic: str) -> TopicLog:
        """Return the log of `topic`. Create it if it does not exist. Requires holding `lock`."""
        return self._logs.get(topic) or self._logs.setdefault(topic, TopicLog(topic))

    def names(self) -> list[str]:
        """Return the names of all topics to which something was published. Requires holding `lock`."""
        return [name for name, log in self._logs.items() if log.end != ORIGIN]

    def publish(self, publication: Publication, retention: Retention) -> Position | None:
        """Publish a message and its follow-up. Return its position, or `None` if its change is refused."""
        topic, position = publication.topic, None
        with self.lock:
            if publication.change is None:
                position = self.log(topic).append(publication, None, retention)
            else:
                state = self._states.setdefault(topic, StoredState(topic))
                admitted = state.admit(publication)
                counts = None if publication.part is None else state.counts
                for each in admitted:
                    position = self._publish_change(state, each, counts, retention)
            self._sweep(retention)
        return position

    def _publish_change(
        self, state: StoredState, publication: Publication, counts: Counts | None, retention: Retention
    ) -> Position:
        """Publish a message with a change. Requires holding `lock`."""
        change, topic = publication.change, publication.topic
        assert change is not None, "only a change is admitted"
        state.apply(publication)
        is_listed = False
        for group, most in change.groups:
            if most:
                self._list(topic, group, most)
                is_listed = True
            self.log(group).append(publication, counts, retention)
        if not is_listed:
            self._list(topic, _UNLISTED, MAX_MEMBERS)
        return self.log(topic).append(publication, counts, retention)

    def _sweep(self, retention: Retention) -> None:
        """Remove the oldest topic, if everything in it has expired. Requires holding `lock`."""
        name, log = next(iter(self._logs.items()), ("", None))
        if log is None:
            return
        del self._logs[name]
        now, members = time.monotonic(), self._members.get(name) or ()
        seconds = retention.unended if members or self._is_unended(name) else retention.seconds
        if (
            log.readers
            or log.durable
            or log.renewed_at >= now - seconds
            or any(map(self._is_unended, members))
        ):
            self._logs[name] = log
            log.forget(retention, now)
        else:
            self._states.pop(name, None)
            self._members.pop(name, None)
            for member in members:
                self._unlist(member, name)
            for group in self._listings.pop(name, ()):
                self._members[group].discard(name)

    def _is_unended(self, topic: str) -> bool:
        """Return whether the topic has a state that is no end. Requires holding `lock`."""
        state = self._states.get(topic)
        return state is not None and 0 <= state.rank < END

    def renew(self, topics: Sequence[str]) -> None:
        """Start the retention of those of `topics` that have not ended, or are groups, again."""
        with self.lock:
            for topic in topics:
                if self._is_unended(topic) or topic in self._members:
                    self.log(topic).renewed_at = time.monotonic()

    def _list(self, topic: str, group: str, most: int) -> None:
        """List the topic in the group. A full group loses its oldest members. Requires holding `lock`."""
        members = self._members.get(group)
        if members is None:
            members = self._members[group] = Members()
        if topic in members:
            return
        self._listings.setdefault(topic, set()).add(group)
        for oldest in members.add(topic, most, self._bytes_of):
            if self._unlist(oldest, group) or self._is_unended(oldest):
                continue
            self._states.pop(oldest, None)
            log = self.log(oldest)
            if not log.readers and not log.durable:
                del self._logs[oldest]

    def _bytes_of(self, topic: str) -> int:
        """Return how many bytes were published to the topic and are kept. Requires holding `lock`."""
        state, log = self._states.get(topic), self._logs.get(topic)
        return (0 if state is None else state.bytes) + (0 if log is None else log.bytes)

    def _unlist(self, topic: str, group: str) -> bool:
        """Note that a group lists the topic no more. Return whether another one does. Requires `lock`."""
        groups = self._listings.get(topic, set())
        groups.discard(group)
        if not groups:
            self._listings.pop(topic, None)
        return bool(groups)

    def listed(self, group: str, number: int | None, limit: int) -> Listed:
        """Return a page of the members of a group, which are older than `number`. Requires `lock`."""
        members = self._members.get(group)
        found = [] if members is None else members.before(number, limit + 1)
        page: list[TopicState] = []
        size, more = 0, None
        for place, (number_of, name) in enumerate(found, 1):
            if name in self._states:
                page.append(self._states[name].read(with_entries=False))
                size += page[-1].size
            if place < len(found) and (size >= PAGE_BYTES or place == limit):
                more = str(number_of)
                break
        return Listed(page, more)

    def count_listed(self, group: str) -> int:
        """Return how many members a group has. Requires holding `lock`."""
        return len(self._members.get(group) or ())

    def states(self, topic: str, after: str | None) -> States:
        """Return a page of the state of `topic` and its members. Requires holding `lock`."""
        members = self._members.get(topic)
        # A name that is missing was the oldest member. All older ones have been removed too.
        names = [] if members is None else members.newest(None if after == topic else after)
        if after is None:
            names.insert(0, topic)
        page: list[TopicState] = []
        size, more = 0, None
        for place, name in enumerate(names, 1):
            if name in self._states:
                page.append(self._states[name].read())
                size += page[-1].size
            if size >= PAGE_BYTES and place < len(names):
                more = name
                break
        return States(topic, page, self.log(topic).end, after, more)

    def field(self, topic: str, name: str) -> bytes | None:
        """Return one field of the state of `topic`. Requires holding `lock`."""
        state = self._states.get(topic)
        return None if state is None else state.fields.get(name)

    def remove_fields(self, topic: str, names: Sequence[str]) -> None:
        """Remove fields of the state of `topic`. Requires holding `lock`."""
        state = self._states.get(topic)
        if state is not None:
            for name in names:
                state.fields.pop(name, None)

    def attach(self, put: Put, topic: str) -> None:
        """Call `put` with `Attached`, and with each message of `topic` from now on."""
        with self.lock:
            log = self.log(topic)
            log.readers.append(put)
            put(Attached(topic, log.end))

    def detach(self, put: Put, topic: str) -> None:
        """Undo `attach`."""
        with self.lock:
            log = self.log(topic)
            if put in log.readers:
                log.readers.remove(put)
            if not log.readers and not log.durable and log.end == ORIGIN:
                del self._logs[topic]
