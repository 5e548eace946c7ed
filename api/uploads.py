"""Uploaded files: each is saved under a random name and checked, or removed again."""

import secrets
import time
from pathlib import Path

from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from api.problems import Problem
from worker.csvfile import CsvError, check

KEEP_SECONDS = 24 * 3600


def save_csv(file: FileStorage, folder: Path, limit: int) -> Path:
    """Save and check an upload; return its path. A file that is too large or not CSV is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    path = folder / f"{secrets.token_hex(16)}.csv"
    try:
        file.save(path)
        if path.stat().st_size > limit:
            raise RequestEntityTooLarge
        check(path)
    except CsvError as error:
        path.unlink(missing_ok=True)
        raise refused("file", str(error)) from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def refused(field: str, message: str) -> Problem:
    return Problem(422, "The arguments are not valid.", errors=[{"field": field, "message": message}])


def sweep(folder: Path) -> None:
    """Remove uploads that no task has used within a day, because it was revoked or its message was lost."""
    oldest = time.time() - KEEP_SECONDS
    for path in folder.glob("*.csv"):
        try:
            if path.stat().st_mtime < oldest:
                path.unlink()
        except FileNotFoundError:
            continue
