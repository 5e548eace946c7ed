"""What a backend must do: the hub and the channel know nothing else of it.

A backend is the publishing side, which all threads of a process share. A listener is one reading connection.
Only the hub's thread calls it, except for `wake`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

from bridge.errors import PublishError
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import TopicState


class TopicsHeld(PublishError):
    """Transactions of others hold some topics. All publications of other topics are published, none of these.

    `publish_many` raises it. Publish to these topics again later.
    """

    def __init__(self, text: str, topics: frozenset[str]) -> None:
        super().__init__(text)
        self.topics = topics


@dataclass(frozen=True, slots=True)
class Attached:
    """Confirms that every message of `topic` published from now on will be delivered."""

    topic: str
    position: Position | None = None
    """Where the topic is at this point; `None` if the backend keeps no messages."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The current position of a topic. Compared from time to time, it shows that a wake-up was lost."""

    topic: str
    position: Position


@dataclass(frozen=True, slots=True)
class History:
    """The messages of `topic` from the requested position on, including that one, without a hole."""

    topic: str
    messages: Sequence[Message]
    end: Position
    """Where the topic is at this point."""
    complete: bool
    """Whether `messages` contains everything up to `end`."""
    oldest: int
    """The number of the oldest message that is kept, `end.number + 1` if none is."""


@dataclass(frozen=True, slots=True)
class Refused:
    """This connection may not read `topic`, and no longer reads it. `error` has the reason."""

    topic: str
    error: str


@dataclass(frozen=True)
class States:
    """A page of the state of `topic`: its own, and for a group those of its members.

    It is the state at `position`: it contains what was published up to there, and nothing later. If the
    backend keeps no messages, its place among the messages shows this instead.
    """

    topic: str
    states: Sequence[TopicState]
    position: Position | None = None
    """Where the topic is at this point; `None` if the backend keeps no messages."""
    after: str | None = None
    """The requested page: the one after this name, or the first one."""
    more: str | None = None
    """The argument `after` for the next page, or `None` if this is the last one."""

    @cached_property
    def size(self) -> int:
        """About how many bytes it holds."""
        return sum(state.size for state in self.states)


class TopicNames(NamedTuple):
    """Names of topics."""

    names: list[str]
    """In order."""
    complete: bool
    """Whether there are no others."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of the members of a group, the newest first."""

    states: Sequence[TopicState]
    """The states of the members, without their entries and rows."""
    more: str | None
    """The argument `before` for the next page, or `None` if this is the last one. A page may be empty, and
    yet not the last one."""


ListenerEvent = Message | Attached | Refused | Seen | History | States
Item = Message | States
"""What a reader gets."""

PAGE_BYTES = 1024 * 1024
"""The approximate size of a page of history or state in bytes."""


def size_of(item: Item) -> int:
    """Return about how many bytes `item` takes."""
    return item.size if isinstance(item, States) else len(item) + 64


class Listener(Protocol):
    """One reading connection. If a method raises `ConnectionLost`, close it and open another."""

    def attach(self, topic: str) -> None:
        """Begin to read `topic`. `Attached` or `Refused` follows."""
        ...

    def detach(self, topic: str) -> None:
        """Stop reading `topic`."""
        ...

    def request_state(self, topic: str, after: str | None) -> None:
        """Request a page of the state of `topic`, which is attached. `States` or `Refused` follows.

        `after` is `None` for the first page, otherwise the value of `more` in the page before.
        """
        ...

    def request_history(self, topic: str, start: Position) -> None:
        """Request the messages of `topic` from `start` on, by number and by mark.

        `History` or `Refused` follows. It has about `PAGE_BYTES` at most, but at least two messages, because
        the reader may already have the first one.
        """
        ...

    def poll(self) -> Sequence[ListenerEvent]:
        """Wait for events or a call of `wake`. Return the events in order."""
        ...

    def wake(self) -> None:
        """Make the current or the next `poll` return at once. Any thread may call it."""
        ...

    def close(self) -> None:
        """Close the connection. Must not disturb a parent process that has the same connection."""
        ...


class Backend(Protocol):
    """Carries messages between processes. Threads may share it."""

    replays: bool
    """Whether it keeps messages. If not, the methods that read them are not called."""

    def publish(self, publication: Publication) -> Position | None:
        """Publish a message and apply its change in one atomic step.

        Returns the message's position, `None` if the backend keeps no positions or refuses the change; a
        refused change publishes nothing. A message that is `repeated` and was already published is not
        published again, where the backend keeps messages. Raises `PublishError`.
        """
        ...

    def publish_many(self, publications: Sequence[Publication]) -> int:
        """Publish messages in order, in as few round trips as possible. Return how many are published.

        If these are not all, or if it raises `PublishError`, any of the others may have been published. Mark
        those as `repeated` and publish them again.
        """
        ...

    def history(self, topic: str, limit: int) -> list[Message]:
        """Return the last `limit` messages kept, the oldest first. Raises `ConnectionLost`."""
        ...

    def acknowledged(self, topic: str, name: str) -> Position:
        """Return the position of the durable reader `name`. A new reader gets the current position."""
        ...

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        """Move the position of a durable reader, back only with `back`. Raises `PublishError`."""
        ...

    def renew(self, topics: Sequence[str]) -> None:
        """Start the retention of `topics` again, unless their state is an end.

        Raises `PublishError`.
        """
        ...

    def states(self, topic: str, after: str | None = None) -> States:
        """Read a page of the state of `topic`, as `Listener.request_state` does. Raises `ConnectionLost`."""
        ...

    def listed(self, group: str, before: str | None, limit: int) -> Listed:
        """Read a page of all members that a group lists: `limit` at most, and about `PAGE_BYTES`.

        `before` is `None` for the first page, otherwise the value of `more` in the page before. Members that
        are added meanwhile do not move the others. Raises `ConnectionLost`, and `ValueError` for a `before`
        of another backend.
        """
        ...

    def count_listed(self, group: str) -> int:
        """Return about how many members a group lists. Raises `ConnectionLost`."""
        ...

    def field(self, topic: str, name: str) -> bytes | None:
        """Read one field of the state of `topic`. Raises `ConnectionLost`."""
        ...

    def remove_fields(self, topic: str, names: Sequence[str]) -> None:
        """Remove fields of the state of `topic`, a few hundred at most. Raises `PublishError`."""
        ...

    def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        ...

    def open_listener(self) -> Listener:
        """Open a reading connection. Raises `ConnectionLost`."""
        ...

    def close(self) -> None:
        """Close every connection except those of listeners."""
        ...


@runtime_checkable
class Transactional(Protocol):
    """A backend that is a database."""

    def publish_within(self, connection: object, publication: Publication) -> Position | None:
        """Publish in the transaction of `connection`. The message exists if it is committed.

        Raises `ConfigurationError` if `connection` is not one to such a database, and `PublishError`.
        """
        ...

    def migrate(self) -> str:
        """Create or upgrade the tables. Return a sentence about the result.

        Raises `ConfigurationError` and `ConnectionLost`.
        """
        ...


@runtime_checkable
class Listing(Protocol):
    """A backend that can list what it keeps. It is called only if the backend replays."""

    def topics(self, limit: int) -> TopicNames:
        """Return the names of at most `limit` topics of the namespace. Raises `ConnectionLost`."""
        ...

    def namespaces(self, topic: str) -> list[str]:
        """Return the namespaces, of any channel there, that have `topic`. Raises `ConnectionLost`."""
        ...
