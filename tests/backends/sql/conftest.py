"""Fixtures of the SQL backends."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.backends.sql.tools import engine_of


@pytest.fixture
def database(url: str) -> Iterator[Engine]:
    """The application's own way to the database of the channel."""
    engine = engine_of(url)
    yield engine
    engine.dispose()


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex
