"""Has the records that a task writes with Python's `logging` become lines of its log.

A handler is added to the root logger and to that of `get_task_logger`, which Celery separates from it. It is
looked for before each task, because an application may configure logging at any time.
"""

import logging

# `Any` in this module: Celery hands tasks of several unrelated classes to its signals.
from typing import Any

from bridge.celery.apps import installed
from bridge.celery.task_run import TaskRun, innermost
from bridge.errors import ConfigurationError
from bridge.tasks.encoding import in_text
from bridge.tasks.event_types import Log

_NOT_OF_TASKS = ("bridge", "celery", "kombu", "amqp", "billiard", "multiprocessing")
_SEEN = "_seen_by_bridge"
"""An attribute of a record that the handler has seen: it reaches the handler twice if loggers propagate."""


class _TaskHandler(logging.Handler):
    """Publishes a record as a line of the log of the task that runs here, if its app asks for it."""

    def emit(self, record: logging.LogRecord) -> None:
        span = innermost()
        if span is None or getattr(record, _SEEN, False) or not _may_be_of_a_task(record.name):
            return
        setattr(record, _SEEN, True)
        run = span.tree
        if isinstance(run, TaskRun) and run.log_level is not None and record.levelno >= run.log_level:
            try:
                run.publish(Log, level=_level(record.levelno), message=_text(record))
            except Exception:
                self.handleError(record)


_handler = _TaskHandler()


def attach_handler(task: Any, **_: Any) -> None:
    """Add the handler where it is missing, before a task of an app that asks for it runs."""
    found = installed(task.app)
    if found is not None and found.log_level is not None:
        for logger in (logging.getLogger(), logging.getLogger("celery.task")):
            if _handler not in logger.handlers:
                logger.addHandler(_handler)


def level_number(level: str | int | None) -> int | None:
    """Return the number of a level of `logging`. Raises `ConfigurationError` if it is none."""
    if level is None or (isinstance(level, int) and not isinstance(level, bool) and level >= 0):
        return level
    found = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else None
    if found is None:
        raise ConfigurationError(f'capture_logs must be a level of logging such as "INFO", not {level!r}')
    return found


def _may_be_of_a_task(logger: str) -> bool:
    """Return whether a logger is one that tasks use: not that of Celery or the bridge itself."""
    return logger.startswith("celery.task") or logger.partition(".")[0] not in _NOT_OF_TASKS


def _level(number: int) -> str:
    """Return the level of a line for the level of a record."""
    for name, least in (("critical", 50), ("error", 40), ("warning", 30), ("info", 20)):
        if number >= least:
            return name
    return "debug"


def _text(record: logging.LogRecord) -> str:
    """Return the message of a record, with the exception that it is about, but without its traceback."""
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    return in_text(text if error is None else f"{text}: {type(error).__name__}: {error}")
