"""The worker's tasks, called as functions, and what they refuse."""

import dataclasses
import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from worker import config, csvfile, tables
from worker.arguments import TALE, DigestTree, ImportCsv, Narrate
from worker.tasks import digest_tree, import_csv, narrate

SAMPLE = Path(__file__).resolve().parents[2] / "api" / "static" / "sample" / "airports.csv"


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """The worker's settings with folders of the test's own."""
    root = tmp_path / "root"
    root.mkdir()
    own = dataclasses.replace(config.settings, data_dir=tmp_path / "data", digest_root=root)
    own.uploads.mkdir(parents=True)
    monkeypatch.setattr(config, "settings", own)
    return own


def upload(content: bytes | str, name: str = "file.csv") -> str:
    data = content.encode() if isinstance(content, str) else content
    (config.settings.uploads / name).write_bytes(data)
    return name


def query(sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(config.settings.database)) as connection:
        return connection.execute(sql).fetchall()


def table_names() -> list[str]:
    return [name for (name,) in query("SELECT name FROM sqlite_master")]


def test_sample_file_is_loaded_whole() -> None:
    """The bundled airports all arrive, numbers as numbers, and the upload is gone."""
    result = import_csv(upload(SAMPLE.read_bytes()), "airports.csv")
    assert result == {
        "table": "csv_airports",
        "columns": 7,
        "rows": 3376,
        "loaded": 3376,
        "bad": 0,
        "bad_rows": [],
    }
    assert query("SELECT count(*), sum(typeof(latitude) = 'real'), min(iata) FROM csv_airports") == [
        (3376, 3376, "00M")
    ]
    assert list(config.settings.uploads.iterdir()) == []


def test_bad_rows_are_left_out_and_told() -> None:
    """A ragged row and a word among numbers are counted with their row numbers; the good rows are loaded."""
    good = "".join(f"{i},{i / 2}\n" for i in range(1, 101))
    result = import_csv(upload(f"id,price\n{good}101,free\n102\n103,1,2\n104,52\n"))
    assert (result["rows"], result["loaded"], result["bad"]) == (104, 101, 3)
    assert result["bad_rows"] == [
        {"row": 102, "reason": "price: “free” is not a number"},
        {"row": 103, "reason": "has 1 fields, the header has 2"},
        {"row": 104, "reason": "has 3 fields, the header has 2"},
    ]
    assert query("SELECT count(*) FROM csv_file") == [(101,)]


def test_list_of_bad_rows_is_bounded() -> None:
    """A thousand bad rows are all counted, but only the first fifty are listed."""
    result = import_csv(upload("a,b\n" + "1\n" * 1000))
    assert (result["bad"], len(result["bad_rows"]), result["loaded"]) == (1000, 50, 0)


def test_broken_quotes_are_bad_rows() -> None:
    """A quote that is never closed costs the rest of the file, not the rows before it."""
    result = import_csv(upload('a,b\n1,2\n"x"y,3\n4,"5\n6,7\n'))
    assert (result["rows"], result["loaded"]) == (3, 1)
    assert [bad["row"] for bad in result["bad_rows"]] == [3, 4]
    assert all("cannot be read as CSV" in bad["reason"] for bad in result["bad_rows"])


def test_missing_numbers_codes_and_blank_lines() -> None:
    """A missing number is NULL, a code with leading zeros stays text, blank lines are no rows."""
    result = import_csv(upload("n,zip\n1,01234\n\n,00501\n 2.5 ,10001\n\n"))
    assert (result["rows"], result["bad"]) == (3, 0)
    assert query("SELECT n, zip FROM csv_file") == [(1, "01234"), (None, "00501"), (2.5, "10001")]


def test_byte_order_mark_and_crlf() -> None:
    """A file as Excel writes it has a plain first column name and no stray line ends."""
    import_csv(upload("\ufeffname,n\r\nüñî,1\r\n"))
    assert query("SELECT name, n FROM csv_file") == [("üñî", 1)]


