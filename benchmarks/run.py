"""Run every question and put the tables into docs/benchmarks.md; `QUICK=1`, a smoke run, writes no docs."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    accept,
    canvas,
    fanout,
    frameworks,
    intake_sql,
    lifecycle,
    litestar,
    memory,
    progress,
    publish,
    sql,
    storm,
    stuck,
    topics,
)  # fmt: skip
from benchmarks.common import QUICK, RESULTS, markdown, say
from benchmarks.load import language

QUESTIONS = (
    fanout, topics, memory, accept, frameworks, stuck, storm, publish, progress, lifecycle, canvas, sql,
    intake_sql, litestar,
)  # fmt: skip
NAMES = (
    *(
        "fanout",
        "topics",
        "memory",
        "accept",
        "frameworks",
        "stuck",
        "storm",
        "publish",
        "publish_together",
        "latency",
    ),
    *("track", "progress", "lifecycle", "canvas"),
    *("sql_latency", "sql_drain", "sql_idle", "sql_instances", "sql_intake", "litestar"),
)
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def tables(results: Sequence[dict[str, Any]]) -> str:
    """Return all results as Markdown, the machine first."""
    machine = results[-1]["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}"
    head = f"{where}; {packages}. Load generator in {language()}. Figures are medians of alternating rounds."
    return "\n\n".join([head, *map(markdown, results)])


def write_docs(text: str) -> None:
    page = DOCS.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCS.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> int:
    failed = []
    for question in QUESTIONS:
        say(f"== {question.__name__.rpartition('.')[2]}: {(question.__doc__ or '').splitlines()[0]}")
        try:
            question.main()
        except Exception as error:
            failed.append(question.__name__)
            say(f"{question.__name__} failed: {type(error).__name__}: {error}")
    if QUICK:
        say(f"a smoke run: docs/benchmarks.md stays as it is; the figures are in {RESULTS.name}/")
    else:
        files = [RESULTS / f"{name}.json" for name in NAMES]
        write_docs(tables([json.loads(file.read_text()) for file in files if file.exists()]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
