"""Reads an uploaded CSV file: checks the file, and yields its rows."""

import csv
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SAMPLE_ROWS = 100
MAX_COLUMNS = 2000  # SQLite's own limit
MAX_NAME = 255

# Text with a leading zero is a code (a postcode, a phone number); as a number it would lose the zero.
_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class CsvError(ValueError):
    """The file cannot be used. The message says why, for the person who sent it."""


@dataclass(frozen=True)
class Row:
    """One record: its row number as in a spreadsheet (the header is row 1), and its fields or its error."""

    number: int
    fields: list[str]
    error: str | None = None


@dataclass(frozen=True)
class Table:
    columns: list[str]
    numeric: frozenset[int]
    rows: int


def is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text))


def check(path: Path) -> list[str]:
    """Return the column names. Raises `CsvError` unless the file is UTF-8 CSV with a usable header."""
    _check_bytes(path)
    with _reading(path) as reader:
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise CsvError(f"the header cannot be read as CSV: {error}") from None
    return _check_header([name.strip() for name in header])


def survey(path: Path) -> Table:
    """Check the file and count its rows. The first hundred rows decide which columns hold numbers."""
    columns = check(path)
    numeric = set(range(len(columns)))
    seen: set[int] = set()
    count = 0
    for row in rows(path, len(columns)):
        count += 1
        if count > SAMPLE_ROWS or row.error:
            continue
        filled = {i for i, field in enumerate(row.fields) if field.strip()}
        seen |= filled
        numeric -= {i for i in filled if not is_number(row.fields[i].strip())}
    return Table(columns, frozenset(numeric & seen), count)


def rows(path: Path, width: int) -> Iterator[Row]:
    """Yield every record after the header. Blank lines have a row number but are not records."""
    with _reading(path) as reader:
        next(reader)
        number = 1
        while True:
            number += 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                yield Row(number, [], f"cannot be read as CSV: {error}")
                continue
            if fields is None:
                return
            if fields and len(fields) != width:
                yield Row(number, fields, f"has {len(fields)} fields, the header has {width}")
            elif fields:
                yield Row(number, fields)


def wrong_number(row: Row, table: Table) -> str | None:
    """Return what is wrong with the first field that should be a number. An empty field is accepted."""
    for i in sorted(table.numeric):
        text = row.fields[i].strip()
        if text and not is_number(text):
            shown = text if len(text) <= 40 else text[:39] + "…"
            return f"{table.columns[i]}: “{shown}” is not a number"
    return None


def _check_bytes(path: Path) -> None:
    before = 0
    with path.open("rb") as file:
        for line in file:
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise CsvError(f"is not UTF-8 text (byte {before + error.start + 1})") from None
            if b"\0" in line:
                raise CsvError("contains a NUL byte, so it is not a text file")
            before += len(line)


def _check_header(header: list[str]) -> list[str]:
    if not any(header):
        raise CsvError("has no header line")
    if header[0][:1] in ("<", "{", "["):
        raise CsvError("looks like HTML, XML or JSON, not CSV")
    if "" in header:
        raise CsvError(f"column {header.index('') + 1} of the header has no name")
    if len(header) > MAX_COLUMNS:
        raise CsvError(f"has {len(header)} columns; at most {MAX_COLUMNS} can be loaded")
    if any(len(name) > MAX_NAME for name in header):
        raise CsvError(f"a column name is longer than {MAX_NAME} characters")
    known: set[str] = set()
    for name in header:
        if name.lower() in known:
            raise CsvError(f"the header names the column “{name}” twice")
        known.add(name.lower())
    return header


@contextmanager
def _reading(path: Path) -> Iterator[Iterator[list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield csv.reader(file, strict=True)
