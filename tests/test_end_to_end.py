"""End to end, in real processes: HTTP in, a prefork worker, Valkey, gunicorn, Server-Sent Events out."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import pytest

from tests.servers import eventually
from tests.stack import Stack

SAMPLE = Path(__file__).parent.parent / "api" / "static" / "sample" / "airports.csv"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def follow(client: httpx.Client, url: str) -> list[dict[str, Any]]:
    """Return the events of a stream up to its end."""
    with client.stream("GET", url) as response:
        assert response.status_code == 200
        return [event.json() for event in httpx_sse.EventSource(response).iter_sse()]


def submit(client: httpx.Client, name: str, **arguments: Any) -> dict[str, Any]:
    accepted: dict[str, Any] = client.post(f"/tasks/{name}", json=arguments).raise_for_status().json()
    return accepted


def test_an_uploaded_file_is_followed_to_its_counts(client: httpx.Client) -> None:
    """A file goes in by form; its stream opens with a snapshot and ends with the counts and one end."""
    with SAMPLE.open("rb") as file:
        task = client.post("/tasks/import_csv", files={"file": file}).raise_for_status().json()
    seen = follow(client, task["events"])
    assert [event["type"] for event in seen].count("end") == 1
    assert (seen[0]["type"], seen[-1]["type"], seen[-1]["state"]) == ("snapshot", "end", "SUCCESS")
    found = client.get(f"/tasks/{task['id']}").json()
    assert found["result"]["loaded"] == found["result"]["rows"] == 3376
    assert found["progress"]["percent"] == 100
    assert found["queued_at"] <= found["started_at"] <= found["ended_at"]


def test_a_hundred_viewers_see_every_token_and_one_end(client: httpx.Client, stack: Stack) -> None:
    """Whether they come before, while or after the task speaks, all of them have the complete text."""
    words = " ".join(f"word{number}" for number in range(50))
    task = submit(client, "narrate", text=words, delay=0.01)
    texts = []

    def view() -> None:
        with stack.client() as own:
            text, ends = "", 0
            for event in follow(own, task["events"]):
                for said in event["events"] if event["type"] == "snapshot" else [event]:
                    text += said["data"]["text"] if said["type"] == "token" else ""
                ends += event["type"] == "end"
            texts.append((text, ends))

    viewers = [threading.Thread(target=view) for _ in range(100)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    assert texts == [(words, 1)] * 100


def test_an_ended_stream_is_over(client: httpx.Client) -> None:
    """A stream asked for after its end gives all there is at once; with the last id, 204."""
    task = submit(client, "narrate", text="one two", delay=0)
    follow(client, task["events"])
    with client.stream("GET", task["events"]) as response:
        again = list(httpx_sse.EventSource(response).iter_sse())
    assert [event.event for event in again] == ["snapshot", "end"]
    assert client.get(task["events"], headers={"Last-Event-ID": again[-1].id}).status_code == 204


def test_several_tasks_come_through_one_stream(client: httpx.Client) -> None:
    """Two tasks asked for in one stream both reach their end, and then the stream is closed."""
    tasks = [submit(client, "narrate", text=text, delay=0.01)["id"] for text in ("a b c", "d e f")]
    seen = follow(client, f"/events?task={tasks[0]}&task={tasks[1]}")
    assert {event["task"] for event in seen if event["type"] == "end"} == set(tasks)


def test_failure_is_an_end_too(client: httpx.Client, stack: Stack) -> None:
    """A task whose file has vanished meanwhile ends with its error, which the viewer sees."""
    path = stack.data_dir / "uploads" / "gone.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a,b\n1,2\n")
    blockers = [submit(client, "narrate", text="one two three four", delay=0.1) for _ in range(2)]
    task = submit(client, "import_csv", path="gone.csv")
    path.unlink()
    seen = follow(client, task["events"])
    assert seen[-1]["state"] == "FAILURE"
    (failed,) = [event for event in seen if event.get("error")]
    assert "does not exist" in failed["error"]["message"]
    for blocker in blockers:
        follow(client, blocker["events"])


def test_a_revoked_task_ends(client: httpx.Client) -> None:
    """A queued task that is revoked never runs, and its stream ends with REVOKED."""
    blockers = [submit(client, "narrate", text="one two three four five", delay=0.2) for _ in range(2)]
    task = submit(client, "narrate", text="never said")
    assert client.delete(f"/tasks/{task['id']}").status_code == 202
    seen = follow(client, task["events"])
    assert seen[-1]["state"] == "REVOKED"
    assert not [event for event in seen if event["type"] == "token"]
    for blocker in blockers:
        follow(client, blocker["events"])


def test_the_api_holds_no_connection_a_viewer(client: httpx.Client, stack: Stack) -> None:
    """Twenty open streams leave the number of connections to Valkey as it was with one."""
    task = submit(client, "narrate", text=" ".join("abcdefghij"), delay=0.3)

    def metric(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    with client.stream("GET", task["events"]):
        before = stack.valkey.connections()
        streams = [stack.client() for _ in range(20)]
        opened = [own.send(own.build_request("GET", task["events"]), stream=True) for own in streams]
        eventually(lambda: metric("bridge_viewers") >= 21)
        assert stack.valkey.connections() <= before
        for response, own in zip(opened, streams, strict=True):
            response.close()
            own.close()
