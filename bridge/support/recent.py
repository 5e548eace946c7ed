"""A dict that remembers a bounded number of recent keys."""

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(OrderedDict[K, V]):
    """A dict of the `limit` keys that were set last. Older keys are removed.

    Setting a key again makes it the newest. Reading a key does not. Iteration begins with the oldest key.

    Threads may share one without a lock, provided that the keys are plain values such as `str`: every single
    operation is atomic, and a set that races with another removes at most one key too many or too few. Code
    that reads a value, computes a new one and sets it needs a lock of its own.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        try:
            self.move_to_end(key)
            while len(self) > self.limit:
                self.popitem(last=False)
        except KeyError:  # another thread removed the key first
            pass
