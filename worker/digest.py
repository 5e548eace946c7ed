"""Computes a digest of every file below a folder.

Symbolic links are never followed: each name is opened relative to its folder, which is already open, so
replacing a folder by a link in the meantime has no effect.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_ERRORS = 50


@dataclass
class Digest:
    """The figures so far, and one digest over all files in the order of their paths."""

    files: int = 0
    size: int = 0
    skipped: int = 0
    failed: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)
    total: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, name: bytes, size: int, digest: str) -> None:
        self.files += 1
        self.size += size
        self.total.update(digest.encode() + b"  " + name + b"\0")

    def fail(self, name: str, error: OSError) -> None:
        self.failed += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"path": _text(name), "reason": error.strerror or type(error).__name__})


def count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files, _ in os.fwalk(folder, follow_symlinks=False))


def digest_files(folder: Path, digest: Digest) -> Iterator[str]:
    """Add the files to `digest` one by one; yield the path of each, relative to the folder."""

    def unreadable(error: OSError) -> None:
        digest.fail(os.path.relpath(error.filename or "", folder), error)

    for parent, folders, files, handle in os.fwalk(folder, onerror=unreadable, follow_symlinks=False):
        folders.sort()
        for name in sorted(files):
            relative = os.path.relpath(os.path.join(parent, name), folder)  # noqa: PTH118 - may not be UTF-8
            try:
                _one(name, relative, handle, digest)
            except OSError as error:
                digest.fail(relative, error)
            yield _text(relative)


def _one(name: str, relative: str, handle: int, digest: Digest) -> None:
    if not stat.S_ISREG(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
        digest.skipped += 1
        return
    # NONBLOCK: the name may be a FIFO by now, and opening a FIFO waits for its writer.
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        size = os.fstat(descriptor).st_size
        digest.add(os.fsencode(relative), size, hashlib.file_digest(file, "sha256").hexdigest())


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
