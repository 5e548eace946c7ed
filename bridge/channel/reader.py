"""The interface of the hub's readers: subscriptions, viewers and the liveness monitor."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self

from bridge.backends.base import Item
from bridge.errors import PositionLost, SubscriptionClosed


class Reader(Protocol):
    """Reads one topic or several through the hub.

    The hub calls `establish` and `room` while it holds its lock, and the others without the lock. No method
    may block, and `establish` and `room` must not call the hub.
    """

    topics: frozenset[str]
    stateful: bool
    """Whether it takes `States`: after its position is lost it goes on from the state of the topic."""
    opens_with_state: bool
    """Whether it begins with the state of its topics, not only with the next message."""

    @property
    def post(self) -> Callable[[Sequence[Self], Sequence[Item]], None]:
        """A function that takes readers and the items for them. The hub calls it once for many readers."""
        ...

    def establish(self, topic: str) -> None:
        """Note that the reader misses nothing of `topic` from now on. May be called again."""
        ...

    def room(self, items: Sequence[Item]) -> int:
        """Return how many of `items`, from the first on, the reader takes now.

        If not all, the reader calls `Hub.has_room` later. A reader for which nothing waits takes at least
        one item, however large it is. Live messages always come: this is for history and states.
        """
        ...

    def fail(self, reason: SubscriptionClosed) -> None:
        """Note that nothing more comes. A plain `SubscriptionClosed` means that the channel was closed."""
        ...

    def reset_after_fork(self) -> None:
        """Note, in a forked child, that the hub of the child knows nothing of this reader."""
        ...


Delivery = tuple[Sequence[Reader], Sequence[Item] | PositionLost]
"""Some readers, and the items they get or the reason for which they are closed."""


def deliver(deliveries: Iterable[Delivery]) -> None:
    """Hand out `deliveries`, each to many readers at once. The hub must not hold its lock."""
    for readers, items in deliveries:
        if isinstance(items, PositionLost):
            for reader in readers:
                reader.fail(items)
            continue
        groups: defaultdict[Callable[[Sequence[Reader], Sequence[Item]], None], list[Reader]]
        groups = defaultdict(list)
        for reader in readers:
            groups[reader.post].append(reader)
        for post, group in groups.items():
            post(group, items)
