"""Viewers: each does what a browser's EventSource does, and judges what it is shown of tasks that count.

A task that counts publishes the custom event `number` with `{"n": 0}`, `{"n": 1}`, … A viewer knows of each
task the numbers in its opening snapshot and those that followed. It notes a fault where a number comes twice,
is left out or comes out of order, where a snapshot comes that was neither the first nor announced by a
`reset`, where an event of a replaying backend has no id, and where anything follows `end`.
"""

import asyncio
import json
import random
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import httpx_sse

from bridge.tasks.event_types import ENDS
from tests.servers import eventually

HURRY = 0.25
"""The part of `retry` that a viewer waits, so that one test sees many reconnects."""


@dataclass(slots=True)
class Account:
    """What one viewer knows of one task."""

    numbers: list[int] = field(default_factory=list)
    lost: list[list[int]] = field(default_factory=list)
    """What it knew before each reset."""
    snapshots: int = 0
    ends: int = 0
    over: bool = False
    """Whether it knows the state in which the task ended."""
    awaits_snapshot: bool = True

    def reset(self) -> None:
        self.lost.append(self.numbers)
        self.numbers = []
        self.over = False
        self.awaits_snapshot = True


class Viewer:
    """An EventSource on `url`: reconnects until it is told to stop, with the last id it saw.

    A `fickle` one loses every connection after one, two or three events, and comes back at once. One that
    can `get_token` sends it, and gets another when the server tells it that this one does not count any more.
    """

    def __init__(
        self,
        url: str,
        tasks: Sequence[str],
        beginnings: set[int],
        *,
        fickle: bool,
        get_token: Callable[[], str] | None = None,
    ) -> None:
        self.url = url
        self._fickle = fickle
        self._get_token = get_token
        self._token = ""
        self.expired = 0
        """How many streams ended with `expired`."""
        self._beginnings = beginnings
        self.feed = not tasks
        self.accounts: dict[str, Account] = defaultdict(Account, {task: Account() for task in tasks})
        self.faults: list[str] = []
        self.connections = 0
        self.gone = False
        """Whether it was answered 204, after which an EventSource never comes back."""
        self.on_frame: Callable[[], None] = lambda: None
        self.last_id = ""
        self._retry = 2.0

    def __repr__(self) -> str:
        of = "the feed" if self.feed else f"{len(self.accounts)} tasks"
        return f"<viewer of {next(iter(self.accounts)) if len(self.accounts) == 1 else of}>"

    @property
    def numbers(self) -> int:
        """How many numbers it knows."""
        return sum(len(account.numbers) for account in self.accounts.values())

    @property
    def opened(self) -> bool:
        """Whether it knows where each of its tasks stands."""
        return not any(account.awaits_snapshot for account in self.accounts.values())

    @property
    def over(self) -> bool:
        """Whether nothing more can come, or nothing more should."""
        return self.gone or bool(self.faults)

    def knows_ends_of(self, tasks: Sequence[str]) -> bool:
        """Whether it knows a state that ends each of `tasks`."""
        accounts = self.accounts
        return accounts.keys() == set(tasks) and all(account.over for account in accounts.values())

    async def run(self, client: httpx.AsyncClient) -> None:
        while not self.over:
            try:
                await self._connect(client)
            except httpx.TransportError:
                pass
            except Exception as error:
                self._fault(f"{type(error).__name__}: {error}")
            self.on_frame()
            await asyncio.sleep(0 if self._fickle else self._retry * HURRY)

    async def _connect(self, client: httpx.AsyncClient) -> None:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._get_token is not None:
            self._token = self._token or self._get_token()
            headers["Authorization"] = f"Bearer {self._token}"
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        async with client.stream("GET", self.url, headers=headers) as response:
            self.connections += 1
            if response.status_code == 204:
                self._stop()
            elif response.status_code == 401 and self._token:
                self._token = ""
            elif response.status_code != 200:
                await response.aread()
                self._fault(f"answered {response.status_code}: {response.text[:500]}")
            else:
                await self._watch(httpx_sse.EventSource(response))

    async def _watch(self, source: httpx_sse.EventSource) -> None:
        left = random.randint(1, 3)
        async for frame in source.aiter_sse():
            self._frame(frame)
            self.on_frame()
            left -= 1
            if self._fickle and left == 0:
                return

    def _stop(self) -> None:
        self.gone = True
        for task, account in self.accounts.items():
            if not account.ends:
                self._fault(f"{task}: told to stop before the end")

    def _frame(self, frame: httpx_sse.ServerSentEvent) -> None:
        if frame.retry is not None:
            self._retry = frame.retry / 1000
        if not frame.data:
            return
        if frame.event == "expired" and self._token:
            # It has no id of its own, so a browser keeps the last one.
            self.expired += 1
            self._token = ""
            return
        self.last_id = frame.id
        event = json.loads(frame.data)
        if event["type"] != frame.event:
            self._fault(f"an event of type {event['type']} was sent as {frame.event}")
        if "task" in event:
            self._of_task(event["task"], event, frame.id)
        else:
            for account in self.accounts.values():
                account.reset()

    def _of_task(self, task: str, event: dict[str, Any], cursor: str) -> None:
        kind = event["type"]
        account = self.accounts[task]
        if self.feed and kind != "snapshot":
            account.awaits_snapshot = False  # a task that is new to the feed has none
        if account.ends:
            self._fault(f"{task}: {kind} after the end")
        handlers = {
            "snapshot": self._snapshot,
            "reset": self._reset,
            "number": self._number,
            "end": self._end,
        }
        handlers.get(kind, self._other)(task, account, event)
        # Between the state that ends a task and `end` the id is empty: who is cut off there begins anew.
        if not cursor and not account.over and kind != "reset" and not (self.feed and kind == "snapshot"):
            self._fault(f"{task}: {kind} without an id")

    def _snapshot(self, task: str, account: Account, event: dict[str, Any]) -> None:
        numbers = [entry["data"]["n"] for entry in event["events"] if entry["type"] == "number"]
        first = numbers[0] if numbers else 0
        if numbers != [*range(first, first + len(numbers))]:
            self._fault(f"{task}: a snapshot with {numbers}")
        if not account.awaits_snapshot:
            if not account.over:
                self._fault(f"{task}: a snapshot that nothing announced, after {_span(account.numbers)}")
            if numbers != account.numbers and not self.feed:  # a feed does not carry them live
                self._fault(f"{task}: a snapshot of {_span(numbers)} after {_span(account.numbers)}")
        if event["omitted"] or first not in self._beginnings:
            self._fault(f"{task}: a snapshot of {_span(numbers)}, {event['omitted']} omitted")
        account.snapshots += 1
        account.numbers = numbers
        account.awaits_snapshot = False
        account.over = event["state"] in ENDS

    def _reset(self, task: str, account: Account, event: dict[str, Any]) -> None:
        account.reset()

    def _number(self, task: str, account: Account, event: dict[str, Any]) -> None:
        number: int = event["data"]["n"]
        expected = {account.numbers[-1] + 1} if account.numbers else self._beginnings
        if number not in expected:
            self._fault(f"{task}: number {number} after {_span(account.numbers)}")
        if account.awaits_snapshot or account.over:
            self._fault(f"{task}: number {number} {'after' if account.over else 'before'} the task's state")
        account.numbers.append(number)

    def _end(self, task: str, account: Account, event: dict[str, Any]) -> None:
        if not account.over:
            self._fault(f"{task}: an end before the state that ends it")
        account.ends += 1

    def _other(self, task: str, account: Account, event: dict[str, Any]) -> None:
        if account.awaits_snapshot:
            self._fault(f"{task}: {event['type']} before the snapshot")
        if event["type"] == "state":
            account.over = event["state"] in ENDS

    def _fault(self, what: str) -> None:
        self.faults.append(f"{what} (connection {self.connections}, last id {self.last_id!r})")


