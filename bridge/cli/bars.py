"""What `bridge tail` shows on a terminal: a bar for each task, and above the bars what the tasks say."""

from types import TracebackType
from typing import Any, Self  # Any: the fields that rich keeps for a bar, and JSON that a task gives

from rich.progress import BarColumn, Progress, ProgressColumn, TaskID
from rich.progress import Task as Bar
from rich.table import Column
from rich.text import Text

from bridge.cli.terminal import clock, console, duration, number, state_text
from bridge.cli.text import plain, plain_lines
from bridge.tasks import encoding
from bridge.tasks.encoding import cut
from bridge.tasks.event_types import (
    CancelRequested,
    Custom,
    Event,
    Log,
    Reset,
    Snapshot,
    State,
    Step,
)
from bridge.tasks.event_types import (
    Progress as ProgressEvent,
)

LONGEST = 500
"""Characters that are shown of a result, of the data of an event, or of a reason."""

_LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}
_STEPS = {"started": ("▸", "cyan"), "succeeded": ("✓", "green"), "failed": ("✗", "red")}


class _Field(ProgressColumn):
    """A column with a text of the task."""

    def __init__(self, name: str, **column: Any) -> None:
        super().__init__(Column(no_wrap=True, **column))
        self._name = name

    def render(self, task: Bar) -> Text:
        found: Text = task.fields[self._name]
        return found


class Bars:
    """Shows tasks while its context is open."""

    def __init__(self, tasks: list[str]) -> None:
        bar = BarColumn(24, complete_style="cyan", finished_style="green")
        columns = (_Field("label"), _Field("state"), bar, _Field("figures", ratio=1))
        self._progress = Progress(*columns, console=console(), expand=True, refresh_per_second=8)
        self._bars = {task: self._add(task) for task in tasks}
        self._names: dict[str, str] = {}
        self._started_at: dict[str, float] = {}
        self._shown_until = dict.fromkeys(tasks, 0.0)

    def __enter__(self) -> Self:
        try:
            self._progress.start()
        except BaseException:  # Ctrl-C in between would leave the cursor hidden
            self._progress.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._bars:
            self._update(task, total=100)
        self._progress.stop()

    def _add(self, task: str) -> TaskID:
        label, state, figures = Text(plain(task)), state_text("PENDING"), Text("waiting")
        return self._progress.add_task("", total=None, label=label, state=state, figures=figures)

    def show(self, task: str, event: Event | Reset) -> None:
        """Show an event of a task."""
        match event:
            case Snapshot():
                self._show_snapshot(task, event)
            case State():
                self._show_state(task, event)
            case ProgressEvent():
                self._show_progress(task, event)
            case Log() | Step() | Custom() | CancelRequested():
                self._show_entry(task, event)

    def _show_snapshot(self, task: str, event: Snapshot) -> None:
        """Show where the task is, and what it said that is not shown yet."""
        self._name(task, event.name or event.canvas)
        if event.first_started_at is not None:
            self._started_at[task] = event.first_started_at
        if event.omitted and not self._shown_until[task]:
            self._print(task, event.at, Text(f"… {event.omitted:,} earlier lines", "dim"))
        for entry in event.events:
            if entry.at > self._shown_until[task]:
                self._show_entry(task, entry)
        if event.progress is not None:
            self._show_progress(task, event.progress)
        self._show_state(task, event)

    def _show_entry(self, task: str, event: Event) -> None:
        self._shown_until[task] = max(self._shown_until[task], event.at)
        match event:
            case Log():
                for line in plain_lines(event.message):
                    self._print(task, event.at, Text(line, _LEVELS.get(event.level, "")))
            case Step():
                mark, style = _STEPS.get(event.status, ("·", ""))
                self._print(
                    task, event.at, Text(f"{mark} {plain(' / '.join(event.path or [event.name]))}", style)
                )
            case Custom():
                self._print(task, event.at, Text(f"{plain(event.type)} {_short(event.data)}", "blue"))
            case CancelRequested():
                self._print(task, event.at, Text("cancellation requested", "magenta"))

    def _show_state(self, task: str, event: State | Snapshot) -> None:
        if isinstance(event, State):
            self._name(task, event.name or event.canvas)
        self._update(task, state=state_text(event.state))
        if event.state == "SUCCESS":
            self._update(task, total=100, completed=100)
        elif event.ended:
            self._update(task, total=100)  # without a total the bar would move on
        if event.state == "STARTED":
            self._started_at.setdefault(task, event.at)
        why = _why(event)
        if event.ended or event.state in ("RETRY", "STALLED"):
            self._print(task, event.at, Text.assemble(state_text(event.state), f" {why}" if why else ""))
        if event.state != "PENDING":
            self._update(task, figures=self._figures(task, event))

    def _figures(self, task: str, event: State | Snapshot) -> Text:
        """Return the figures after a state: how long it took, or those of the progress."""
        if event.ended:
            started = self._started_at.get(task)
            return Text("" if started is None else duration(event.at - started))
        figures: Text = self._progress.tasks[self._bars[task]].fields["figures"]
        return Text("") if figures.plain == "waiting" else figures

    def _show_progress(self, task: str, event: ProgressEvent) -> None:
        if event.percent is not None:
            self._update(task, total=100, completed=min(100.0, max(0.0, event.percent)))
        self._update(task, figures=Text(" · ".join(_figures(event))))

    def _name(self, task: str, name: str | None) -> None:
        if name is not None and task not in self._names:
            self._names[task] = plain(name)
            self._update(task, label=Text(self._label(task)))

    def _label(self, task: str) -> str:
        """Return how a task is called in a line: its name and the beginning of its id."""
        name = self._names.get(task)
        return plain(task) if name is None else f"{name} {plain(task[:8])}"

    def _print(self, task: str, at: float, text: Text) -> None:
        label = f"{self._label(task)} " if len(self._bars) > 1 else ""
        self._progress.console.print(Text.assemble((f"{clock(at)} {label}", "dim"), text))

    def _update(self, task: str, **fields: Any) -> None:
        self._progress.update(self._bars[task], **fields)


def _why(event: State | Snapshot) -> str:
    """Return why a task is in its state, or its result."""
    if event.state == "SUCCESS":
        return "" if event.result is None else _short(event.result)
    error = event.error
    if error is not None:
        found = f"{error.get('type', '')}: {error.get('message', '')}"
        return plain(cut(found, LONGEST))
    if event.state == "STALLED":
        return "its worker has stopped publishing heartbeats"
    return plain(cut(event.reason or "", LONGEST))


def _figures(event: ProgressEvent) -> list[str]:
    found = []
    if event.percent is not None:
        found.append(f"{event.percent:3.0f} %")
    if event.current is not None:
        found.append(number(event.current) + (f"/{number(event.total)}" if event.total else ""))
    if event.rate is not None:
        found.append(f"{number(event.rate)}/s")
    if event.eta is not None:
        found.append(f"{duration(event.eta)} left")
    text = " / ".join(each for each in (event.step, event.message) if each)
    return [*found, plain(cut(text, LONGEST))] if text else found


def _short(data: Any) -> str:
    """Return JSON for a terminal, cut."""
    return plain(cut(encoding.encode(data).decode(), LONGEST))
