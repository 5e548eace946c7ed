"""`bridge tail`: follow tasks until they have ended."""

import asyncio

import click

from bridge.cli.following import Following, Show
from bridge.cli.json_lines import print_event
from bridge.cli.target import Target, takes_url
from bridge.cli.terminal import is_terminal
from bridge.support.validate import check_name
from bridge.tasks.events import task_topic

STATUSES = {"SUCCESS": 0, "REVOKED": 3, "FAILURE": 4, "REJECTED": 4, "IGNORED": 4, "STALLED": 5}
"""The exit status for each state in which a task is left. The highest of several tasks counts."""


@click.command("tail")
@takes_url("TASK...", least=1, most=None)
@click.option(
    "--give-up-after",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to try to reach a backend that was lost.",
)
@click.pass_context
def command(context: click.Context, target: Target, *tasks: str, give_up_after: float) -> None:
    """Follow tasks by their ids until each has ended or is stalled.

    On a terminal it shows bars, steps and the log; in a pipe each event is a line of JSON. It waits for
    a task that does not exist yet. The exit status is 0 if all tasks succeeded, 3 if one was revoked, 4 if
    one failed, 5 if one is stalled, and 6 if the connection was lost; the highest counts.
    """
    for task in tasks:
        try:
            check_name(task_topic(check_name(task, "a task id")), "the topic of a task")
        except ValueError as error:
            raise click.UsageError(str(error), context) from None
    context.exit(_tail(target, list(dict.fromkeys(tasks)), give_up_after))


def _tail(target: Target, tasks: list[str], give_up_after: float) -> int:
    if not is_terminal():
        return _follow(target, tasks, print_event, give_up_after)
    from bridge.cli.bars import Bars

    with Bars(tasks) as bars:
        return _follow(target, tasks, bars.show, give_up_after)


def _follow(target: Target, tasks: list[str], show: Show, give_up_after: float) -> int:
    """Show the tasks, and return the exit status."""

    async def follow() -> int:
        with target.open() as channel:
            following = Following(channel, tasks, show)
            await following.run(give_up_after)
            return max(STATUSES.get(state, 1) for state in following.states.values())

    return asyncio.run(follow())
