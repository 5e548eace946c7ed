"""The beats by which the main processes of workers are heard of, and their JSON."""

import json

WORKERS = "workers"
"""The topic of the beats by which the main processes of workers are heard of."""


def beat(process: str, worker: str | None, number: int, *, gone: bool = False) -> bytes:
    """Return what a main process says, again and again, on the topic `WORKERS`; with `gone`, a last time."""
    said = {"v": 1, "type": "beat", "process": process, "worker": worker, "number": number, "gone": gone}
    return json.dumps(said).encode()


def beat_of(payload: bytes) -> tuple[str, int, bool] | None:
    """Return the process whose beat this is, its number, and whether it was the last, or `None`."""
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    match said:
        case {"type": "beat", "process": str(process), "number": int(number), "gone": bool(gone)}:
            return process, number, gone
    return None


def is_of_worker(payload: bytes) -> bool:
    """Whether a beat is that of a worker, and not of a process that watches them."""
    return b'"worker": null' not in payload
