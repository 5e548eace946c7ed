"""How much memory this process may use: the limit of its container, else the memory of the machine."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath


def memory_of_container(root: Path = Path("/")) -> int:
    """Return the smallest memory limit in bytes of the control groups of this process.

    Without one, returns the memory of the machine. `root` is the root of the file system.
    """
    limits = [_memory_of_machine()]
    for file in _limit_files(root):
        with suppress(OSError, ValueError):  # no such file, or the word `max`: no limit
            limits.append(int(file.read_text()))
    return min(limit for limit in limits if limit > 0)


def _memory_of_machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limit_files(root: Path) -> Iterator[Path]:
    """Yield the files that may have a limit: of each control group, of those around it, and of the root.

    A container may see its own group as the root, while the kernel still names it by its path outside.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):  # version 1
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path)
        for around in (group, *group.parents):
            yield top / str(around).lstrip("/") / name
