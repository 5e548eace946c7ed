"""How the processes and threads that share a SQLite file learn of each other's commits."""

import os
import selectors
import threading
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection

from bridge.backends.sql.database import Hand
from bridge.backends.sql.reading import CHANGED, LATEST
from bridge.errors import ConnectionLost
from bridge.support.fork import reset_in_child

RACY_NS = 50_000_000
"""A file changed so short before it was looked at may have changed again with the same time (as in git)."""

AGAIN = 2
"""A file is looked into again each time its last change is so many times as old as at the last look.

SQLite writes the file first and then makes the commit visible, in shared memory, which changes no time. A
process that is held up in between, on a busy machine, would have its commit overlooked.
"""


class File:
    """What this process knows of a file: who reads it here, and whose turn it is to write."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self.turn = threading.Lock()  # Held by the one thread of this process that writes.
        self._lock = threading.Lock()  # Guards the replacing of readers.
        self.readers: tuple[Hand, ...] = ()

    def add(self, hand: Hand) -> None:
        with self._lock:
            self.readers = (*self.readers, hand)

    def remove(self, hand: Hand) -> None:
        with self._lock:
            self.readers = tuple(other for other in self.readers if other != hand)


_files: dict[str, File] = {}  # Never shrinks: there are few.


def file_of(path: Path) -> File:
    """Return what this process knows of a file, by whatever name."""
    return _files.setdefault(os.path.realpath(path), File())  # one step, whatever other threads do


class FileWatch:
    """Looks at the times of the files, and only if they have changed into the database."""

    def __init__(self, path: Path, file: File, connection: Connection, hand: Hand, interval: float) -> None:
        self.interval = interval
        self._paths = (str(path), f"{path}-wal")
        self._identity = identity_of(path)
        self._seen = self._signature()
        self._look_again_at = 0
        self._connection = connection
        self._last: int = connection.scalar(LATEST) or 0
        self._hand = hand
        self._file = file
        file.add(hand)

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Those who publish in this process hand it on."""

    def has_news(self) -> bool:
        return False

    def look(self) -> set[str] | None:
        signature = self._signature()
        age = time.time_ns() - max(time for _, time in signature)
        if signature == self._seen and age < self._look_again_at:
            return set()
        self._seen = signature
        self._look_again_at = 0 if age < RACY_NS else age * AGAIN
        rows = self._connection.execute(CHANGED, {"b_id": self._last}).all()
        self._last = max((last for _, last in rows), default=self._last)
        return {key for key, _ in rows}

    def _signature(self) -> list[tuple[int, int]]:
        """Return what changes with every commit, without opening a file: closing it would drop its locks."""
        found = []
        for path in self._paths:
            with suppress(FileNotFoundError):
                status = os.stat(path)  # noqa: PTH116 - fifty times a second
                found.append((status.st_size, status.st_mtime_ns))
                if path is self._paths[0] and (status.st_dev, status.st_ino) != self._identity:
                    found.clear()
                    break
        if not found:
            raise ConnectionLost(f"{self._paths[0]} is no longer the file that was read")
        return found

    def close(self) -> None:
        self._file.remove(self._hand)


def identity_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
