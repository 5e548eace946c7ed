"""An uploaded file on its way to a task: saved under a name nobody can guess, checked, or gone again."""

import secrets
import time
from pathlib import Path

from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from api.problems import Problem
from worker.csvfile import CsvError, check

KEEP_SECONDS = 24 * 3600


def save_csv(file: FileStorage, folder: Path, limit: int) -> Path:
    """Save and check an upload; what is too large or no CSV leaves nothing behind."""
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
    """Remove uploads that no task came for within a day (it was revoked, or its message lost)."""
    oldest = time.time() - KEEP_SECONDS
    for path in folder.glob("*.csv"):
        try:
            if path.stat().st_mtime < oldest:
                path.unlink()
        except FileNotFoundError:
            continue
