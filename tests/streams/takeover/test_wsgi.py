"""Taking a connection over from the server, under every server, and letting it be where that cannot work."""

import gzip
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import pytest

from bridge.streams.takeover.connection import TakenConnection, chunk
from bridge.streams.takeover.wsgi import Takeover
from tests.processes import running
from tests.servers import eventually, free_port
from tests.serving import SERVERS

SECONDS = 20
ALL = (*SERVERS, "gunicorn gevent_pywsgi")
GET = "GET {path} HTTP/{version}\r\nHost: test\r\n\r\n"
REQUEST = re.compile(r'"(GET|HEAD) \S+( HTTP/1\.[01])?" (\w+)')
# The status in the log of gunicorn's gevent_pywsgi when a client left, or for a request after the stream's.
LEFT = "socket"


def command(server: str, port: int, tls: tuple[Path, Path] | None = None) -> list[str]:
    """Return the command line that serves the app with `server` on `port`."""
    python, factory = [sys.executable, "-m"], "tests.takeover_app:create_app()"
    files = [str(file) for file in tls or ()]
    match server.split():
        case ["gunicorn", worker]:
            threads = ["--threads", "8"] if worker == "gthread" else []
            options = ["-k", worker, *threads, "-b", f"127.0.0.1:{port}", "--no-control-socket"]
            logs = ["--access-logfile", "-", "--access-logformat", '"%(r)s" %(s)s']
            encrypted = ["--certfile", files[0], "--keyfile", files[1]] if files else []
            return [*python, "gunicorn", *options, *logs, *encrypted, factory]
        case ["pywsgi"]:
            return [*python, "tests.takeover_app", str(port), *files]
        case _:
            encrypted = ["--cert", files[0], "--key", files[1]] if files else []
            return [*python, "flask", "--app", factory, "run", "--port", str(port), *encrypted]


class Connection:
    """A client that sees every byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.close = self.socket.close
        self.received = b""

    def ask(self, path: str = "/stream", version: str = "1.1") -> None:
        self.socket.sendall(GET.format(path=path, version=version).encode())

    def until(self, word: bytes) -> None:
        """Read up to and with `word`."""
        while word not in self.received:
            data = self.socket.recv(65536)
            assert data, self.received
            self.received += data

    def read_what_is_there(self) -> None:
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while data := self.socket.recv(65536):
                self.received += data

    def body(self) -> bytes:
        """Read until the server closes; return the body, whose framing must be faultless."""
        while data := self.socket.recv(65536):
            self.received += data
        head, _, rest = self.received.partition(b"\r\n\r\n")
        assert re.match(rb"HTTP/1\.[01] 200 OK\r\n", head), self.received
        if b"transfer-encoding: chunked" not in head.lower():
            return rest
        whole = b""
        while size := int(rest[: rest.index(b"\r\n")], 16):
            _, _, rest = rest.partition(b"\r\n")
            assert rest[size : size + 2] == b"\r\n", rest
            whole, rest = whole + rest[:size], rest[size + 2 :]
        assert rest == b"0\r\n\r\n", rest
        return whole

    def reset(self) -> None:
        """Vanish."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@dataclass
