"""What the hub asks of a backend, and all it knows of one.

A backend is the publishing side, shared by every thread of a process. A reader is one reading connection;
only the hub's own thread calls it, `wake` excepted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import TopicState


@dataclass(frozen=True, slots=True)
class Attached:
    """The backend has confirmed: every message of `topic` published from now on will be delivered."""

    topic: str
    position: Position | None = None
    """Where the topic is at this point; `None` if the backend keeps no messages."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a topic is at this point, compared now and then: so a lost wake-up is found without a message."""

    topic: str
    position: Position


@dataclass(frozen=True, slots=True)
class History:
    """The messages of `topic` kept from the place asked for on, that one included, without a hole."""

    topic: str
    messages: Sequence[Message]
    end: Position
    """Where the topic is at this point."""
    complete: bool
    """Whether `messages` goes on up to `end`."""
    oldest: int
    """The number of the oldest message that is kept, `end.number + 1` if none is."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The backend will not let this connection read `topic`, which it no longer does; `error` says why."""

    topic: str
    error: str


@dataclass(frozen=True)
class States:
    """A page of the state of `topic`: its own, and where it is a group those of its members.

    It is the state at `position`: it holds what was published up to there, and nothing later. Where the
    backend keeps no messages, it stands in the order of the messages instead.
    """

    topic: str
    states: Sequence[TopicState]
    position: Position | None = None
    """Where the topic is at this point; `None` if the backend keeps no messages."""
    after: str | None = None
    """The page that was asked for: the one after this name, or the first."""
    more: str | None = None
    """What to ask the next page with; `None` if this is the last one."""

    @cached_property
    def size(self) -> int:
        """About how many bytes it holds."""
        return sum(state.size for state in self.states)


Event = Message | Attached | Refused | Seen | History | States
Item = Message | States
"""What a subscription holds."""

PAGE_BYTES = 1024 * 1024
"""About how many bytes a page of history or state holds."""


def size_of(item: Item) -> int:
    """Return about how many bytes `item` takes."""
    return item.size if isinstance(item, States) else len(item) + 64


class Listener(Protocol):
    """One reading connection. `ConnectionLost` from any method means: close it and open another."""

    def attach(self, topic: str) -> None:
        """Begin to read `topic`; `Attached` or `Refused` follows."""
        ...

    def detach(self, topic: str) -> None:
        """Stop reading `topic`."""
        ...

    def request_state(self, topic: str, after: str | None) -> None:
        """Ask for a page of the state of `topic`, which is attached; `States` or `Refused` follows.

        `after` is `None` for the first page, else what the page before it says in `more`.
        """
        ...

    def request_history(self, topic: str, start: Position) -> None:
        """Ask for messages of `topic` from `start` on, by number and by mark.

        `History` or `Refused` follows. It has about `PAGE_BYTES` at most, but two messages at least: the
        reader may have the first.
        """
        ...

    def poll(self) -> Sequence[Event]:
        """Wait until something comes or `wake` is called; return what came, in order."""
        ...

    def wake(self) -> None:
        """Make a waiting `poll`, or else the next one, return at once. Any thread may call it."""
        ...

    def close(self) -> None:
        """Let go of the connection. Must not disturb a parent process that has the same connection."""
        ...


class Backend(Protocol):
    """What carries messages between processes."""

    replays: bool
    """Whether it keeps messages; without, the methods that read them are not called."""

    def publish(self, publication: Publication) -> Position | None:
        """Publish a message and apply its change in one atomic step.

        Returns the message's position, `None` if the backend keeps no positions or refuses the change; a
        refused change publishes nothing. A message that is `repeated` and was already published is not
        published again, where the backend keeps messages. Raises `PublishError`.
        """
        ...

    def publish_many(self, publications: Sequence[Publication]) -> int:
        """Publish messages in order, in as few round trips as possible; return how many are published.

        If not all are, or if it raises `PublishError`, any of the others may have been published: mark those
        as `repeated` and publish them again.
        """
        ...

    def history(self, topic: str, limit: int) -> list[Message]:
        """Return the last `limit` messages kept, the oldest first. Raises `ConnectionLost`."""
        ...

    def acknowledged(self, topic: str, name: str) -> Position:
        """Return the place of the durable reader `name`, which is made here and now if it is new."""
        ...

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        """Move the place of a durable reader; only with `back` to an earlier one. Raises `PublishError`."""
        ...

    def renew(self, topics: Sequence[str]) -> None:
        """Keep what there is of `topics` as long as if it had changed now, unless the state is an end.

        Raises `PublishError`.
        """
        ...

    def states(self, topic: str, after: str | None = None) -> States:
        """Read a page of the state of `topic`, as `Reader.request_state` does. Raises `ConnectionLost`."""
        ...

    def field(self, topic: str, name: str) -> bytes | None:
        """Read one field of the state of `topic`. Raises `ConnectionLost`."""
        ...

    def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        ...

    def open_listener(self) -> Listener:
        """Open a reading connection; raises `ConnectionLost` if it cannot."""
        ...

    def close(self) -> None:
        """Close every connection except those of readers."""
        ...


@runtime_checkable
class Transactional(Protocol):
    """A backend that is a database."""

    def publish_within(self, connection: object, publication: Publication) -> Position | None:
        """Publish as a part of the transaction of `connection`: the message exists if it is committed.

        Raises `ConfigurationError` if `connection` is none to such a database, and `PublishError`.
        """
        ...

    def migrate(self) -> str:
        """Make the tables or bring them up to date; return what there is now, in words.

        Raises `ConfigurationError` and `ConnectionLost`.
        """
        ...
