"""Following tasks until each has ended or is stalled. It shows nothing itself."""

import asyncio
import time
from collections.abc import Callable, Sequence

from bridge.aio import watch
from bridge.channel.channel import Channel
from bridge.channel.transport import Transport, transport_of
from bridge.errors import ConnectionLost
from bridge.tasks.event_types import Event, Reset, Snapshot, State

LOOK_EVERY = 0.2
"""Seconds between two looks at the connection."""

Show = Callable[[str, Event | Reset], None]
"""Shows an event of a task: takes the id of the task, and the event."""


class Following:
    """The tasks that one command follows."""

    def __init__(self, channel: Channel, tasks: Sequence[str], show: Show) -> None:
        self._channel = channel
        self._show = show
        self.states = dict.fromkeys(tasks, "PENDING")
        """The state that each task is in."""
        self._unfinished = set(tasks)
        self._finished = asyncio.Event()

    async def run(self, give_up_after: float) -> None:
        """Show the events of all tasks, until each has ended or is stalled.

        Raises `ConnectionLost` if the backend cannot be reached at first, or later for `give_up_after`
        seconds, or if it does not let this process read a task.
        """
        transport = transport_of(self._channel)
        await asyncio.to_thread(transport.backend.ping)
        running = [asyncio.ensure_future(self._follow(task)) for task in self.states]
        running.append(asyncio.ensure_future(_watch_connection(transport, give_up_after)))
        finished = asyncio.ensure_future(self._finished.wait())
        try:
            waiting = {finished, *running}
            while not finished.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
        finally:
            for each in (finished, *running):
                each.cancel()
            await asyncio.gather(finished, *running, return_exceptions=True)

    async def _follow(self, task: str) -> None:
        async for event in watch(self._channel, task):
            self._show(task, event)
            if isinstance(event, State | Snapshot):
                self.states[task] = event.state
                self._note(task, over=event.state == "STALLED")
        self._note(task, over=True)

    def _note(self, task: str, *, over: bool) -> None:
        """Note whether there is nothing more to wait for. A stalled task may go on while others run."""
        if over:
            self._unfinished.discard(task)
        else:
            self._unfinished.add(task)
        if not self._unfinished:
            self._finished.set()


async def _watch_connection(transport: Transport, give_up_after: float) -> None:
    """Raise `ConnectionLost` when the backend has not been reached for `give_up_after` seconds."""
    reached_at = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_EVERY)
        outage = transport.hub.outage
        if outage is None:
            reached_at = time.monotonic()
        elif time.monotonic() - reached_at >= give_up_after:
            raise ConnectionLost(f"the connection is lost for {give_up_after:g} s: {outage}")
