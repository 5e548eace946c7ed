"""Log lines: each has a stable name and a row in docs/logs.md, and one setting writes them as JSON."""

import ast
import json
import logging
import logging.config
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import bridge
from bridge.logs import JSONFormatter
from bridge.support.counted_warning import CountedWarning
from tests.markdown import ROOT, block
from tests.test_floors import LIBRARY, MODULES

LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
OTHER_WAYS = {"log", "critical", "warn", "fatal"}
COUNTED = "bridge.support.counted_warning"
"""It logs the lines of others. They give it their names."""


class Line(NamedTuple):
    """A log line: its name, its level, its logger and the names of its fields."""

    event: str
    level: str
    logger: str
    fields: list[str]


def is_logger(node: ast.expr) -> bool:
    return ast.unparse(node).endswith("logger")


def lines_of(module: str) -> Iterator[Line]:
    """Yield the lines that a module logs. Fails for a line without a name, or with names made at run time."""
    calls = [node for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.Call)]
    names = [c.args[0] for c in calls if ast.unparse(c.func) == "logging.getLogger" and c.args]
    logger = ast.literal_eval(names[0]).removeprefix("bridge.") if names else ""
    for call in calls:
        match call:
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if is_logger(value):
                assert attr not in OTHER_WAYS, f"{module} logs with logger.{attr}: use one of {list(LEVELS)}"
                if attr in LEVELS:
                    event, fields = event_and_fields(call, module)
                    yield Line(event, LEVELS[attr], logger, fields)
            case ast.Call(func=ast.Name("CountedWarning"), args=[_, ast.Constant(str(event)), text]):
                placeholders = sorted(set(re.findall(r"%\((\w+)\)", ast.unparse(text))))
                yield Line(event, "warning", logger, placeholders)


def event_and_fields(call: ast.Call, module: str) -> tuple[str, list[str]]:
    """Return the name and the fields in the `extra` of a call."""
    extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
    assert isinstance(extra, ast.Dict), (
        f'{module}:{call.lineno} logs a line without a name: give it extra={{"event": "a_name"}} and a row '
        "in docs/logs.md"
    )
    keys = [ast.literal_eval(key) for key in extra.keys if key is not None]
    event = ast.literal_eval(extra.values[keys.index("event")])
    return event, sorted(set(keys) - {"event"})


def rows() -> list[Line]:
    """Return the rows of the table in docs/logs.md."""
    text = (ROOT / "docs" / "logs.md").read_text()
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| `([\w.]+)` \| (.*?) ?\| ([^|]+) \|$", text, re.MULTILINE)
    assert all(len(advice) > 20 for *_, advice in found)
    return [
        Line(event, level, logger, sorted(re.findall(r"`(\w+)`", fields)))
        for event, level, logger, fields, _ in found
    ]


def test_the_table_has_each_line_of_the_library_and_no_other() -> None:
    """Each call that logs has a name, and docs/logs.md has it with its level, logger and fields."""
    logged = [line for module in LIBRARY if module != COUNTED for line in lines_of(module)]
    assert len(logged) > 30
    assert sorted(logged) == sorted(rows())


def test_each_name_stands_for_one_line() -> None:
    """No two rows of the table have the same name."""
    names = [row.event for row in rows()]
    assert len(names) == len(set(names))


def test_a_line_without_a_name_is_found() -> None:
    """The comparison with the table cannot pass over a call that gives no `extra`."""
    call = ast.parse('logger.warning("something happened")').body[0]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    with pytest.raises(AssertionError, match="logs a line without a name"):
        event_and_fields(call.value, "some.module")


def formatted(record: logging.LogRecord) -> dict[str, object]:
    text = JSONFormatter().format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def test_a_line_as_json_has_its_fields_and_exception() -> None:
    """Time, level, logger, event, message, fields and traceback are members of one object on one line."""
    try:
        raise ZeroDivisionError("of a test")
    except ZeroDivisionError:
        extra = {"event": "a_name", "topics": ["a", "b"], "odd": object(), "level": "a field of that name"}
        record = logging.getLogger("bridge.test").makeRecord(
            "bridge.test", logging.WARNING, "f", 1, "two\nlines: %s", ("\ud800",), sys.exc_info(), None, extra
        )
    line = formatted(record)
    assert str(line.pop("time")).endswith("+00:00")
    assert "ZeroDivisionError: of a test" in str(line.pop("exception"))
    assert "object object" in str(line.pop("odd"))
    assert line == {
        "level": "warning",
        "logger": "bridge.test",
        "event": "a_name",
        "message": "two\nlines: \ud800",
        "topics": ["a", "b"],
    }


def test_a_line_of_another_library_has_no_event() -> None:
    """The formatter may serve the root logger: a record without fields has a message and no event."""
    line = formatted(logging.makeLogRecord({"name": "other", "msg": "hello", "levelname": "INFO"}))
    assert (line["logger"], line["message"], line["event"]) == ("other", "hello", None)


def test_a_counted_warning_has_numbers_for_programs(caplog: pytest.LogCaptureFixture) -> None:
    """People read a limit with separators; the field has the number itself."""
    warning = CountedWarning(logging.getLogger("bridge.test"), "a_name", "%(count)d over %(limit)s bytes")
    with caplog.at_level(logging.WARNING, logger="bridge.test"):
        warning.add(2, limit=1_000_000)
    (record,) = caplog.records
    assert record.getMessage() == "2 over 1,000,000 bytes"
    assert (vars(record)["event"], vars(record)["count"], vars(record)["limit"]) == ("a_name", 2, 1_000_000)


JSON_BY_ONE_SETTING = """
import logging
import bridge

{example}
logging.basicConfig()  # an application that logs in words does not get the lines a second time
bridge.connect("memory://", json_logs=True).close()
logging.getLogger("bridge.tasks.publisher").info("told: %d", 3, extra=dict(event="a_name", dropped=3))
channel.close()
"""


def test_one_setting_writes_json() -> None:
    """The example of docs/logs.md has each line of the process written once, as JSON, from INFO on."""
    script = JSON_BY_ONE_SETTING.format(example=block("docs/logs.md", "import bridge\n"))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["event"], line["message"], line["level"], line["dropped"]) == (
        "a_name", "told: 3", "info", 3,
    )  # fmt: skip


def test_the_formatter_fits_a_logging_configuration() -> None:
    """The configuration in docs/logs.md writes every logger of the application as JSON."""
    script = block("docs/logs.md", "import logging.config\n") + '\nlogging.getLogger("mine").info("hello")\n'
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["logger"], line["message"]) == ("mine", "hello")


def test_json_logs_must_be_true_or_false() -> None:
    """A text such as "false" from the environment is refused: it would count as true."""
    with pytest.raises(bridge.ConfigurationError, match=r"json_logs .* must be True or False, not 'false'"):
        bridge.connect("memory://", json_logs="false")  # type: ignore[arg-type]  # that is the mistake
