"""Monitor: decides what a request for the monitor asks for, whatever framework it comes from.

An adapter calls `route`, checks the permission to read `FEED`, and the right to cancel where the step needs
it, and then streams the topics of the step or calls `run`. It turns each `Answer` into a response.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# `Any` in this module: a Celery app, which this package must not require.
from typing import Any, NamedTuple

from bridge import __version__
from bridge.errors import BridgeError, ConfigurationError
from bridge.monitor import actions, files
from bridge.monitor.document import page_answer, refused_answer
from bridge.monitor.http import Answer, Problem, Request, json_answer, problem_answer
from bridge.monitor.listing import Listing, read_limit
from bridge.monitor.workers import Workers
from bridge.streams.refusal import Refusal
from bridge.streams.same_site import refuse_other_sites
from bridge.streams.service import StreamService
from bridge.tasks.events import FEED, is_feed, task_of, task_topic


class Rights(NamedTuple):
    """What the sender of a request may do. It may read."""

    cancel: bool
    """Whether it may ask for tasks to be cancelled. About one task the right is checked again."""


class Step(NamedTuple):
    """What a request asks for. One of the first three members is set."""

    answer: Answer | None = None
    """What everyone may get."""
    topics: tuple[str, ...] = ()
    """The stream of these topics: it needs the permission to read `FEED`, which carries their events."""
    run: Callable[[Rights], Answer] | None = None
    """Returns the answer. It needs the permission to read `FEED`, may wait for the backend, and raises
    nothing that `Monitor.failed` does not take."""
    cancels: str | None = None
    """The id of the task that the sender must have the right to cancel."""
    is_page: bool = False
    """Whether a person sees the answer, also the one of a refusal."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a monitor."""

    title: str = "Tasks"
    celery: Any = None
    """The Celery app whose tasks are cancelled and run again, `None` for the only one with the bridge."""
    run_again: bool = False
    """Whether tasks may be run again, by whoever may cancel them."""

    def __post_init__(self) -> None:
        if not isinstance(self.title, str) or not self.title:
            raise ConfigurationError(f"the title of the monitor must be a str, not {self.title!r}")
        if self.celery is not None and not callable(getattr(self.celery, "send_task", None)):
            raise ConfigurationError(
                f"celery of the monitor must be a Celery app, not {type(self.celery).__name__}"
            )


class Monitor:
    """The monitor of one application. Threads and greenlets may share it."""

    def __init__(self, service: StreamService, options: Options) -> None:
        self._service = service
        self._options = options
        self._listing = Listing(service)
        self._workers = Workers()

    def route(self, request: Request) -> Step:
        """Return what `request` asks for. Raises `Refusal` (403) for a request of another site."""
        refuse_other_sites(
            request.method,
            sec_fetch_site=request.header("Sec-Fetch-Site"),
            origin=request.header("Origin"),
            host=request.header("Host") or "",
        )
        try:
            return self._route(request)
        except Problem as problem:
            return Step(problem_answer(problem))

    def _route(self, request: Request) -> Step:
        path = request.path.removeprefix("/")
        place, _, rest = path.partition("/")
        if request.method in ("GET", "HEAD"):
            if path == "":
                return Step(run=self._page, is_page=True)
            if place == "files":
                found = files.file_answer(rest, request.header("If-None-Match"))
                if found is not None:
                    return Step(found)
            if path == "events":
                return Step(topics=_topics(request))
        if place == "api":
            return self._route_api(request, rest)
        if request.method in ("GET", "HEAD"):
            raise Problem(404, "There is nothing here.")
        raise Problem(405, f"{request.method} is not possible here.")

    def _route_api(self, request: Request, path: str) -> Step:
        service, workers = self._service, self._workers
        method = "GET" if request.method == "HEAD" else request.method
        match method, path.split("/"):
            case "GET", ["tasks"]:
                limit, before = read_limit(request), request.query.get("before", [None])[-1]
                return Step(run=lambda _: json_answer(self._listing.page(limit, before)))
            case "GET", ["workers"]:
                return Step(
                    run=lambda _: json_answer({"workers": workers.listed(service.kept_tasks.workers())})
                )
            case "GET", ["tasks", *parts]:
                task_id = self._checked_id(parts)
                return Step(run=lambda _: json_answer(actions.known(service, task_id)))
            case "DELETE", ["tasks", *parts] if parts:
                task_id = self._checked_id(parts)
                terminate = _flag(request, "terminate")
                return Step(
                    run=lambda _: actions.cancel_task(service, task_id, terminate, self._options.celery),
                    cancels=task_id,
                )
            case "POST", ["tasks", *parts, "run-again"] if parts:
                task_id = self._checked_id(parts)
                if not self._options.run_again:
                    raise Problem(403, "Running tasks again is not enabled; mount with run_again=True.")
                return Step(
                    run=lambda _: actions.run_again(service, task_id, self._options.celery), cancels=task_id
                )
            case _, ["tasks", *_] | ["workers"]:
                raise Problem(405, f"{method} is not possible here.")
        raise Problem(404, "There is nothing here.")

    def _checked_id(self, parts: Sequence[str]) -> str:
        """Return the id of a task, which may contain slashes. Raises `Problem` (404)."""
        task_id = "/".join(parts)
        try:
            self._service.check_name(task_topic(task_id))
        except Refusal:
            raise Problem(404, "This is not a task id.") from None
        return task_id

    def _page(self, rights: Rights) -> Answer:
        can_cancel = rights.cancel and actions.has_app(self._options.celery)
        return page_answer(
            {
                "version": __version__,
                "files": f"files/{files.version()}",
                "canCancel": can_cancel,
                "canRunAgain": can_cancel and self._options.run_again,
                "heartbeat": self._service.settings.heartbeat,
                "title": self._options.title,
            }
        )

    def run(self, step: Step, rights: Rights) -> Answer:
        """Return the answer of a step that has `run`. It may wait for the backend and for the broker."""
        assert step.run is not None, "only such a step is run"
        try:
            return step.run(rights)
        except Problem as problem:
            return problem_answer(problem)
        except ConfigurationError:
            raise
        except BridgeError as error:
            detail = f"The backend of the bridge cannot be reached: {error}"
            return self.refused(step, Refusal(503, detail))

    def refused(self, step: Step | None, refusal: Refusal) -> Answer:
        """Return the answer to a request that `refusal` refuses. `step` is what it asked for, if known."""
        if step is not None and step.is_page:
            return refused_answer(refusal)
        return problem_answer(refusal)


def _topics(request: Request) -> tuple[str, ...]:
    """Return the topics that the query of a request for a stream names, `FEED` if it names none.

    Topics of the application itself are none of the monitor's: `FEED` does not carry their messages.
    """
    query = request.query
    topics = [*query.get("topic", ()), *map(task_topic, query.get("task", ()))] or [FEED]
    for topic in topics:
        if not is_feed(topic) and task_of(topic) is None:
            raise Problem(404, "The monitor has the topics of tasks and tags only.")
    return tuple(topics)


def _flag(request: Request, name: str) -> bool:
    value = request.query.get(name, ["0"])[-1]
    if value not in ("0", "1"):
        raise Problem(422, f"{name} must be 1 or 0.")
    return value == "1"
