"""The servers compared, and what one needs to run: its processes, Valkey, publisher and viewers."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Protocol

import hiredis

import bridge
from benchmarks import load
from benchmarks.load import Load, payload
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from tests.servers import Valkey, free_port

HERE = Path(__file__).parent
ROOT = HERE.parent
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
PYTHON = [sys.executable, "-m"]

Pairs = Sequence[tuple[str, bytes]]

TOKEN_KEY = "the key of the benchmarks' tokens, no secret"


@dataclass
class Place:
    """Where one server runs."""

    valkey: Valkey
    port: int = field(default_factory=free_port)
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="benchmark-")))


class Publisher(Protocol):
    patience: float
    """Seconds after which a publish that has not returned waits for the server."""

    def publish(self, pairs: Pairs) -> None:
        """Publish payloads to topics, as fast as it goes."""

    def close(self) -> None:
        """Let go of the connection."""


class RedisPublisher:
    """Pipelined PUBLISH."""

    patience = 30.0

    def __init__(self, port: int, wrap: Callable[[str, bytes], tuple[str, bytes]] | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wrap = wrap

    def publish(self, pairs: Pairs) -> None:
        wrapped = [self._wrap(*pair) for pair in pairs] if self._wrap else pairs
        pack: Any = hiredis.pack_command  # declared for a tuple of one word; it takes any number
        self._socket.sendall(b"".join(pack(("PUBLISH", topic, data)) for topic, data in wrapped))
        left = len(pairs)
        while left:
            left -= self._socket.recv(65536).count(b"\n")

    def close(self) -> None:
        self._socket.close()


class HttpPublisher:
    """Pipelined POST, which nginx takes."""

    patience = 0.5

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def publish(self, pairs: Pairs) -> None:
        head = "POST /publish/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
        for start in range(0, len(pairs), 1000):
            posts = pairs[start : start + 1000]
            self._socket.sendall(
                b"".join(head.format(topic, len(data)).encode() + data for topic, data in posts)
            )
            left, tail = len(posts), b""
            while left:
                data = tail + self._socket.recv(65536)
                left -= data.count(b"HTTP/1.1 2")
                tail = data[-9:]

    def close(self) -> None:
        self._socket.close()


class BridgePublisher:
    """The bridge's own `publish`, one call a message."""

    patience = 30.0

    def __init__(self, url: str) -> None:
        self._transport = transport_of(bridge.connect(url))

    def publish(self, pairs: Pairs) -> None:
        for topic, data in pairs:
            self._transport.publish(Publication(topic, data))

    def close(self) -> None:
        self._transport.close()


def _flask_sse(topic: str, data: bytes) -> tuple[str, bytes]:
    return topic, json.dumps({"data": data.decode()}).encode()


def _django(topic: str, data: bytes) -> tuple[str, bytes]:
    event = {"channel": topic, "event_type": "message", "data": data.decode(), "pub_id": None}
    return "events_channel", json.dumps(event).encode()


def _on_redis(place: Place) -> Publisher:
    return RedisPublisher(place.valkey.port)


def gunicorn(app: str, worker: str = "gevent") -> Callable[[Place], list[str]]:
    """Return the command of a server for `app`, a module of `benchmarks.peers` and a name in it."""

    def command(place: Place) -> list[str]:
        options = [
            "--no-control-socket",
            "-w",
            "1",
            "-k",
            worker,
            "--worker-connections",
            "20000",
            "-t",
            "120",
        ]
        listen = ["--backlog", "4096", "--log-level", "warning", "-b", f"127.0.0.1:{place.port}"]
        return [*PYTHON, "gunicorn", *options, *listen, f"benchmarks.peers.{app}"]

    return command


def uvicorn(app: str) -> Callable[[Place], list[str]]:
    """Return the command of a server for `app`, as `gunicorn` does."""

    def command(place: Place) -> list[str]:
        options = ["--loop", "uvloop", "--http", "httptools", "--log-level", "error", "--no-access-log"]
        return [
            *PYTHON,
            "uvicorn",
            *options,
            "--backlog",
            "4096",
            "--port",
            str(place.port),
            f"benchmarks.peers.{app}",
        ]

    return command


def _nginx(place: Place) -> list[str]:
    text = Template((HERE / "peers/nginx.conf").read_text())
    config = place.directory / "nginx.conf"
    config.write_text(text.substitute(MODULE=NCHAN, DIRECTORY=place.directory, PORT=place.port))
    os.chmod(place.directory, 0o777)  # noqa: PTH101 - its worker runs as another user
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(config)]


