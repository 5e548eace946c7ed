"""Every viewer has every event once, in order, and exactly one end: whatever happens to API and Valkey."""

import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.stage import Stage, names
from tests.faults.viewer import Viewer, Viewers
from tests.servers import Cluster, Replicated, Sentinel, eventually

pytestmark = pytest.mark.timeout(300)

EVENTS = 200
TASKS_WITH_A_TORTURED_VALKEY = 30


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def watch(stage: Stage, viewers: Viewers, tasks: list[str]) -> list[Viewer]:
    """Open viewers of each task before, during and after it, one of every ten tasks, and one of the feed."""
    chosen = random.Random(7)
    first = [
        viewers.open_before_during_after(stage.events(task), task, chosen.randrange(1, EVENTS))
        for task in tasks
    ]
    for start in range(0, len(tasks), 10):
        ten = tasks[start : start + 10]
        viewers.open(stage.events(*ten), *ten)
    viewers.open(stage.events())
    viewers.await_opened()
    return first


def judge(
    stage: Stage,
    viewers: Viewers,
    tasks: list[str],
    *,
    within: float,
    total: int = EVENTS,
    may_reset: bool = False,
) -> None:
    """Wait for the end of every stream; fail unless each viewer has every number once and one end a task."""
    viewers.await_gone(within)
    feeds = [viewer for viewer in viewers.all if viewer.feed]
    # A feed carries the states of tasks, and not the numbers that each task publishes.
    eventually(lambda: all(feed.knows_ends_of(tasks) for feed in feeds), within=30)
    for viewer in viewers.all:
        assert set(viewer.accounts) <= set(tasks)
        for task, account in viewer.accounts.items():
            if not viewer.feed:
                assert account.numbers == [*range(total)], f"{viewer} {task}: {account}"
            assert account.ends == (0 if viewer.feed else 1), f"{viewer} {task}: {account}"
            assert may_reset or not account.lost
    eventually(lambda: stage.stats()["viewers"] == len(feeds), why="streams are left open")


