"""After a fork the child must not share the parent's sockets, locks or threads.

The hook runs before any other code of the child, while it has one thread only, so no lock is needed.
"""

import itertools
import os
import weakref
from typing import Protocol


class _Forkable(Protocol):
    def reset_after_fork(self) -> None:
        """Drop what belongs to the parent process. The next use opens it again."""


_numbers = itertools.count()
_objects: "weakref.WeakValueDictionary[int, _Forkable]" = weakref.WeakValueDictionary()


def reset_in_child(thing: _Forkable) -> None:
    """Call `thing.reset_after_fork()` in every process that is forked from this one while `thing` exists.

    The order is that of the calls of this function, so an object is reset after those that it uses.
    """
    _objects[next(_numbers)] = thing


def _reset_all() -> None:
    for thing in list(_objects.values()):
        thing.reset_after_fork()


CAN_FORK = hasattr(os, "register_at_fork")
"""Whether this is a POSIX system, unlike Windows: processes fork, and sockets are descriptors like files."""

if CAN_FORK:
    os.register_at_fork(after_in_child=_reset_all)
