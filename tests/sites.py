"""The same application in every framework, under every server that the bridge works with."""

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import httpx

import bridge
from bridge.channel.transport import transport_of
from tests import asgi_app, django_app, events, serving
from tests.nginx import Nginx
from tests.processes import leader
from tests.servers import Valkey, eventually
from tests.sse_clients import SECONDS, Seen

LIMITS: dict[str, Any] = {"max_viewers": 60, "max_topics": 5}
"""Of each process."""


class Kind(NamedTuple):
    """A framework under a server, and what is special about the server."""

    framework: str
    server: str
    takes_over: bool = True
    """Whether viewers leave the server."""
    ends: bool = True
    """Whether the server leaves the application time to end its streams."""
    signal: str = "SIGTERM"
    """How the server is stopped."""
    processes: int = 1
    logs_resets: bool = False
    """Whether the server has a traceback in its log for a client that resets half a request."""

    def __str__(self) -> str:
        return f"{self.framework}, {self.server}"


KINDS = (
    Kind("flask", "gunicorn sync"),
    Kind("flask", "gunicorn gthread"),
    Kind("flask", "gunicorn gevent"),
    Kind("flask", "pywsgi", signal="SIGINT", logs_resets=True),
    Kind("flask", "flask", signal="SIGINT"),
    Kind("fastapi", "uvicorn --http httptools --loop uvloop"),
    Kind("fastapi", "uvicorn --http h11 --loop asyncio --workers 2", processes=2),
    # Not Starlette: daphne waits for the threads in which Starlette runs plain views.
    Kind("fastapi", "daphne", takes_over=False, ends=False),
    Kind("starlette", "uvicorn --http h11 --loop uvloop"),
    Kind("starlette", "gunicorn --workers 2", processes=2),
    Kind("starlette", "granian", takes_over=False),
    Kind("starlette", "hypercorn", takes_over=False),
    Kind("django", "gunicorn sync"),
    Kind("django", "gunicorn gthread"),
    Kind("django", "gunicorn gevent"),
    Kind("django", "uvicorn asgi"),
    Kind("django", "daphne asgi", takes_over=False, ends=False),
)
"""Each protocol and each event loop of uvicorn, and each other server, in few runs."""


class Site:
    """A server that runs, the ways that lead to it, and the channel whose topics it streams."""

    def __init__(self, kind: Kind, ways: dict[str, str], log: Path, channel: Any, namespace: str) -> None:
        self.kind = kind
        self.ways = ways
        self.address = ways["direct"]
        self.log = log
        self.channel = channel
        self.namespace = namespace

    @property
    def leader(self) -> int:
        """The process that is told to stop."""
        return leader(self.log)

    def request(self, query: str, method: str = "GET", **headers: str) -> httpx.Response:
        """Return the whole answer to a request for a stream."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.address}/stream?{query}"
        return httpx.request(method, url, headers=named, trust_env=False, verify=False, timeout=SECONDS)

    def count(self, name: str) -> int:
        """Return what the processes of the server count under `name`, together."""
        found: dict[object, int] = {}
        while len(found) < self.kind.processes:
            counted = httpx.get(
                f"{self.address}/stats", trust_env=False, verify=False, timeout=SECONDS
            ).json()
            found[counted.get("pid")] = counted[name]
        return sum(found.values())

    def await_no_viewers(self) -> None:
        eventually(lambda: self.count("viewers") == 0, SECONDS, "viewers that have left are still counted")

    def faults(self) -> list[str]:
        """Return the lines of the log that tell of a fault."""
        words = "/bridge/" if self.kind.logs_resets else "Traceback|ERROR|Exception|never awaited"
        return re.findall(f"^.*(?:{words}).*$", self.log.read_text(), re.MULTILINE)

    def publish(self, topic: str, payloads: Sequence[bytes | str]) -> list[Seen]:
        """Publish to a topic; return what its viewers must see."""
        return [self._publish(topic, p.encode() if isinstance(p, str) else p) for p in payloads]

    def _publish(self, topic: str, payload: bytes) -> Seen:
        message_id = self.channel.topic(topic).publish(payload)
        return Seen("message", message_id, re.sub("\r\n|\r", "\n", payload.decode()))

    def say(self, task: str, kind: str, **fields: Any) -> Seen:
        """Publish an event of a task; return what its viewers must see."""
        event = events.make(kind, task, **fields)
        message_id = transport_of(self.channel).publish(event)
        assert message_id is not None
        return Seen(kind, message_id, event.payload.decode())


@contextmanager
def started(kind: Kind, url: str, namespace: str) -> Iterator[tuple[str, Path]]:
    """Serve the application; yield its address and its log. Everyone may read what is not `secret`."""
    in_capitals = {
        "URL": url,
        "NAMESPACE": namespace,
        **{name.upper(): most for name, most in LIMITS.items()},
    }
    match kind.framework:
        case "flask":
            given = {f"BRIDGE_{name}": str(value) for name, value in in_capitals.items()}
            served = serving.logged(kind.server, AUTHORIZE="true", **given)
        case "django":
            options = {
                **in_capitals,
                "AUTHORIZE": "tests.django_app.may_read",
                "AUTHORIZE_CANCEL": "tests.django_app.may_cancel",
                "MONITOR_TITLE": "<Tasks>",
            }
            served = django_app.serving(kind.server, BRIDGE=options, MIDDLEWARE=django_app.MIDDLEWARE)
        case framework:
            served = asgi_app.serving(
                kind.server, url, namespace, framework=framework, authorize="yes", **LIMITS
            )
    with served as (address, log):
        yield address, log


@contextmanager
def site(kind: Kind, valkey: Valkey, configs: dict[str, str]) -> Iterator[Site]:
    """Run the application, with an nginx of every configuration before it."""
    namespace, url = uuid.uuid4().hex, valkey.url("redis")
    with bridge.connect(url, namespace=namespace) as channel, started(kind, url, namespace) as (address, log):
        texts = [config.replace("http://127.0.0.1:8000", address) for config in configs.values()]
        with Nginx(*texts) if texts else nullcontext() as nginx:
            addresses = nginx.addresses if nginx is not None else []
            ways = dict(zip(("direct", *configs), (address, *addresses), strict=True))
            yield Site(kind, ways, log, channel, namespace)