def _floor_c(place: Place) -> list[str]:
    return [str(load.compiled(HERE / "peers/floor.c")), str(place.port), str(place.valkey.port)]


@dataclass(frozen=True)
class Peer:
    """One server to compare."""

    name: str
    command: Callable[[Place], list[str]]
    publisher: Callable[[Place], Publisher] = _on_redis
    path: str = "/events/{topic}"
    url: str = "redis"
    """The scheme of the URL that the bridge connects to."""
    window: int | None = None
    """Messages it may be behind before it loses some."""
    answers_at_once: bool = True
    """Whether an answer begins before there is a first event."""
    resumes: bool = False
    most: int = 20_000
    """Viewers it is tried with at most, where more take too long."""
    floor: bool = False


SSE_STARLETTE = Peer("sse-starlette + broadcaster, uvicorn", uvicorn("starlette_app:app"))
DJANGO_EVENTSTREAM = Peer(
    "django-eventstream, uvicorn",
    uvicorn("django_app:app"),
    lambda place: RedisPublisher(place.valkey.port, _django),
    window=10,
)
SEND_LOOP = Peer(
    "send() loop in Python",
    lambda place: [sys.executable, str(HERE / "peers/floor.py"), str(place.port), str(place.valkey.port)],
    floor=True,
)


def has_scheme(scheme: str) -> bool:
    """Whether the bridge knows this URL scheme."""
    try:
        bridge.connect(f"{scheme}://127.0.0.1:1/0").close()
    except bridge.ConfigurationError:
        return False
    return True


def peers() -> list[Peer]:
    """Return what can run here, the bridge first; `PEERS=flask-sse,nchan` chooses by a part of the names."""
    worker = os.environ.get("WORKER", "sync")
    ours = gunicorn("ours:app", worker)
    listed = [
        on_bridge(f"gunicorn {worker}", ours, scheme)
        for scheme in ("redis", "redis+pubsub")
        if has_scheme(scheme)
    ]
    listed += [
        Peer(
            "flask-sse, gunicorn gevent",
            gunicorn("flask_sse_app:app"),
            lambda place: RedisPublisher(place.valkey.port, _flask_sse),
            path="/events?channel={topic}",
            answers_at_once=False,
            most=1000,
        ),
        Peer("queue per viewer, gunicorn gevent", gunicorn("gevent_queue:app")),
        Peer(
            "queue per viewer, gevent pywsgi",
            lambda p: [*PYTHON, "benchmarks.peers.gevent_queue", str(p.port)],
        ),
        SSE_STARLETTE,
        DJANGO_EVENTSTREAM,
    ]
    if NCHAN.exists():
        listed.append(Peer("Nchan, nginx", _nginx, lambda place: HttpPublisher(place.port), resumes=True))
    listed.append(SEND_LOOP)
    if load.compiled(HERE / "peers/floor.c"):
        listed.append(Peer("send() loop in C", _floor_c, floor=True))
    return wanted(listed)


def on_bridge(name: str, command: Callable[[Place], list[str]], scheme: str = "redis") -> Peer:
    """Return a server that streams through the bridge."""
    return Peer(
        f"bridge, {scheme}://, {name}",
        command,
        lambda place: BridgePublisher(place.valkey.url(scheme)),
        url=scheme,
        resumes=scheme == "redis",
    )


def wanted(listed: Sequence[Peer]) -> list[Peer]:
    """Return those of the servers that `PEERS` chooses."""
    words = [part.strip().lower() for part in os.environ.get("PEERS", "").split(",") if part.strip()]
    return [peer for peer in listed if not words or any(word in peer.name.lower() for word in words)]


