"""The log lines of the bridge as JSON.

Each line has a stable name in `record.event`, and its values are attributes of the record too. docs/logs.md
lists the names and says what to do.
"""

import json
import logging
from datetime import UTC, datetime

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}
"""The attributes of every record. Others are the fields of one line."""


class JSONFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, event, message and the fields of the line.

    Any logger may use it. A value that JSON cannot express becomes text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON on one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", None),
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _PLAIN:
                line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_as_json() -> None:
    """Write the lines of the `bridge` loggers, from level INFO on, as JSON to standard error only.

    `bridge.connect(json_logs=True)` calls it. A second call does nothing. A level that the logger `bridge`
    has already stays. Several threads may call it.
    """
    logger = logging.getLogger("bridge")
    if any(isinstance(handler.formatter, JSONFormatter) for handler in logger.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    logger.addHandler(handler)
    logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
