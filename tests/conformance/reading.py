"""What clients read, and what they do when a stream is cut or over."""

import json
import re
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import httpx
import httpx_sse

import bridge
from tests.conformance.payloads import PADDING, PAYLOADS
from tests.sites import Site
from tests.sse_clients import CLIENTS, LAST, SECONDS, Clients, Seen


def check(reader: object, seen: list[Seen], expected: list[Seen]) -> None:
    """Fail with the first difference, for some of it is 100 KB long."""
    for one, other in zip(seen, expected, strict=False):
        assert (reader, *one) == (reader, *other)
    assert (reader, len(seen)) == (reader, len(expected))


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_every_client_sees_every_payload_as_it_is(served: Site, clients: Clients, topic: str) -> None:
    """What is kept and what comes live: text, ids and order, line ends as LF and nothing else changed."""
    for number, (way, address) in enumerate(served.ways.items()):
        of_way = f"{topic}-{number}"
        expected = served.publish(of_way, PAYLOADS)
        readings = clients.open_all(address, f"topic={of_way}&last_event_id={bridge.BEGINNING}")
        expected += served.publish(of_way, [*PAYLOADS, LAST])
        served.publish(of_way, [PADDING])
        for client, reading in readings.items():
            check((way, client), reading.collect(), expected)


CUSTOM = ("étape: 1", " spaced ", "data", "id:7")
TYPES = ("snapshot", "progress", "log", "state", "end", "reset", "message", *CUSTOM)


def test_every_client_sees_a_task_from_snapshot_to_end(served: Site, clients: Clients, topic: str) -> None:
    """A snapshot, events of every type with their own ids, exactly one end; then the stream is over."""
    for number, address in enumerate(served.ways.values()):
        check_task(served, clients, address, f"{topic}-{number}")


def check_task(served: Site, clients: Clients, address: str, task: str) -> None:
    served.say(task, "state", state="STARTED", name="convert")
    first = served.say(task, "log", level="info", message="before\r\n\u2028")
    readings = clients.open_all(address, f"topic={bridge.task_topic(task)}", TYPES)
    expected = [
        served.say(task, "progress", current=1, total=2, message="half\nway"),
        served.say(task, "log", level="warning", message="\ufeffé\r\n\r\n\u2028 😀 " + "x" * 100_000),
        *(served.say(task, kind, data={"line": "a\nb", "kind": kind}) for kind in CUSTOM),
        served.say(task, "state", state="SUCCESS", result="\r\n")._replace(id=""),
    ]
    for client, reading in readings.items():
        snapshot, *following, end = reading.collect()
        assert (client, snapshot.type, snapshot.id) == (client, "snapshot", first.id)
        logged = [event["message"] for event in json.loads(snapshot.data)["events"]]
        assert logged == ["before\r\n\u2028"]
        check(client, following, expected)
        assert (end.type, end.id, json.loads(end.data)["state"]) == ("end", "end", "SUCCESS")


def test_events_arrive_as_they_are_published(served: Site, topic: str) -> None:
    """No server and no proxy holds an event back until the next: each is seen before another is sent."""
    for address in served.ways.values():
        with (
            httpx.Client(timeout=SECONDS, trust_env=False) as client,
            httpx_sse.connect_sse(client, "GET", f"{address}/stream?topic={topic}") as source,
        ):
            seen = source.iter_sse()
            for number in range(10):
                (expected,) = served.publish(topic, [f"{number}"])
                event = next(seen)
                assert (event.id, event.data) == (expected.id, expected.data)


def test_an_event_source_stops_after_the_end(served: Site, clients: Clients, topic: str) -> None:
    """Back with the id of the end, an EventSource gets 204, by every way, and does not come again."""
    served.say(topic, "state", state="SUCCESS")
    query = f"topic={bridge.task_topic(topic)}"
    pages = [clients.page(address, query, ("end",)) for address in served.ways.values()]
    for page in pages:
        page.wait_for_function("source.readyState === EventSource.CLOSED", timeout=SECONDS * 1000)
        assert [kind for kind, _, _ in page.evaluate("seen")] == ["end"]
        page.close()
    for address in served.ways.values():
        answer = httpx.get(
            f"{address}/stream?{query}", headers={"Last-Event-ID": "end"}, trust_env=False, verify=False
        )
        assert (answer.status_code, answer.content) == (204, b"")


CUTS = (700, 1501, 40_003, 303)
"""In the midst of an event each, and once before the first."""


def test_a_stream_that_is_cut_goes_on_without_gap_or_repeat(
    served: Site, clients: Clients, topic: str
) -> None:
    """From a client's own last id, after a cut in the midst of an event, every event comes exactly once."""
    expected = served.publish(topic, [*PAYLOADS, LAST])
    served.publish(topic, [PADDING])
    query = f"topic={topic}&last_event_id={bridge.BEGINNING}"
    with ExitStack() as stack:
        cutters = {client: Cutter(served.address, CUTS) for client in CLIENTS}
        for cutter in cutters.values():
            stack.callback(cutter.close)
        readings = [clients.follow(client, cutter.address, query) for client, cutter in cutters.items()]
        for client, reading in zip(CLIENTS, readings, strict=True):
            check(client, reading.collect(), expected)
            assert cutters[client].left == []


class Cutter:
    """Passes connections on to a server, and cuts them: each after so many bytes of its answer.

    It lets the clients come back sooner than the server wants: within a second, and not in two.
    """

    def __init__(self, address: str, after: Sequence[int]) -> None:
        self._server = ("127.0.0.1", port_of(address))
        self.left = list(after)
        self._passing: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Cut what is open still, and end the thread."""
        # Closing a socket alone does not wake a thread that waits in `accept`.
        for open_socket in (self._listening, *self._passing):
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        """Pass on one request, whole as it comes, and the answer to it, as far as it may go."""
        with suppress(OSError), client, socket.create_connection(self._server) as server:
            self._passing.append(server)
            request = client.recv(65536)
            left = self.left.pop(0) if self.left and b"/stream" in request else 1 << 30
            server.sendall(request)
            while left and (data := server.recv(min(left, 65536))):
                client.sendall(re.sub(rb"^(retry: )\d(\d{3})$", rb"\g<1>0\2", data, flags=re.MULTILINE))
                left -= len(data)
