"""After a fork the child must not share the parent's sockets, locks or threads.

The hook runs before any other code of the child, while it has one thread only, so no lock is needed.
"""

import itertools
import os
import weakref
from typing import Protocol


class _Forkable(Protocol):
    def reset_after_fork(self) -> None:
        """Drop what belongs to the parent process; the next use opens afresh."""


_numbers = itertools.count()
_objects: "weakref.WeakValueDictionary[int, _Forkable]" = weakref.WeakValueDictionary()


def reset_in_child(thing: _Forkable) -> None:
    """Have `thing.reset_after_fork()` called in every process forked from this one while it lives.

    In the order of these calls: what uses another thing is reset after it.
    """
    _objects[next(_numbers)] = thing


def _reset_all() -> None:
    for thing in list(_objects.values()):
        thing.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all)
