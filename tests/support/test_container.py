"""The memory limit of a container, from files as the kernel shows them."""

import os
from pathlib import Path

import pytest

from bridge.support.container import memory_of_container

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def write(root: Path, **files: str) -> Path:
    """Write files below `root`; in their names `__` stands for a slash and `_dot_` for a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, MACHINE),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__memory_dot_max": "1000\n"}, 1000),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__memory_dot_max": "max\n"}, MACHINE),
        (
            {
                "proc__self__cgroup": "0::/pod/app\n",
                "sys__fs__cgroup__pod__memory_dot_max": "1000\n",
                "sys__fs__cgroup__pod__app__memory_dot_max": "max\n",
            },
            1000,
        ),
        (
            {
                "proc__self__cgroup": "11:cpu,cpuacct:/docker/1\n5:memory:/docker/1\n0::/other\n",
                "sys__fs__cgroup__memory__memory_dot_limit_in_bytes": "2000\n",
            },
            2000,
        ),
        (
            {
                "proc__self__cgroup": "5:memory:/docker/1\n",
                "sys__fs__cgroup__memory__memory_dot_limit_in_bytes": "9223372036854771712\n",
                "sys__fs__cgroup__memory__docker__1__memory_dot_limit_in_bytes": "3000\n",
            },
            3000,
        ),
    ],
)
def test_the_smallest_limit_of_all_groups_counts(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    """Of both versions of control groups, as seen from within a container or from outside."""
    assert memory_of_container(write(tmp_path, **files)) == limit
