"""What a reader that is not live waits for: history, a page of the state, room in its queue."""

from dataclasses import dataclass
from typing import NamedTuple

from bridge.backends.base import States
from bridge.model.position import Position


class StatePage(NamedTuple):
    """A request for a page of the state: the page after a name, or the first one."""

    after: str | None


@dataclass(slots=True)
class Wait:
    """What a reader needs before it is live."""

    after: Position | None
    """It needs the messages that follow this position. `None`: the state, or else only a connection."""
    gap: bool = False
    """It needs a `Gap` first, because it has missed something."""
    full: bool = False
    """It needs room in its queue."""
    next_page: str | None = None
    """It needs the page of the state after this name. It has got the pages before."""
    page: States | None = None
    """That page. The reader gets it after it has got every message up to the position of the page."""
    is_confirmed: bool = False
    """Whether the backend itself has named `after`, so that the messages that follow it will come live."""

    @property
    def needs_page(self) -> bool:
        """Whether to ask the backend for a page of the state."""
        return not self.full and self.page is None and (self.after is None or self.next_page is not None)

    @property
    def needs_history(self) -> bool:
        """Whether to look for messages that follow `after`."""
        if self.full or self.after is None:
            return False
        return self.next_page is None if self.page is None else self.after != self.page.position
