"""Loads a checked CSV file into SQLite, in one transaction: the table is complete or does not exist."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from worker.csvfile import Row, Table, rows, wrong_number


def table_name(name: str) -> str:
    """Return the name of the table for a file. A second file of that name replaces the table."""
    slug = re.sub(r"[^0-9a-z]+", "_", Path(name).stem.lower()).strip("_")
    return f"csv_{slug[:48] or 'upload'}"


def load(path: Path, table: Table, name: str, database: Path, seen: Callable[[Row, str | None], None]) -> int:
    """Load the valid rows into table `name`; return how many. `seen` gets each row and its error."""
    marks = ", ".join("?" * len(table.columns))
    insert = f"INSERT INTO {_quoted(name)} VALUES ({marks})"  # noqa: S608 - an identifier cannot be a parameter
    loaded = 0
    with _transaction(database) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {_quoted(name)}")
        connection.execute(f"CREATE TABLE {_quoted(name)} ({_definitions(table)})")
        for row in rows(path, len(table.columns)):
            wrong = row.error or wrong_number(row, table)
            if wrong is None:
                connection.execute(insert, _values(row, table))
                loaded += 1
            seen(row, wrong)
    return loaded


def _values(row: Row, table: Table) -> list[str | None]:
    return [field.strip() or None if i in table.numeric else field for i, field in enumerate(row.fields)]


def _definitions(table: Table) -> str:
    kinds = ("NUMERIC" if i in table.numeric else "TEXT" for i in range(len(table.columns)))
    return ", ".join(f"{_quoted(column)} {kind}" for column, kind in zip(table.columns, kinds, strict=True))


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


@contextmanager
def _transaction(database: Path) -> Iterator[sqlite3.Connection]:
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
