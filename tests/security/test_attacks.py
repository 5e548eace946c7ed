"""The table of the attacks."""

import re
from pathlib import Path

import tests.security

TESTS = Path(__file__).resolve().parents[1]


def test_every_test_that_the_table_names_exists() -> None:
    """A file that is renamed or moved is renamed in the table too."""
    named = set(re.findall(r"[\w/]+\.(?:test\.)?(?:py|js)", tests.security.__doc__ or ""))
    assert len(named) > 10
    assert [name for name in named if not (TESTS / name).exists()] == []
