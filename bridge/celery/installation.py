"""`install`: has the tasks of a Celery app publish their events."""

import atexit
from dataclasses import replace

# `Any` in this module: the options of `bridge.connect` have several types, which it checks.
from typing import Any

from celery import Celery

from bridge.celery.apps import FLUSH_WITHIN, Installed, TagTask
from bridge.celery.choosing import choose_url
from bridge.celery.log_capture import level_number
from bridge.celery.wrapping import attach
from bridge.channel.default_url import ChosenUrl, note_installed
from bridge.channel.factory import connect
from bridge.channel.transport import transport_of
from bridge.errors import ConfigurationError
from bridge.tasks.publisher import BackgroundPublisher


def install(
    app: Celery,
    url: str | None = None,
    *,
    tracebacks: bool = False,
    arguments: bool = False,
    heartbeat: float = 5.0,
    stalls_after: float | None = None,
    tags: TagTask | None = None,
    capture: bool = False,
    capture_logs: str | int | None = None,
    feed: bool = True,
    **options: Any,
) -> None:
    """Have the tasks of `app` publish their events on the channel at `url`.

    Call it once in the module that creates the app, so that workers and the processes that queue tasks both
    call it. `options` are those of `bridge.connect`. Without `url` it is `app.conf.bridge_url`, else the
    environment's `BRIDGE_URL`, else Celery's broker if that is Redis, Sentinel or a SQL database: so
    configure the app first. A worker logs which one it is.

    `tracebacks` adds the traceback to the event of a failure, and `arguments` the arguments to the event that
    a task is queued. Everyone who may read the task then sees them. Arguments of more than 16 KiB of JSON are
    left out, and values whose names look like a secret (`password`, `token`) are hidden; a secret under
    another name is not. A call of `apply_async` with `argsrepr` or `kwargsrepr` stores none. A
    worker sends a heartbeat every `heartbeat` seconds. When nothing is heard of it for `stalls_after`
    seconds, its tasks show as STALLED. The default is three heartbeats.

    `tags(name, args, kwargs, headers)` is called in the process that queues a task. It returns the tags of
    the task; a single one may be a `str`. The task also has the tags in its headers, see
    `bridge.celery.tags`, and those of the task that starts it: 8 in all at most, in this order after those
    in the headers. An error in the function is logged once, and the task is sent without its tags. For a
    canvas it is called once more for each task, to find the tags that all have.

    With `capture`, tasks that do not know the bridge publish too: `update_state` of the running task becomes
    progress (the keys `current` and `total`, else `percent` or `progress`, with `description`, `message` or
    `status`), a state that is none of Celery's own is shown by its name, and `send_event` becomes an event. A
    task that calls `progress`, `track` or `step` is shown by those figures alone. With `capture_logs`, a
    level such as "INFO", what a task writes with `logging` becomes lines of its log. The levels of the
    loggers count before.

    With `feed=False` the feed of all tasks, `bridge.FEED`, gets nothing of this app, and the backend has less
    to do. `tasks()` without a tag and the list of the monitor then lack its tasks, and a worker that starts
    does not learn which of the waiting tasks were cancelled before. The feeds of tags stay. Give the same
    value in all processes of an app.

    The first call in a process connects handlers to Celery's signals and wraps the methods that start a
    canvas. `bridge.celery.wrapping` lists them. No call opens a connection or starts a thread: both wait
    until there is an event to send. A second call for the same app replaces the channel. It waits up to a
    second until the events that wait for the first channel are sent.

    Raises `ConfigurationError` if `app` is no Celery app, if `url` or an option cannot be used, if there is
    no `url` and no broker that can carry the bridge, if `tags` cannot be called, if `feed` is no `bool`, or
    unless `heartbeat` is above zero and below `stalls_after`. Several threads may call it at once.
    """
    if not isinstance(app, Celery):
        raise ConfigurationError(f"install() takes a Celery app, not {type(app).__name__}")
    limit = 3 * heartbeat if stalls_after is None else stalls_after
    if not 0 < heartbeat < limit:
        raise ConfigurationError(
            f"heartbeat must be seconds above zero and below stalls_after, not {heartbeat!r} and {limit!r}"
        )
    if tags is not None and not callable(tags):
        raise ConfigurationError(f"tags must be a function that returns tags, not {type(tags).__name__}")
    if not isinstance(capture, bool):
        raise ConfigurationError(f"capture must be True or False, not {capture!r}")
    if not isinstance(feed, bool):
        raise ConfigurationError(f"feed must be True or False, not {feed!r}")
    log_level = level_number(capture_logs)
    chosen = choose_url(app) if url is None else ChosenUrl(url, "install()")
    chosen = replace(chosen, options=options)
    transport = transport_of(connect(chosen.url, **options))
    publisher = BackgroundPublisher(transport, feed=feed)
    installed = Installed(
        transport,
        publisher,
        chosen,
        tracebacks,
        float(heartbeat),
        float(limit),
        tags,
        capture,
        log_level,
        feed,
        arguments is True,
    )
    previous = attach(app, installed)
    note_installed(app, chosen)
    if previous is not None:
        previous.publisher.close()
    atexit.register(publisher.flush, FLUSH_WITHIN)