def test_same_name_replaces_the_table() -> None:
    """Importing a file of the same name again, with other columns, replaces its table."""
    import_csv(upload("a\n1\n"), "Data Set.csv")
    import_csv(upload("b,c\n1,2\n3,4\n"), "data-set.CSV")
    assert table_names() == ["csv_data_set"]
    assert query("SELECT b, c FROM csv_data_set") == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    "name", ['x"; DROP TABLE csv_keep; --.csv', "../../etc/passwd", "sqlite_master.csv", "表.csv", "." * 255]
)
def test_hostile_names_make_plain_tables(name: str) -> None:
    """Whatever a file is called, its table has a plain name and others are untouched."""
    import_csv(upload("a\n1\n"), "keep.csv")
    result = import_csv(upload('"quoted ""name""); DROP TABLE csv_keep; --",b\n1,2\n'), name)
    assert result["table"].isascii()
    assert result["table"].replace("_", "").isalnum()
    assert set(table_names()) == {"csv_keep", result["table"]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a,b\n1,\xff\n", "is not UTF-8 text (byte 7)"),
        ("a,b\n1,2\n".encode("utf-16"), "is not UTF-8 text"),
        (b"a,b\n1,\0\n", "NUL"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8"),
        (b"", "no header"),
        (b"\n\n", "no header"),
        (b"a,,c\n1,2,3\n", "column 2 of the header has no name"),
        (b"a,b,A\n1,2,3\n", "“A” twice"),
        (b'"a,b\n1,2\n', "cannot be read as CSV"),
        (b"<!doctype html>\n<p>", "looks like HTML"),
        (b'{"a": 1}', "looks like HTML, XML or JSON"),
        (b"x" * 300 + b",b\n", "longer than 255"),
        (",".join(f"c{i}" for i in range(2001)).encode(), "2001 columns"),
    ],
)
def test_unusable_file_is_refused_whole(content: bytes, why: str) -> None:
    """A file that is no usable CSV fails with a reason, leaves no table behind and no upload."""
    with pytest.raises(csvfile.CsvError, match=r".*") as caught:
        import_csv(upload(content))
    assert why in str(caught.value)
    assert not config.settings.database.exists()
    assert list(config.settings.uploads.iterdir()) == []


def test_failure_while_loading_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """When loading breaks off, the table of an earlier import is as it was and the upload is kept."""
    import_csv(upload("a\n1\n"))
    values = tables._values
    calls = iter(range(100))

    def breaks(row: csvfile.Row, table: csvfile.Table) -> list[str | None]:
        if next(calls) == 2:
            raise OSError("disk full")
        return values(row, table)

    monkeypatch.setattr(tables, "_values", breaks)
    with pytest.raises(OSError, match="disk full"):
        import_csv(upload("b,c\n1,2\n3,4\n5,6\n7,8\n"))
    assert query("SELECT a FROM csv_file") == [(1,)]
    assert [path.name for path in config.settings.uploads.iterdir()] == ["file.csv"]


@pytest.mark.parametrize(
    "path", ["", "missing.csv", "../imports.sqlite3", "/etc/passwd", "a\0b", "x" * 300, "."]
)
def test_only_uploads_are_imported(path: str) -> None:
    """A path that does not name a file among the uploads is refused."""
    with pytest.raises(ValueError, match=r"^path: "):
        import_csv(path)


def digest_of(root: Path, *names: str) -> str:
    total = hashlib.sha256()
    for name in names:
        total.update(
            hashlib.sha256((root / name).read_bytes()).hexdigest().encode() + b"  " + name.encode() + b"\0"
        )
    return total.hexdigest()


