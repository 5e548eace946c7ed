"""After a fork the child must not share the parent's sockets, locks or threads.

The hook runs before any other code of the child, while it has one thread only, so no lock is needed.
"""

import os
import weakref
from typing import Protocol


class _Forkable(Protocol):
    def reset_after_fork(self) -> None:
        """Drop what belongs to the parent process; the next use opens afresh."""


_objects: "weakref.WeakSet[_Forkable]" = weakref.WeakSet()


def reset_in_child(thing: _Forkable) -> None:
    """Have `thing.reset_after_fork()` called in every process forked from this one while it lives."""
    _objects.add(thing)


def _reset_all() -> None:
    for thing in list(_objects):
        thing.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all)