def _span(numbers: list[int]) -> str:
    return f"{numbers[0]}..{numbers[-1]}" if numbers else "none"


class Viewers:
    """Any number of viewers on one event loop, which runs in a thread of its own."""

    def __init__(self, get_token: Callable[[], str] | None = None) -> None:
        self._get_token = get_token
        self.all: list[Viewer] = []
        self.beginnings = {0}
        """The numbers that may be the first which are known of a task."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="viewers")

    def __enter__(self) -> Self:
        self._thread.start()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        timeout = httpx.Timeout(None, connect=10)
        self._client = httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False, verify=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self, url: str, *tasks: str, fickle: bool = False) -> Viewer:
        """Open a viewer of the tasks' stream; with no task, of the feed, which never ends."""
        viewer = Viewer(url, tasks, self.beginnings, fickle=fickle, get_token=self._get_token)
        self.all.append(viewer)
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(viewer.run(self._client)))
        return viewer

    def open_before_during_after(self, url: str, task: str, during: int) -> Viewer:
        """Open a viewer now, one when that knows `during` numbers, and one when it is gone."""
        first = self.open(url, task)
        late = [lambda: first.gone, lambda: first.numbers >= during or first.gone]

        def company() -> None:
            while late and late[-1]():
                late.pop()
                self.open(url, task)

        first.on_frame = company
        return first

    def await_opened(self, within: float = 30) -> None:
        """Wait until every viewer has the snapshots it begins with."""
        eventually(lambda: all(viewer.opened for viewer in self.all), within, "not every viewer was opened")

    def await_gone(self, within: float) -> None:
        """Wait until every viewer of tasks was told to stop; fail at the first fault of any."""

        def settled() -> bool:
            self.check()
            return all(viewer.gone for viewer in self.all if not viewer.feed)

        try:
            eventually(settled, within)
        except AssertionError:
            self.check()
            missing = [self._told(viewer) for viewer in self.all if not (viewer.gone or viewer.feed)]
            raise AssertionError(f"{len(missing)} viewers wait after {within:g} s: {missing[:5]}") from None

    def check(self) -> None:
        """Fail if any viewer found a fault."""
        faults = [f"{viewer}: {fault}" for viewer in list(self.all) for fault in viewer.faults]
        assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:10])

    @staticmethod
    def _told(viewer: Viewer) -> str:
        known = {task: (_span(a.numbers), a.over, a.ends) for task, a in viewer.accounts.items()}
        return f"{viewer} after {viewer.connections} connections: {known}, last id {viewer.last_id!r}"

    def _wait(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(_awaiting(work), self._loop).result(30)

    async def _leave(self) -> None:
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # those that leave may open others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()


async def _awaiting(work: Awaitable[None]) -> None:
    await work