def test_digest_of_a_tree(settings: config.Settings) -> None:
    """Files of all folders below are counted and digested in path order."""
    root = settings.digest_root
    (root / "b").mkdir()
    (root / "b" / "x.txt").write_bytes(b"x" * 10)
    (root / "a.txt").write_bytes(b"")
    (root / "c.txt").write_bytes(b"abc")
    result = digest_tree(".")
    assert (result["files"], result["bytes"], result["failed"], result["skipped"]) == (3, 13, 0, 0)
    assert result["sha256"] == digest_of(root, "a.txt", "c.txt", "b/x.txt")
    assert digest_tree("b")["files"] == 1


def test_symbolic_links_are_not_followed(settings: config.Settings, tmp_path: Path) -> None:
    """Links and a FIFO are skipped: nothing outside is read and the task does not hang."""
    root = settings.digest_root
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "real").write_text("real")
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    os.mkfifo(root / "fifo")
    result = digest_tree(".")
    assert (result["files"], result["skipped"]) == (1, 2)
    assert result["sha256"] == digest_of(root, "real")


def test_unreadable_file_is_reported(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be opened is named with its reason; the others are digested."""
    (settings.digest_root / "bad").write_text("1")
    (settings.digest_root / "good").write_text("2")
    really_open = os.open

    def refusing(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "bad":
            raise PermissionError(13, "Permission denied", path)
        return really_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    result = digest_tree(".")
    assert (result["files"], result["failed"]) == (1, 1)
    assert result["errors"] == [{"path": "bad", "reason": "Permission denied"}]


def test_names_that_are_no_unicode(settings: config.Settings) -> None:
    """A file name of arbitrary bytes is digested; nothing in the result is impossible to send."""
    try:
        (settings.digest_root / os.fsdecode(b"\xff.txt")).write_text("x")
    except OSError:
        return  # the file system takes only Unicode names, so there is nothing to break
    assert digest_tree(".")["files"] == 1


@pytest.mark.parametrize(
    "folder", ["..", "a/../..", "/", "/etc", "missing", "file", "a\0b", "x" * 2000, "", "out"]
)
def test_folders_outside_the_root_are_refused(settings: config.Settings, tmp_path: Path, folder: str) -> None:
    """`..`, absolute paths, links that lead out, files and missing names are refused before any work."""
    (settings.digest_root / "file").write_text("x")
    (settings.digest_root / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"^folder: "):
        digest_tree(folder)


def test_link_within_the_root_may_be_named(settings: config.Settings) -> None:
    """A link that stays inside the root is as good as the folder it leads to."""
    (settings.digest_root / "real").mkdir()
    (settings.digest_root / "alias").symlink_to("real")
    assert digest_tree("alias")["files"] == 0


def test_narration_ends_with_its_counts() -> None:
    """The result of a narration counts its tokens and holds the whole text."""
    assert narrate("Hello, wonderful world!\n", 0) == {
        "tokens": 7,
        "characters": 24,
        "text": "Hello, wonderful world!\n",
    }
    assert narrate(delay=0)["text"] == TALE


@pytest.mark.parametrize(
    "given",
    [
        {"delay": -1},
        {"delay": 60},
        {"delay": float("nan")},
        {"text": ""},
        {"text": "x" * 4001},
        {"text": "\ud800"},
    ],
)
def test_narration_is_bounded(given: dict[str, Any]) -> None:
    """A text or delay out of bounds is refused before the first token."""
    with pytest.raises(ValueError, match=r"^(text|delay): "):
        narrate(**given)


@pytest.mark.parametrize("model", [ImportCsv, DigestTree, Narrate])
def test_unknown_arguments_are_refused(model: type[Narrate]) -> None:
    """An argument the task does not know is an error that names it."""
    with pytest.raises(ValueError, match="surprise: "):
        model.checked(surprise=1)


def test_settings_from_the_environment() -> None:
    """Empty variables count as not set; the others are taken as they are."""
    read = config.read({"CELERY_BROKER_URL": "", "BRIDGE_URL": "memory://", "DATA_DIR": "/x/y"})
    assert read.broker_url == "redis://localhost:6379/0"
    assert (read.bridge_url, read.result_backend) == ("memory://", None)
    assert read.database == Path("/x/y/imports.sqlite3")
