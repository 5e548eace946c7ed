"""Counts of the parts of a canvas: how far each is, and what they amount to."""

import re
from collections.abc import Sequence
from dataclasses import replace

from bridge.model.state import ENDED_WELL, MAX_LINES, RUNNING, WAITING, Change, Part


class Sums:
    """What has been counted of a whole in all."""

    def __init__(self, done: int = 0, stages: Sequence[int] = (0, 0, 0, 0, 0), size: int = 0) -> None:
        self.done = done
        self.stages = list(stages)
        self._size = size
        self._turns = False

    def count(self, part: Part, held: tuple[int, int]) -> tuple[int, int] | None:
        """Take `part` into account, of which stage and value were `held`; return both, `None` if no news."""
        stage, value = held
        if stage >= ENDED_WELL or (part.stage <= stage and part.value <= value):
            return None
        self._size = part.size or self._size
        first = not any(self.stages[RUNNING:])
        if part.name:
            self.stages[stage] -= 1
            self.done -= value
        stage, value = max(stage, part.stage), max(value, part.value)
        if part.name:
            self.stages[stage] += 1
            self.done += value
        self.stages[WAITING] = self._size - self._heard_of if self._size else 0
        self._turns = first if stage == RUNNING else 0 < self._size <= self.ended
        return stage, value

    @property
    def ended(self) -> int:
        return sum(self.stages[ENDED_WELL:])

    @property
    def _heard_of(self) -> int:
        return sum(self.stages[RUNNING:])

    def messages(self, payload: bytes, change: Change, part: Part) -> list[tuple[bytes, Change]]:
        """Return what is to be published now that `part` is counted."""
        worst = max(stage for stage in range(ENDED_WELL, 5) if self.stages[stage] or stage == ENDED_WELL)
        percent = self.done // self._size / 100 if self._size else 0.0
        figures = [self.ended, f"{percent:.2f}", part.endings[worst - ENDED_WELL]]
        total = self._size or self._heard_of
        marks = [str(figure).encode() for figure in (*figures, *self.stages, total)]
        messages = [(payload, change)]
        if part.turn is not None and self._turns:
            messages.insert(part.stage != RUNNING, part.turn)
        return [_pasted(*message, marks) for message in messages]


class Tally:
    """A whole in the memory of a process: its sums, its parts and their lines; not for several threads."""

    def __init__(self) -> None:
        self._sums = Sums()
        self._parts: dict[str, tuple[int, int]] = {}
        self._lines: dict[str, tuple[int, bytes]] = {}

    def admit(self, payload: bytes, change: Change, part: Part) -> list[tuple[bytes, Change]]:
        """Take `part` into account and return what is to be published: nothing if it is no news."""
        counted = self._sums.count(part, self._parts.get(part.name, (WAITING, 0)))
        if counted is None:
            return []
        self._parts[part.name] = counted
        if part.name:
            self._show(part.name, importance_of(counted[0]), part.line)
        messages = self._sums.messages(payload, change, part)
        if any(told.final for _, told in messages):
            self._parts.clear()  # whatever is said from now on is refused
        return messages

    def _show(self, name: str, importance: int, line: bytes) -> None:
        """Keep the line of a part, if need be in place of the oldest of the least importance."""
        if name not in self._lines and len(self._lines) >= MAX_LINES:
            least = min(self._lines, key=lambda shown: self._lines[shown][0])
            if self._lines[least][0] > importance:
                return
            del self._lines[least]
        self._lines.pop(name, None)
        self._lines[name] = importance, line

    @property
    def lines(self) -> list[bytes]:
        return [line for _, line in self._lines.values()]


def importance_of(stage: int) -> int:
    """Return how much the line of a part at this stage matters."""
    return {RUNNING: 1, ENDED_WELL: 0}.get(stage, 2)


def _pasted(payload: bytes, change: Change, marks: Sequence[bytes]) -> tuple[bytes, Change]:
    def paste(text: bytes) -> bytes:
        return re.sub(rb"[\x01-\x09]", lambda mark: marks[mark[0][0] - 1], text)

    fields = {paste(name.encode()).decode(): paste(value) for name, value in change.fields.items()}
    return paste(payload), replace(change, fields=fields)
