"""Types: each place where the type checker is overruled says why."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bridge", "api", "worker", "tests", "benchmarks")

# What a tool reads is no reason.
DIRECTIVE = re.compile(r"#\s*(type: ignore(\[[^]]*\])?|noqa\b[^#]*|fmt:[^#]*)\s*")


def files() -> Iterator[Path]:
    """Yield the Python files of the packages, but none of a virtual environment within."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
                yield path


def reasons_of(source: str) -> tuple[set[int], set[int]]:
    """Return the lines that end with a reason, and the lines that are nothing but one."""
    beside: set[int] = set()
    alone: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and DIRECTIVE.sub("", token.string).strip("# "):
            (beside if token.line[: token.start[1]].strip() else alone).add(token.start[0])
    return beside, alone


def overruled(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each `type: ignore` and each `cast`."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (found := re.search(r"type: ignore(\[[^]]*\])?", token.string)):
            yield token.start[0], found[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("cast", "typing.cast"):
            yield node.lineno, "cast"


def unexplained(source: str) -> list[tuple[int, str]]:
    """Return what has no reason, neither beside it nor in a comment on the line before."""
    beside, alone = reasons_of(source)
    return [(line, what) for line, what in overruled(source) if line not in beside and line - 1 not in alone]


def test_each_ignored_type_has_its_reason() -> None:
    """A comment says why there is a `type: ignore` or a `cast`."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in files()
        if re.search(r"type: ignore|\bcast\(", source := path.read_text())
        for line, what in unexplained(source)
    ]
    assert not wrong, "say why, after it or in a comment on the line before:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "explained"),
    [
        ("x = f(1)  # type: ignore[arg-type]  # wrong on purpose", True),
        ("# The stub is wrong.\nx = f(1)  # type: ignore[arg-type]", True),
        ("x = cast(int, y)  # y is never None", True),
        ("# y is never None\nx = typing.cast(int, y)", True),
        ('x = "cast(int, y)  # type: ignore"', True),
        ("x = f(1)  # type: ignore[arg-type]", False),
        ("x = f(1)  # type: ignore", False),
        ("x = f(1)  # type: ignore[arg-type]  # noqa: E501", False),
        ("# The stub is wrong.\n\nx = f(1)  # type: ignore[arg-type]", False),
        ("y = 1  # This is another line.\nx = f(1)  # type: ignore[arg-type]", False),
        ("x = cast(int, y)", False),
        ("x = cast(int, y)  # type: ignore[redundant-cast]", False),
        ("# fmt: skip\nx = typing.cast(int, y)", False),
    ],
)
def test_what_is_a_reason(source: str, explained: bool) -> None:
    """A comment is one, but not a comment for a tool, nor one of another line."""
    assert (not unexplained(source)) == explained