class Server:
    """A server of the app."""

    port: int
    log: Path

    def get(self, path: str, **parameters: int) -> httpx.Response:
        address = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(address, params=parameters, timeout=SECONDS, trust_env=False, verify=False)

    def stats(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.get("/stats").json()
        return answer

    def has(self, viewers: int) -> None:
        eventually(lambda: self.stats()["viewers"] == viewers, SECONDS, f"not {viewers} viewers")

    def connect(self) -> Any:
        return closing(Connection(self.port))

    @contextmanager
    def viewer(self, path: str = "/stream", version: str = "1.1") -> Iterator[Connection]:
        """Open a stream that is no longer the server's."""
        viewers = self.stats()["viewers"]
        with self.connect() as connection:
            connection.ask(path, version)
            connection.until(b": first\n")
            self.has(viewers + 1)
            yield connection

    def answered(self) -> bool:
        try:
            return self.get("/stats").is_success
        except httpx.TransportError:
            return False


@contextmanager
def serving(name: str) -> Iterator[Server]:
    port = free_port()
    with running(command(name, port)) as log:
        server = Server(port, log)
        eventually(server.answered, 60, f"{name} did not start")
        with server.viewer():  # opens what is opened once
            pass
        server.has(0)
        yield server


@pytest.fixture(scope="module", params=ALL)
def shared(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """Each server in turn; afterwards nothing is left of a test, and the log shows nothing but requests."""
    written = shared.log.stat().st_size
    descriptors = shared.stats()["descriptors"]
    yield shared
    shared.get("/end")
    shared.has(0)
    eventually(lambda: shared.stats()["descriptors"] <= descriptors, SECONDS, "descriptors leak")
    assert shared.stats()["strays"] == []
    assert {status(line) for line in lines(shared, written)} <= {"200", LEFT}


def lines(server: Server, written: int) -> list[str]:
    """Return what the log got since it was `written` bytes long."""
    return server.log.read_bytes()[written:].decode().splitlines()


def status(line: str) -> str:
    """Return the status of a request in the access log, or the line if it is something else."""
    request = REQUEST.search(line)
    return request[3] if request else line


def frames(first: int, last: int) -> bytes:
    return b"".join(b"data: %d\n\n" % number for number in range(first, last))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_every_frame_arrives_and_the_end_is_an_end(server: Server, version: str) -> None:
    """A client gets the first chunk, every frame in order, a faultless end, and nothing else."""
    with server.viewer(version=version) as one, server.viewer(version=version) as two:
        for first in range(0, 100, 10):
            server.get("/send", first=first, last=first + 10)
        server.get("/end")
        assert one.body() == two.body() == b": first\n" + frames(0, 100)
        # Otherwise a client may send its next request on the connection that is about to be closed.
        head = one.received.partition(b"\r\n\r\n")[0] + b"\r\n"
        assert re.findall(rb"(?i)\r\nconnection: *(.*)\r\n", head) == [b"close"], head


def test_frames_arrive_as_they_are_sent(server: Server) -> None:
    """httpx and its EventSource see each event when it is sent, and the end of the stream."""
    address = f"http://127.0.0.1:{server.port}/stream"
    with (
        httpx.Client(timeout=SECONDS, trust_env=False) as client,
        client.stream("GET", address) as response,
    ):
        server.has(1)
        events = httpx_sse.EventSource(response).iter_sse()
        for number in range(5):
            server.get("/send", first=number, last=number + 1)
            assert next(events).data == str(number)
        server.get("/end")
        assert list(events) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_curl_understands_it(server: Server, version: str) -> None:
    """curl takes the stream for a whole response, in both versions of HTTP."""
    address = f"http://127.0.0.1:{server.port}/stream"
    curl = subprocess.Popen(["curl", "-sSN", version, "--noproxy", "*", address], stdout=subprocess.PIPE)
    server.has(1)
    server.get("/send", first=0, last=10)
    server.get("/end")
    output, _ = curl.communicate(timeout=SECONDS)
    assert (curl.returncode, output) == (0, b": first\n" + frames(0, 10))


def test_two_hundred_streams_leave_the_server_free(server: Server) -> None:
    """With 200 streams open even one sync worker answers, idles while nothing is sent, and all get all."""
    with ExitStack() as opened:
        viewers = [opened.enter_context(server.connect()) for _ in range(200)]
        for viewer in viewers:
            viewer.ask()
        server.has(200)
        before = server.stats()
        assert before["descriptors"] < 200 + 40
        for viewer in viewers:
            viewer.until(b": first\n")
        assert spent(server, viewers[0]) < 0.1
        server.get("/send", first=0, last=20)
        server.get("/end")
        assert {viewer.body() for viewer in viewers} == {b": first\n" + frames(0, 20)}


def spent(server: Server, silent: Connection) -> float:
    """Return the seconds of CPU that the server spends while a viewer hears nothing for one second."""
    silent.read_what_is_there()
    before = server.stats()["cpu"]
    silent.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        silent.socket.recv(1)
    silent.socket.settimeout(SECONDS)
    cpu: float = server.stats()["cpu"] - before
    return cpu


def test_the_server_no_longer_watches_the_connection(server: Server) -> None:
    """What a client sends after the hand-over, or its going, wakes nothing in the server that lost it."""
    with slow_viewer(server) as loud, slow_viewer(server) as gone:
        assert server.stats()["strays"] == []
        loud.socket.sendall(b"x" * 1000)
        gone.socket.shutdown(socket.SHUT_WR)
        assert spent(server, loud) < 0.1
        assert server.stats()["strays"] == []
        server.get("/send", first=0, last=3)
        server.get("/end")
        assert loud.body() == gone.body() == b": first\n" + frames(0, 3)


@contextmanager
def slow_viewer(server: Server) -> Iterator[Connection]:
    """Open a stream with a request for whose second half the server has to wait, and never read from it."""
    viewers = server.stats()["viewers"]
    with server.connect() as connection:
        connection.socket.sendall(b"GET /stream?deaf=1 HTTP/1.1\r\n")
        with suppress(httpx.ReadTimeout):  # one sync worker cannot answer while it waits
            httpx.get(f"http://127.0.0.1:{server.port}/stats", timeout=0.5, trust_env=False, verify=False)
        connection.socket.sendall(b"Host: test\r\n\r\n")
        connection.until(b": first\n")
        server.has(viewers + 1)
        yield connection


def test_five_hundred_come_and_go(server: Server) -> None:
    """500 streams opened and left one after the other leave no descriptor and no viewer behind."""
    before = server.stats()["descriptors"]
    for _ in range(10):
        with ExitStack() as opened:
            viewers = [opened.enter_context(server.connect()) for _ in range(50)]
            for viewer in viewers:
                viewer.ask()
            for viewer in viewers:
                viewer.until(b": first\n")
    server.has(0)
    eventually(lambda: server.stats()["descriptors"] <= before, SECONDS, "descriptors leak")


def test_each_request_is_one_normal_line_in_the_access_log(server: Server) -> None:
    """A stream that left the server is logged once, as a request answered with 200."""
    written = server.log.stat().st_size

    with server.viewer() as one, server.viewer(version="1.0") as two:
        server.get("/send", first=0, last=3)
        server.get("/end")
        assert one.body() == two.body()
    server.get("/stats", last=1)
    eventually(lambda: "last=1" in "".join(lines(server, written)))
    assert [status(line) for line in lines(server, written) if "/stream" in line] == ["200", "200"]


def test_head_opens_no_stream(server: Server) -> None:
    """HEAD is answered with the head alone."""
    response = httpx.head(f"http://127.0.0.1:{server.port}/stream", timeout=SECONDS, trust_env=False)
    assert (response.status_code, response.content) == (200, b"")
    assert server.stats()["viewers"] == 0


@pytest.mark.parametrize("path", ["/stats", "/stream"])
@pytest.mark.parametrize("together", [True, False], ids=["together", "later"])
def test_a_pipelined_request_is_never_answered_in_the_stream(
    server: Server, path: str, together: bool
) -> None:
    """Whatever request follows, in the same packet or afterwards, the client gets its one stream."""
    first, second = (GET.format(path=each, version="1.1").encode() for each in ("/stream", path))
    with server.connect() as connection:
        connection.socket.sendall(first + second if together else first)
        connection.until(b": first\n")
        server.has(1)
        if not together:
            connection.socket.sendall(second)
        server.get("/send", first=0, last=3)
        assert server.stats()["viewers"] == 1
        server.get("/end")
        assert connection.body() == b": first\n" + frames(0, 3)


@pytest.mark.parametrize("leave", [Connection.reset, lambda it: it.close()], ids=["reset", "close"])
def test_half_a_request_disturbs_nobody(shared: Server, leave: Callable[[Connection], None]) -> None:
    """Whatever the server says of half a request, the streams it lost go on, and no descriptor is lost."""
    descriptors = shared.stats()["descriptors"]
    with shared.viewer() as staying:
        for _ in range(10):
            connection = Connection(shared.port)
            connection.socket.sendall(b"GET /stream HTTP/1.1\r\nHost:")
            leave(connection)
        shared.get("/send", first=0, last=3)
        shared.get("/end")
        assert staying.body() == b": first\n" + frames(0, 3)
    eventually(lambda: shared.stats()["descriptors"] <= descriptors, SECONDS, "descriptors leak")


def send_all(connection: Connection) -> None:
    connection.ask()


def read_the_head(connection: Connection) -> None:
    connection.ask()
    connection.until(b": first\n")


@pytest.mark.parametrize("phase", [send_all, read_the_head])
@pytest.mark.parametrize("leave", [Connection.reset, lambda it: it.close()], ids=["reset", "close"])
def test_a_client_may_leave_at_any_time(
    server: Server, phase: Callable[[Connection], None], leave: Callable[[Connection], None]
) -> None:
    """Who goes right after the request, or during the stream, disturbs nobody."""
    with server.viewer() as staying:
        for _ in range(10):
            connection = Connection(server.port)
            phase(connection)
            leave(connection)
        server.has(1)
        server.get("/send", first=0, last=3)
        server.get("/end")
        assert staying.body() == b": first\n" + frames(0, 3)


@pytest.mark.parametrize("through", ["hasty", "careless"])
def test_middleware_that_leaves_the_body_alone_is_no_hindrance(server: Server, through: str) -> None:
    """A stream leaves the server through middleware too, even if that closes it early or never."""
    with server.viewer(f"/stream?through={through}") as viewer:
        server.get("/send", first=0, last=3)
        server.get("/end")
        assert viewer.body() == b": first\n" + frames(0, 3)


@pytest.mark.parametrize(
    ("through", "decode"), [("compressing", gzip.decompress), ("late", bytes)], ids=["compressing", "late"]
)
def test_middleware_that_rewrites_the_body_keeps_the_plain_stream(
    server: Server, through: str, decode: Callable[[bytes], bytes]
) -> None:
    """Behind middleware that compresses or delays chunks, the response goes on with no byte lost."""
    with server.connect() as connection:
        connection.socket.sendall(
            f"GET /stream?through={through} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()
        )
        first, plain, rest = decode(connection.body()).split(b"\n", 2)
    assert (first, rest) == (b": first", frames(0, 3))
    assert b"rewrites the body" in plain


def test_middleware_that_cuts_the_response_short_gets_a_whole_one(server: Server) -> None:
    """A response that is given up in the middle of the hand-over ends where the middleware ended it."""
    with server.connect() as connection:
        connection.socket.sendall(
            b"GET /stream?through=cut HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        )
        assert connection.body() == b": first\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(
        ["openssl", "req", "-x509", *options, "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
@pytest.mark.parametrize("name", ALL)
def test_an_encrypted_connection_stays_with_the_server(name: str, certificate: tuple[Path, Path]) -> None:
    """Where the server itself speaks TLS the stream goes on as a plain iterator."""
    port = free_port()

    def read() -> bytes:
        try:
            response = httpx.get(
                f"https://127.0.0.1:{port}/stream", verify=False, timeout=SECONDS, trust_env=False
            )
        except httpx.TransportError:
            return b""
        return response.content

    with running(command(name, port, certificate)):
        body = eventually(read, 60, f"{name} did not start")
    first, plain, rest = body.split(b"\n", 2)
    assert (first, rest) == (b": first", frames(0, 3))
    assert b"encrypts" in plain


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("gunicorn")])
def test_streams_do_not_hold_up_the_end_of_a_worker(name: str) -> None:
    """On SIGTERM gunicorn is done at once: it has no request left to wait for."""
    with serving(name) as server, server.viewer() as viewer:
        arbiter = int(re.findall(rb"\[(\d+)\] \[INFO\] Starting gunicorn", server.log.read_bytes())[0])
        os.kill(arbiter, signal.SIGTERM)
        assert viewer.socket.recv(1) == b""
        eventually(lambda: b"Shutting down: Master" in server.log.read_bytes(), 10)
        assert b"graceful timeout" not in server.log.read_bytes()


# Without a server: this test plays one.


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's connection, and its client, where gevent is not installed."""
    monkeypatch.setitem(sys.modules, "gevent", None)
    server, client = socket.socketpair()
    client.settimeout(SECONDS)
    with server, client:
        yield server, client


def environ(connection: object, **changes: str) -> dict[str, Any]:
    shown = {"gunicorn.socket": connection}
    return {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", **shown, **changes}


def finish(steps: Generator[bytes, None, TakenConnection | None]) -> TakenConnection | None:
    with pytest.raises(StopIteration) as returned:
        next(steps)
    taken: TakenConnection | None = returned.value.value
    return taken


HEAD = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("say", [bytes, chunk, lambda data: b"%X\r\n%b\r\n" % (len(data), data)])
def test_the_connection_changes_hands(
    pair: tuple[socket.socket, socket.socket], say: Callable[[bytes], bytes]
) -> None:
    """The server keeps a descriptor that swallows what it writes, and ends; neither outlives an exec."""
    server, client = pair
    first = b": fifteen bytes"
    takeover = Takeover(environ(server))
    steps = takeover.take(first)
    assert next(steps) == first
    server.sendall(HEAD)
    server.sendall(say(first))
    taken = finish(steps)
    assert taken is not None
    assert (taken.chunked, taken.unsent) == (say is not bytes, b"")
    assert client.recv(100) == CLOSING + say(first)
    assert (taken.socket.getblocking(), server.getblocking()) == (False, True)
    assert not os.get_inheritable(taken.socket.fileno())
    assert not os.get_inheritable(server.fileno())
    server.sendall(b"0\r\n\r\n")
    assert server.recv(1) == b""
    takeover.close()
    takeover.close()
    assert server.recv(1) == b""
    with pytest.raises(BrokenPipeError):
        server.sendall(b"HTTP/1.1 200 OK\r\n")
    server.close()
    taken.socket.send(b"frame")
    taken.socket.close()
    assert client.recv(100) == b"frame"
    assert client.recv(100) == b""


@pytest.mark.parametrize("ended", [True, False], ids=["by the answer", "by close"])
def test_the_connection_comes_back_with_what_was_written(
    pair: tuple[socket.socket, socket.socket], ended: bool
) -> None:
    """If the first chunk comes out changed, or nobody asks again, the server goes on undisturbed."""
    server, client = pair
    server.settimeout(5)
    descriptors = sorted(Path("/dev/fd").iterdir())
    takeover = Takeover(environ(server))
    steps = takeover.take(b":\n")
    next(steps)
    server.sendall(b"something else")
    if ended:
        assert finish(steps) is None
        assert "rewrites" in str(takeover.refusal)
    takeover.close()
    server.sendall(b", and more")
    server.shutdown(socket.SHUT_WR)
    assert client.makefile("rb").read() == b"something else, and more"
    assert server.gettimeout() == 5
    assert not os.get_inheritable(server.fileno())
    assert sorted(Path("/dev/fd").iterdir()) == descriptors


def test_what_a_full_connection_does_not_take_is_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    """The head of a response goes out later where the client has not read what came before it."""
    server, client = pair
    server.setblocking(False)
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += server.send(b"x" * 65536)
    steps = Takeover(environ(server)).take(b":\n")
    next(steps)
    server.sendall(HEAD + b":\n")
    taken = finish(steps)
    assert taken is not None
    assert taken.unsent == CLOSING + b":\n"
    while filled:
        filled -= len(client.recv(filled))
    taken.socket.send(taken.unsent)
    assert client.recv(100) == CLOSING + b":\n"
    taken.socket.close()


def test_a_client_that_has_gone_is_left_for_the_server_to_notice(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Giving the connection back raises nothing in the response; the server's own next write fails."""
    server, client = pair
    takeover = Takeover(environ(server))
    steps = takeover.take(b":\n")
    next(steps)
    client.close()
    server.sendall(b"something else")
    assert finish(steps) is None
    with pytest.raises(BrokenPipeError):
        server.sendall(b"more")


class Encrypted:
    def do_handshake(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (environ(Encrypted()), "encrypts"),
        (environ(None), "does not show its socket"),
        ({"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": sys.stdin}, "does not show"),
        (environ(None, REQUEST_METHOD="HEAD"), "only HTTP/1"),
        (environ(None, SERVER_PROTOCOL="HTTP/2.0"), "only HTTP/1"),
        (environ(None, SERVER_PROTOCOL="HTTP/0.9"), "only HTTP/1"),
        ({"REQUEST_METHOD": "GET"}, "only HTTP/1"),
    ],
)
def test_what_cannot_be_taken_is_known_beforehand(given: dict[str, Any], says: str) -> None:
    """The response learns the reason, sends its first chunk, and may be closed like any other."""
    takeover = Takeover(given)
    assert says in str(takeover.refusal)
    assert list(takeover.take(b":\n")) == [b":\n"]
    takeover.close()


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_without_descriptors_left_the_stream_stays(
    pair: tuple[socket.socket, socket.socket], spare: int
) -> None:
    """A process that is out of descriptors serves the stream as before, and holds on to none."""
    server, client = pair
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(server.fileno())
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, limits[1]))
    try:
        takeover = Takeover(environ(server))
        assert list(takeover.take(b":\n")) == [b":\n"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "duplicated" in str(takeover.refusal)
    assert takeover.exhausted
    again = os.dup(server.fileno())
    os.close(again)
    assert again == free
    server.sendall(b"still here")
    assert client.recv(100) == b"still here"


def test_a_connection_that_the_server_has_closed_is_refused(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """There is nothing to take from a closed socket, and nothing is raised."""
    server, _ = pair
    server.close()
    takeover = Takeover(environ(server))
    assert list(takeover.take(b":\n")) == [b":\n"]
    assert "duplicated" in str(takeover.refusal)
    assert not takeover.exhausted
