"""The texts that wait for viewers, and about how many bytes they take. No I/O, no locks."""

import weakref
from collections import deque

from bridge.streams.backlog import ENTRY_BYTES
from bridge.streams.rendering import LargeText, Text

TEXT_BYTES = 200
"""What a text takes beside its bytes."""


class WaitingTexts:
    """Counts texts, each once, from when they begin to wait until no viewer has them any more.

    Only the loop's thread calls it. The last viewer may let go of a text in any thread.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._gone: deque[int] = deque()  # the sizes of texts that no viewer has any more; any thread appends
        self.grown = 0
        """Bytes that began to wait. The owner sets it back."""

    def add(self, text: Text | LargeText) -> None:
        """Note that one more viewer waits for `text`."""
        self.grown += ENTRY_BYTES
        if not text.counted:
            text.counted = True
            size = text.size + TEXT_BYTES
            self._bytes += size
            self.grown += size
            weakref.finalize(text, self._gone.append, size).atexit = False

    @property
    def size(self) -> int:
        """The bytes of all texts that wait."""
        while self._gone:
            self._bytes -= self._gone.popleft()
        return self._bytes