def test_the_api_is_killed_20_times(stage: Stage, viewers: Viewers) -> None:
    """100 tasks of 200 events, viewers before, during and after, the API killed (-9) and started 20 times."""
    kills, tasks = 20, names(100)
    chosen = random.Random(20)
    first = watch(stage, viewers, tasks)
    share = len(tasks) // kills
    for kill in range(kills):
        current = range(kill * share, (kill + 1) * share)
        for number in current:
            stage.send(tasks[number], EVENTS, pause=0.005)
        enough = chosen.randrange(1, EVENTS * share // 2)
        eventually(lambda: sum(first[number].numbers for number in current) >= enough, within=60)  # noqa: B023
        viewers.check()
        stage.api.kill()
        assert not all(first[number].gone for number in current)
        stage.start_api()
    judge(stage, viewers, tasks, within=90)
    assert len([viewer for viewer in viewers.all if not viewer.feed]) == len(tasks) * 3 + len(tasks) // 10
    assert max(viewer.connections for viewer in first) > kills // 2


def test_a_connection_is_lost_anywhere(stage: Stage, viewers: Viewers) -> None:
    """Connections that are lost after every one to three events, up to the end, cost no event and no end."""
    tasks, total = names(10), 40
    for task in tasks:
        viewers.open(stage.events(task), task, fickle=True)
    viewers.open(stage.events(*tasks), *tasks, fickle=True)
    viewers.await_opened()
    for task in tasks:
        stage.send(task, total, pause=0.002)
    judge(stage, viewers, tasks, within=60, total=total)
    for task in tasks:
        viewers.open(stage.events(task), task, fickle=True)
    judge(stage, viewers, tasks, within=60, total=total)


def killed(stage: Stage) -> None:
    """Five times killed (-9), and started again after half a second."""
    for _ in range(5):
        stage.valkey.kill()
        time.sleep(0.5)
        stage.valkey.start()
        time.sleep(1)


def paused(stage: Stage) -> None:
    """Stopped for 10 seconds, every connection open."""
    stage.valkey.signal(signal.SIGSTOP)
    time.sleep(10)
    stage.valkey.signal(signal.SIGCONT)


def paused_shortly(stage: Stage) -> None:
    """Six times stopped for longer than the tasks' timeout: what they sent is taken, and they cannot know."""
    for _ in range(6):
        stage.valkey.signal(signal.SIGSTOP)
        time.sleep(0.8)
        stage.valkey.signal(signal.SIGCONT)
        time.sleep(0.5)


def clients_killed(stage: Stage) -> None:
    """Forty times every publishing or every reading connection closed by the server."""
    for number in range(40):
        stage.valkey.command("CLIENT", "KILL", "TYPE", ("normal", "pubsub")[number % 2])
        time.sleep(0.1)


@pytest.mark.parametrize("torture", [killed, paused, paused_shortly, clients_killed])
def test_valkey_is_tortured(stage: Stage, viewers: Viewers, torture: Callable[[Stage], None]) -> None:
    """30 tasks of 200 events, viewers before, during and after, while the bridge's Valkey is tortured."""
    tasks = names(TASKS_WITH_A_TORTURED_VALKEY)
    first = watch(stage, viewers, tasks)
    for task in tasks:
        stage.send(task, EVENTS, pause=0.01)
    eventually(lambda: first[0].numbers >= 20, within=30)
    torture(stage)
    judge(stage, viewers, tasks, within=60)


def api_killed(stage: Stage, viewers: Viewers) -> None:
    """Five times killed (-9) at an event of its own, and started again."""
    for kill in range(1, 6):
        eventually(lambda: viewers.all[0].numbers >= kill * EVENTS // 7, within=60)  # noqa: B023
        viewers.check()
        assert not any(viewer.gone for viewer in viewers.all)
        stage.api.kill()
        stage.start_api()


def valkey_killed(stage: Stage, viewers: Viewers) -> None:
    eventually(lambda: viewers.all[0].numbers >= 20, within=60)
    killed(stage)
    assert not all(viewer.gone for viewer in viewers.all)


@pytest.mark.parametrize("torture", [api_killed, valkey_killed])
def test_a_hundred_viewers_of_uvicorn(viewers: Viewers, torture: Callable[[Stage, Viewers], None]) -> None:
    """8 tasks of 200 events, 12 viewers of each whose connections are taken over, 3 of all, one of the feed.

    All are there from the start to the end, while the API or Valkey is killed.
    """
    with Stage(framework="fastapi") as stage:
        tasks = names(8)
        for task in tasks:
            for _ in range(12):
                viewers.open(stage.events(task), task)
        for _ in range(3):
            viewers.open(stage.events(*tasks), *tasks)
        viewers.open(stage.events())
        viewers.await_opened()
        assert stage.stats()["viewers_handed_over"] == len(viewers.all) == 100
        # No task ends before the last blow, however long the API takes to start.
        gate = stage.folder / "gate"
        for task in tasks:
            stage.send(task, EVENTS, pause=0.05, gate=str(gate), gate_at=EVENTS - 1)
        torture(stage, viewers)
        gate.touch()
        judge(stage, viewers, tasks, within=90)
        assert "Traceback" not in stage.api.log.read_text()


@pytest.mark.parametrize("found_by", ["comparison", "the next event"])
def test_valkey_is_flushed(stage: Stage, viewers: Viewers, found_by: str) -> None:
    """All data flushed in the middle: a viewer gets one reset, the snapshot of what there is, and the rest.

    8 of 30 tasks have published 100 of 200 events then; the others have not begun.
    """
    tasks, gate = names(TASKS_WITH_A_TORTURED_VALKEY), stage.folder / "gate"
    first = watch(stage, viewers, tasks)
    for task in tasks:
        stage.send(task, EVENTS, pause=0.001, gate=str(gate), gate_at=100)
    struck = eventually(lambda: _with_numbers(first, 100, 8), within=30)
    viewers.beginnings.add(100)
    stage.valkey.command("FLUSHALL")
    if found_by == "comparison":
        eventually(lambda: all(_was_reset(viewer) for viewer in struck), 60, "silence hides the flush")
    gate.touch()
    viewers.await_gone(within=60)
    for viewer in viewers.all:
        for task, account in viewer.accounts.items():
            flushed = any(task in other.accounts for other in struck)
            if not viewer.feed:
                assert account.numbers == [*range(100 if flushed else 0, EVENTS)], (
                    f"{viewer} {task}: {account}"
                )
            assert flushed or not any(account.lost)
            assert account.ends == (0 if viewer.feed else 1), f"{viewer} {task}: {account}"
    for viewer in struck:
        (account,) = viewer.accounts.values()
        assert account.lost == [[*range(100)]]


def _with_numbers(viewers: list[Viewer], numbers: int, count: int) -> list[Viewer]:
    """The viewers that know as many numbers, if there are `count` of them."""
    found = [viewer for viewer in viewers if viewer.numbers == numbers]
    return found if len(found) == count else []


def _was_reset(viewer: Viewer) -> bool:
    return all(account.lost and not account.awaits_snapshot for account in viewer.accounts.values())


@pytest.mark.parametrize("kind", [Sentinel, lambda: Cluster(replicas=1)], ids=["sentinel", "cluster"])
def test_a_primary_is_killed(kind: type[Replicated], viewers: Viewers) -> None:
    """10 tasks of 200 events on replicated servers: a primary is killed (-9), its replica goes on."""
    with kind() as servers, Stage(servers) as stage:
        tasks = names(10)
        first = watch(stage, viewers, tasks)
        for task in tasks:
            stage.send(task, EVENTS, pause=0.005)
        eventually(lambda: first[0].numbers >= 20, within=30)
        servers.primary(tasks[0]).kill()
        judge(stage, viewers, tasks, within=90, may_reset=True)


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_first_events_arrive(stage: Stage, viewers: Viewers, when: str) -> None:
    """200 of 200 first events arrive where tasks publish before, while and after their viewers connect."""
    tasks, total = names(200), 5
    if when == "after":
        for task in tasks:
            viewers.open(stage.events(task), task)
        viewers.await_opened()
    results = []
    for task in tasks:
        results.append(stage.send(task, total))
        if when == "while":
            viewers.open(stage.events(task), task)
    if when == "before":
        for result in results:
            result.get(timeout=60)
        for task in tasks:
            viewers.open(stage.events(task), task)
    viewers.await_gone(within=60)
    firsts = [viewer.accounts[task].numbers[:1] for viewer, task in zip(viewers.all, tasks, strict=True)]
    assert firsts.count([0]) == 200
    assert all(viewer.numbers == total for viewer in viewers.all)
