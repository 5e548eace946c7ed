"""`bridge tasks`: list the newest tasks."""

import click

from bridge.channel.transport import transport_of
from bridge.cli.json_lines import print_object
from bridge.cli.target import Target, takes_url
from bridge.cli.terminal import clock, console, duration, is_terminal, state_text, table
from bridge.cli.text import plain
from bridge.model.state import TopicState
from bridge.support.validate import check_name
from bridge.tasks.event_types import Snapshot
from bridge.tasks.events import feed_of, task_of
from bridge.tasks.snapshot import read_snapshot, snapshot


@click.command("tasks")
@takes_url()
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    metavar="NUMBER",
    help="How many tasks at most.",
)
@click.option("--tag", metavar="TAG", help="Only the tasks with this tag.")
def command(target: Target, *, limit: int, tag: str | None) -> None:
    """List the newest tasks, the newest first.

    In a pipe each line is the snapshot of a task.
    """
    try:
        feed = check_name(feed_of(tag), "the feed of a tag")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with target.open() as channel:
        states = transport_of(channel).states(feed, limit)
    if not states:
        click.echo("bridge: no task is listed here; to find out why run: bridge doctor", err=True)
    elif is_terminal():
        _print_table(states)
        return
    for state in states:
        print_object(snapshot(state, _task(state)))


def _task(state: TopicState) -> str:
    return task_of(state.topic) or state.topic


def _print_table(states: list[TopicState]) -> None:
    rows = table("task", "name", "state", "%", "queued", "took")
    for state in states:
        found = read_snapshot(state, _task(state))
        percent = found.progress.percent if found.progress is not None else None
        rows.add_row(
            plain(found.task),
            plain(found.name or found.canvas or ""),
            state_text(found.state),
            "" if percent is None else f"{percent:.0f}",
            "" if found.queued_at is None else clock(found.queued_at),
            _took(found),
        )
    console().print(rows)


def _took(found: Snapshot) -> str:
    if found.ended_at is None or found.first_started_at is None:
        return ""
    return duration(found.ended_at - found.first_started_at)
