"""Tokens that expire every three seconds cost no viewer an event, while the API and Valkey are killed."""

import time

import pytest

import bridge
from tests.faults.stage import Framework, Stage, names
from tests.faults.test_viewers import EVENTS, judge
from tests.faults.viewer import Viewers
from tests.servers import eventually
from tests.tokens import SECRET, token

pytestmark = pytest.mark.timeout(300)

SECONDS = 3
"""Of a token. `exp` is a whole second, so it is up to one second less."""


def fresh_token() -> str:
    """Return a token as the route of an application does."""
    covered = {"prefixes": [bridge.task_topic("")], "topics": [bridge.FEED]}
    return token(bridge=covered, expires=SECONDS)


@pytest.mark.parametrize("framework", ["flask", "fastapi", "django"])
def test_tokens_expire_while_api_and_valkey_are_killed(framework: Framework) -> None:
    """8 tasks of 200 events, viewers before, during and after, three tokens each: nothing lost or twice."""
    with Stage(framework=framework, token_keys=[SECRET]) as stage, Viewers(fresh_token) as viewers:
        tasks, gate = names(8), stage.folder / "gate"
        first = [viewers.open_before_during_after(stage.events(task), task, EVENTS // 3) for task in tasks]
        first += [viewers.open(stage.events(*tasks), *tasks), viewers.open(stage.events())]
        viewers.await_opened()

        def await_expired(times: int) -> None:
            eventually(lambda: all(viewer.expired >= times for viewer in first), 60, "a stream goes on")
            viewers.check()

        for task in tasks:
            stage.send(task, EVENTS, pause=0.05, gate=str(gate), gate_at=EVENTS * 3 // 4)
        await_expired(1)
        stage.api.kill()
        stage.start_api()
        await_expired(2)
        stage.valkey.kill()
        time.sleep(0.5)
        stage.valkey.start()
        await_expired(3)
        gate.touch()
        judge(stage, viewers, tasks, within=90)
        assert "Traceback" not in stage.api.log.read_text()