class Stage:
    """One server with its Valkey, its publisher and its viewers, for one measurement."""

    def __init__(self, peer: Peer, place: Place, session: int, viewers: Load, publisher: Publisher) -> None:
        self.peer, self.place, self.load, self.publisher = peer, place, viewers, publisher
        self._session = session
        self._entered = False
        self.number = 0

    def open(self, count: int, topic: str, timeout: float = 120.0, **options: Any) -> float:
        """Open viewers of `topic`; return the seconds until the last had its answer.

        `options` are those of `Load.open`. One viewer comes first and alone: broadcaster forgets viewers that
        arrive while it subscribes.
        """
        if not self._entered and "{i}" not in topic:
            self._entered, count = True, count - 1
            self.open(1, topic, timeout, **options)
            self.settle([topic])
        before = time.monotonic()
        heads = self.peer.answers_at_once
        path = self.peer.path.format(topic=topic)
        answer = self.load.open(count, path, heads=heads, timeout=timeout, **options)
        if not answer["done"]:
            raise RuntimeError(f"only {answer['open']} of {count} viewers were let in: {answer}")
        if not heads:
            self._until_subscribed(topic, answer["open"], before + timeout)
        return time.monotonic() - before

    def _until_subscribed(self, topic: str, count: int, deadline: float) -> None:
        names = [topic.replace("{i}", str(number)) for number in range(count)] if "{i}" in topic else [topic]
        while sum(self.place.valkey.command("PUBSUB", "NUMSUB", *names)[1::2]) < count:
            if time.monotonic() > deadline:
                raise RuntimeError("the viewers were not let in")
            time.sleep(0.02)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the server meanwhile, so that work piles up."""
        os.killpg(self._session, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._session, signal.SIGCONT)

    def publish(self, topics: Sequence[str], count: int = 1) -> int:
        """Publish `count` messages to each topic; return the number of the last."""
        numbers = range(self.number + 1, self.number + 1 + count)
        self.publisher.publish([(topic, payload(number)) for number in numbers for topic in topics])
        self.number += count
        return self.number

    def settle(self, topics: Sequence[str], timeout: float = 60.0) -> None:
        """Publish until every viewer has the newest message, then count from here."""
        deadline, patience = time.monotonic() + timeout, 0.5
        while not self.load.until(self.publish(topics), patience)["done"]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not every viewer gets messages: {self.load.stats()}")
            patience *= 2
        self.load.mark()

    def _processes(self) -> Iterator[Path]:
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int((path / "stat").read_text().rpartition(")")[2].split()[3]) == self._session:
                    yield path

    def cpu(self) -> float:
        """Return the CPU seconds, user and system, that the server's processes have used."""
        ticks = 0
        for path in self._processes():
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self, kind: str = "Pss") -> int:
        """Return the bytes of memory of the server's processes; `Pss` shares out shared pages."""
        lines = (
            line for path in self._processes() for line in (path / "smaps_rollup").read_text().splitlines()
        )
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))

    def descriptors(self) -> int:
        """Return how many descriptors the server's processes have open."""
        return sum(len(list((path / "fd").iterdir())) for path in self._processes())

    def load_cpu(self) -> float:
        """Return the CPU seconds that the load generator has used."""
        fields = Path(f"/proc/{self.load.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Probe:
    """Asks a plain route all the time, on a new connection each, and keeps the milliseconds."""

    def __init__(self, port: int, every: float = 0.01) -> None:
        self._port, self._every = port, every
        self._over = threading.Event()
        self.milliseconds: list[float] = []
        self.failed = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Probe":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._over.wait(self._every):
            before = time.monotonic()
            if plain(self._port, timeout=20):
                self.milliseconds.append(1000 * (time.monotonic() - before))
            else:
                self.failed += 1

    def p99(self) -> float:
        ordered = sorted(self.milliseconds) or [float("nan")]
        return ordered[int(0.99 * (len(ordered) - 1))]


def plain(port: int, timeout: float = 1.0) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/plain", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def pin(first: bool) -> None:
    """Keep this process on the first core, or on the others."""
    cores = _cores or sorted(os.sched_getaffinity(0))
    _cores[:] = cores
    if len(cores) > 1 and os.environ.get("PIN", "1") != "0":
        os.sched_setaffinity(0, cores[:1] if first else cores[1:])


_cores: list[int] = []


@contextmanager
def stage(peer: Peer) -> Iterator[Stage]:
    """Run `peer` on the first core; its viewers, its publisher and Valkey share the others."""
    pin(first=False)
    place = Place(Valkey(maxclients="30000"))
    place.valkey.start()
    place.valkey.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
    log = place.directory / "server.log"
    environment = {
        **os.environ,
        "BENCH_REDIS": place.valkey.url("redis"),
        "BENCH_URL": place.valkey.url(peer.url),
        "BENCH_TOKEN_KEY": TOKEN_KEY,
        "PYTHONPATH": str(ROOT),
    }
    process = None
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                peer.command(place),
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: pin(first=True),
            )
        _until_up(process, place.port, log)
        with Load(place.port) as viewers, closing(peer.publisher(place)) as publisher:
            yield Stage(peer, place, process.pid, viewers, publisher)
    except Exception:
        for written in (log, place.directory / "error.log"):
            if written.exists():
                print(written.read_text(errors="replace")[-2000:], file=sys.stderr)
        raise
    finally:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        place.valkey.stop()
        shutil.rmtree(place.directory, ignore_errors=True)


def _until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while not plain(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-1000:]}")
        time.sleep(0.05)
