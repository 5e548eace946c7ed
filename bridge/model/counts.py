"""Counts of the parts of a canvas: how many there are, how many are at which stage, how much is done.

A backend stores the payload of a counted message and the counts beside each other, the counts as text:
`size done running succeeded revoked failed`. A reader gets the payload with the figures in it. This module
knows only that the payload is a JSON object with members, and without those that the counts add.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from bridge.model.publication import Part, Publication

WAITING, RUNNING, SUCCEEDED, REVOKED, FAILED = range(5)
"""The stages of a part. The last three are endings, the worst last."""

ENDINGS = ("SUCCESS", "REVOKED", "FAILURE")
"""The states of a canvas whose worst ending is `SUCCEEDED`, `REVOKED` or `FAILED`."""

DONE = 10_000
"""The value of a part that has succeeded."""


class Reached(NamedTuple):
    """The stage and the value of a part."""

    stage: int = WAITING
    value: int = 0

    def advanced(self, part: Part) -> "Reached | None":
        """Return how far the part is after a message about it, `None` if it has not changed."""
        if self.stage >= SUCCEEDED or (part.stage <= self.stage and part.value <= self.value):
            return None
        return Reached(max(self.stage, part.stage), max(self.value, part.value))


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of the parts of a canvas."""

    size: int = 0
    """The number of parts of the canvas, 0 if it is not known."""
    done: int = 0
    """The sum of the values of the parts."""
    running: int = 0
    succeeded: int = 0
    revoked: int = 0
    failed: int = 0

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Return the counts from their text form. Raises `ValueError` or `TypeError` for other text."""
        size, done, running, succeeded, revoked, failed = map(int, text.split())
        return cls(size, done, running, succeeded, revoked, failed)

    def __str__(self) -> str:
        return f"{self.size} {self.done} {self.running} {self.succeeded} {self.revoked} {self.failed}"

    @property
    def ended(self) -> int:
        """How many parts have ended."""
        return self.succeeded + self.revoked + self.failed

    @property
    def total(self) -> int:
        """How many parts the canvas has. While the size is unknown: how many have started or ended."""
        return self.size or self.running + self.ended

    @property
    def waiting(self) -> int:
        """How many parts have not started, as far as it is known."""
        return self.total - self.running - self.ended

    @property
    def percent(self) -> float:
        """How much of the canvas is done, rounded down to two decimals; 0 while the size is unknown."""
        return self.done // self.size / 100 if self.size else 0.0

    @property
    def worst(self) -> int:
        """The stage of the worst ending so far, `SUCCEEDED` if there is none."""
        return FAILED if self.failed else REVOKED if self.revoked else SUCCEEDED

    @property
    def complete(self) -> bool:
        """Whether all parts have ended."""
        return 0 < self.size <= self.ended

    def count(self, part: Part, before: Reached, after: Reached) -> "Counts":
        """Return the counts after `part` went from `before` to `after`."""
        size = part.size or self.size
        if not part.name:
            return replace(self, size=size)
        at = [0, self.running, self.succeeded, self.revoked, self.failed]
        at[before.stage] -= 1
        at[after.stage] += 1
        return Counts(size, self.done + after.value - before.value, *at[RUNNING:])

    def append_to(self, payload: bytes, event_type: str | None) -> bytes:
        """Return `payload` with the figures as its last members.

        These are `current`, `total`, `percent` and `parts` if `event_type` is `"progress"`, otherwise
        `parts`, and `state` where all parts have ended.
        """
        members = (
            f'"parts":{{"waiting":{self.waiting},"running":{self.running},"succeeded":{self.succeeded},'
            f'"revoked":{self.revoked},"failed":{self.failed}}}'
        )
        if event_type == "progress":
            figures = f'"current":{self.ended},"total":{self.total},"percent":{self.percent:.2f}'
            members = f"{figures},{members}"
        elif self.complete:
            members = f'"state":"{ENDINGS[self.worst - SUCCEEDED]}",{members}'
        return b"%s,%s}" % (payload[:-1], members.encode())


def parse_counts(text: str | bytes | None) -> Counts | None:
    """Return the counts from their text form, `None` from no text."""
    return Counts.parse(text) if text else None


def messages(publication: Publication, part: Part, before: Counts, after: Counts) -> list[Publication]:
    """Return what to publish, in order, when `part` of `publication` changes the counts."""
    if part.follow_up is None:
        return [publication]
    if part.stage == RUNNING:
        is_first = not (before.running or before.ended)
        return [part.follow_up, publication] if is_first else [publication]
    return [publication, part.follow_up] if after.complete else [publication]


def importance_of(stage: int) -> int:
    """Return the importance of the row of a part at this stage. A backend keeps `MAX_ROWS` of a canvas."""
    return {RUNNING: 1, SUCCEEDED: 0}.get(stage, 2)
