"""The three tasks of the example application."""

import re
import time
from pathlib import Path

# `Any` in this module: a result is a JSON object with values of several types.
from typing import Any

from celery import shared_task

from bridge.celery import Cancelled, check_cancelled, log, progress, publish, step, track
from worker import config
from worker.arguments import TALE, DigestTree, ImportCsv, Narrate, inside
from worker.csvfile import CsvError, Row, survey
from worker.digest import Digest, count_files, digest_files
from worker.tables import load, table_name

MAX_BAD_ROWS = 50

_TOKEN = re.compile(r"\s*\w{1,6}|\s*[^\w\s]|\s+")


@shared_task(name="import_csv")
def import_csv(path: str, name: str = "") -> dict[str, Any]:
    """Load an uploaded CSV file into SQLite. Bad rows are skipped, counted and listed."""
    arguments = ImportCsv.checked(path=path, name=name)
    upload = inside(config.settings.uploads, arguments.path)
    try:
        result = _import(upload, arguments.name or upload.name)
    except (CsvError, Cancelled):
        upload.unlink(missing_ok=True)
        raise
    # After any other failure (a full disk, a locked database) the file is kept for another attempt.
    upload.unlink(missing_ok=True)
    return result


def _import(upload: Path, name: str) -> dict[str, Any]:
    checking, loading = step("check", weight=1), step("load", weight=3)
    with checking:
        progress(0, message=f"checking {name}")
        found = survey(upload)
    table = table_name(name)
    report = _ImportReport(found.rows)
    with loading:
        loaded = load(upload, found, table, config.settings.database, report.seen)
        progress(found.rows, total=found.rows, message=f"{loaded} rows loaded")
    return {
        "table": table,
        "columns": len(found.columns),
        "rows": found.rows,
        "loaded": loaded,
        "bad": report.bad,
        "bad_rows": report.bad_rows,
    }


class _ImportReport:
    """Reports the progress of an import to viewers, and collects its first bad rows."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.bad = 0
        self.bad_rows: list[dict[str, Any]] = []

    def seen(self, row: Row, wrong: str | None) -> None:
        check_cancelled()
        self.done += 1
        if wrong is not None:
            self._bad(row.number, wrong)
        progress(self.done, total=self.total, message=f"row {row.number}")

    def _bad(self, number: int, reason: str) -> None:
        self.bad += 1
        if self.bad <= MAX_BAD_ROWS:
            self.bad_rows.append({"row": number, "reason": reason})
            log(f"row {number} {reason}", level="warning")
        elif self.bad == MAX_BAD_ROWS + 1:
            log(
                f"more than {MAX_BAD_ROWS} bad rows; further ones are counted but not listed", level="warning"
            )


@shared_task(name="digest_tree")
def digest_tree(folder: str = ".") -> dict[str, Any]:
    """Compute the SHA-256 of every file below a folder of the allowed root, and one digest over all files."""
    arguments = DigestTree.checked(folder=folder)
    top = inside(config.settings.digest_root, arguments.folder)
    counting, reading = step("count", weight=1), step("read", weight=9)
    with counting:
        total = count_files(top)
    digest = Digest()
    with reading:
        for done, name in enumerate(digest_files(top, digest), start=1):
            check_cancelled()
            progress(done, total=max(total, done), message=name)
        progress(total, total=total, message=f"{digest.files} files read")
    for error in digest.errors:
        log(f"{error['path']}: {error['reason']}", level="warning")
    return {
        "folder": arguments.folder,
        "files": digest.files,
        "bytes": digest.size,
        "sha256": digest.total.hexdigest(),
        "skipped": digest.skipped,
        "failed": digest.failed,
        "errors": digest.errors,
    }


@shared_task(name="narrate")
def narrate(text: str = TALE, delay: float = 0.04) -> dict[str, Any]:
    """Publish a text token by token, as a language model does. `delay` is in seconds between two tokens."""
    arguments = Narrate.checked(text=text, delay=delay)
    tokens = _TOKEN.findall(arguments.text)
    for index, token in enumerate(track(tokens)):
        publish("token", {"text": token, "index": index})
        time.sleep(arguments.delay)
    return {"tokens": len(tokens), "characters": len(arguments.text), "text": arguments.text}
