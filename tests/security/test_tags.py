"""A token for the tag of one tenant, with tasks that real workers run for two."""

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import bridge
from bridge.celery import tags
from tests.access_apps import FRAMEWORKS, Served, serving
from tests.celery.workers import snapshot, worker
from tests.servers import Valkey
from tests.test_access import bearer, get, stream
from tests.tokens import SECRET


class Ran(NamedTuple):
    """Two tasks that have ended, each of another user."""

    url: str
    mine: str
    other: str
    my_tag: str
    other_tag: str


@pytest.fixture(scope="module")
def ran(valkey: Valkey) -> Iterator[Ran]:
    """A real worker has run one task for user 4 and one for user 42."""
    url, some = valkey.url("redis"), uuid.uuid4().hex
    my_tag, other_tag = f"{some} user:4", f"{some} user:42"
    with worker(url, url) as celery, bridge.connect(url) as channel:

        def run(tag: str) -> str:
            sent: Any = celery.app.send_task("tests.celery_app.add", (1, 2), headers=tags(tag))
            assert snapshot(channel, sent.id)["tags"] == [tag]
            return str(sent.id)

        yield Ran(url, run(my_tag), run(other_tag), my_tag, other_tag)


@pytest.mark.parametrize("kind", FRAMEWORKS)
def test_a_tag_of_another_tenant_shows_nothing_of_its_tasks(kind: str, ran: Ran) -> None:
    """A token for "user:4" opens its own feed and list, and nothing of "user:42", whose name begins alike."""
    with serving(kind, url=ran.url, token_keys=SECRET) as served:
        sent = bearer(served.token(tag=ran.my_tag))
        with stream(served, bridge.tag_topic(ran.my_tag), sent) as lines:
            first = next(line for line in lines if line.startswith("data: "))
        assert ran.mine in first
        assert ran.other not in first
        assert [each["task"] for each in tasks(served, ran.my_tag, sent)] == [ran.mine]
        for path in (
            f"stream?topic={bridge.tag_topic(ran.other_tag)}",
            f"stream?topic={bridge.tag_topic(ran.my_tag)}&topic={bridge.tag_topic(ran.other_tag)}",
            f"stream?topic={bridge.task_topic(ran.other)}",
            f"stream?topic={bridge.FEED}",
            f"tasks?tag={ran.other_tag}",
            "tasks",
            f"task/{ran.other}",
        ):
            refused = get(served, path, sent)
            assert refused.status_code == 403, path
            assert ran.other not in refused.text
        other = bearer(served.token(tag=ran.other_tag))
        assert [each["task"] for each in tasks(served, ran.other_tag, other)] == [ran.other]


def tasks(served: Served, tag: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Return what the list of a tag shows."""
    answer = get(served, f"tasks?tag={tag}", headers)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["tasks"]
    return found
