"""The row of a topic while a transaction has it locked."""

from dataclasses import dataclass

COLUMNS = ("id", "key", "epoch", "number", "mark", "oldest", "swept", "upkeep", "rank", "entries")
"""The columns of a topic that a transaction reads and writes."""


@dataclass(slots=True)
class Held:
    """The row of a topic that this transaction has locked, as the transaction is to write it."""

    id: int
    key: str
    epoch: str
    number: int
    mark: int
    oldest: int
    swept: int
    upkeep: int
    rank: int
    entries: int
    has_forgotten: bool = False
    """Whether it lacks a message that was confirmed and should still be kept."""
    measured: bool = False
    """Whether the bytes of its messages are to be added up."""
    entries_measured: bool = False
    """Whether the bytes of its entries are to be added up."""
    number_before: int = 0
    entries_before: int = 0

    def __post_init__(self) -> None:
        self.number_before, self.entries_before = self.number, self.entries
