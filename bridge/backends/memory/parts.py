"""The parts of a canvas in memory: their counts, how far each is, and the rows to show."""

from bridge.model.counts import Counts, Reached, importance_of, messages
from bridge.model.publication import Part, Publication
from bridge.model.state import MAX_ROWS


class Parts:
    """The parts of one canvas. Not thread-safe: the store calls it with its lock held."""

    def __init__(self) -> None:
        self.counts: Counts | None = None
        """`None` until a part was counted."""
        self._reached: dict[str, Reached] = {}
        self._rows: dict[str, tuple[int, bytes]] = {}  # by the name of the part: importance and row

    @property
    def rows(self) -> list[bytes]:
        """The rows of the parts. The row that changed last is at the end."""
        return [row for _, row in self._rows.values()]

    def count(self, publication: Publication, part: Part) -> list[Publication]:
        """Count `part`. Return the messages to publish, none if nothing has changed."""
        before = self._reached.get(part.name, Reached())
        after = before.advanced(part)
        if after is None:
            return []
        counts = self.counts or Counts()
        self.counts = counts.count(part, before, after)
        self._reached[part.name] = after
        if part.name:
            self._show(part.name, importance_of(after.stage), part.row)
        if self.counts.complete:
            self._reached.clear()  # The state of the canvas refuses later messages.
        return messages(publication, part, counts, self.counts)

    def _show(self, name: str, importance: int, row: bytes) -> None:
        """Keep the row of a part. If there are too many, it replaces the oldest of the least importance."""
        if name not in self._rows and len(self._rows) >= MAX_ROWS:
            least = min(self._rows, key=lambda shown: self._rows[shown][0])
            if self._rows[least][0] > importance:
                return
            del self._rows[least]
        self._rows.pop(name, None)
        self._rows[name] = importance, row
