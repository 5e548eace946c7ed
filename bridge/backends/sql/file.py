"""How the processes and threads that share a SQLite file notice each other's commits."""

import os
import selectors
import threading
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection

from bridge.backends.sql.database import OnWritten
from bridge.backends.sql.reading import CHANGED, LATEST
from bridge.errors import ConnectionLost
from bridge.support.fork import reset_in_child

RACY_NS = 50_000_000
"""Nanoseconds. A file that changed so recently may change again with the same time (as in git)."""

AGAIN = 2
"""The database is queried again when the age of the last change has grown by this factor.

SQLite writes the file first. Then it makes the commit visible in shared memory, which changes no time. If a
process is delayed in between, on a busy machine, its commit would be missed without another query.
"""


class File:
    """What this process knows of a file: its readers in this process, and the lock for writing."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self.write_lock = threading.Lock()  # Held by the one thread of this process that writes.
        self._lock = threading.Lock()  # Guards changes of `readers`.
        self.readers: tuple[OnWritten, ...] = ()

    def add(self, on_written: OnWritten) -> None:
        with self._lock:
            self.readers = (*self.readers, on_written)

    def remove(self, on_written: OnWritten) -> None:
        with self._lock:
            self.readers = tuple(other for other in self.readers if other != on_written)


_files: dict[str, File] = {}  # Never shrinks: there are few.


def file_of(path: Path) -> File:
    """Return the `File` for a path. Two names of one file have the same."""
    return _files.setdefault(os.path.realpath(path), File())  # Atomic, so no lock is needed.


class FileWatch:
    """Checks the times of the files, and queries the database only if they have changed."""

    def __init__(
        self, path: Path, file: File, connection: Connection, on_written: OnWritten, interval: float
    ) -> None:
        self.interval = interval
        self._paths = (str(path), f"{path}-wal")
        self._identity = identity_of(path)
        self._seen = self._signature()
        self._look_again_at = 0
        self._connection = connection
        self._last: int = connection.scalar(LATEST) or 0
        self._on_written = on_written
        self._file = file
        file.add(on_written)

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Do nothing: publishers in this process call `on_written`."""

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

    def waiting(self) -> set[str]:
        return set()

    def _signature(self) -> list[tuple[int, int]]:
        """Return sizes and times. Does not open a file, because closing it would drop its locks."""
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
        self._file.remove(self._on_written)


def identity_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
