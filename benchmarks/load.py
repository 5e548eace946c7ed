"""The load generator: one process with one epoll loop holds every viewer, whoever serves them.

It is written twice: `load.c`, compiled when there is a compiler, and below in Python. Messages carry a
token, `@`, the time they were sent (`time.monotonic_ns`, 19 digits) and their number (8 digits), so that each
viewer's frames are counted, timed and missed one by one. The Python version times one viewer in `SAMPLED`.

Commands come one a line on standard input, each answered by one line of JSON: `open COUNT WINDOW HEADS
TIMEOUT LAST PATH HEADER`, `until NUMBER TIMEOUT` (every viewer has it), `mark` (count from here), `stats`,
`close`. Times are in milliseconds.
"""

import contextlib
import json
import resource
import select
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
STAMP, NUMBER = 19, 8
TOKEN = 1 + STAMP + NUMBER
SAMPLED = 20

Answer = dict[str, Any]


def payload(number: int, size: int = 122) -> bytes:
    """Return a message: its token, filled up to `size` bytes, so that a frame has about 130."""
    return f"@{time.monotonic_ns():0{STAMP}d}{number:0{NUMBER}d}".encode().ljust(size, b".")


def compiled(source: Path) -> Path | None:
    """Return the program that `source` compiles to, or `None` where there is no compiler."""
    program = HERE / ".build" / source.stem
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program.parent.mkdir(exist_ok=True)
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return program


def command(port: int) -> list[str]:
    program = compiled(HERE / "load.c")
    return [str(program), str(port)] if program else [sys.executable, __file__, str(port)]


def language() -> str:
    return "C" if compiled(HERE / "load.c") else "Python"


class Load:
    """The generator as a process."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            command(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, *words: object) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        answer: Answer = json.loads(self._process.stdout.readline())
        return answer

    def open(
        self,
        count: int,
        path: str,
        *,
        window: int = 256,
        heads: bool = True,
        timeout: float = 60.0,
        last: int = -1,
        header: str = "",
    ) -> Answer:
        """Open viewers, `window` at a time, until each has the head of its answer (or has asked).

        `{i}` in `path` becomes the viewer's own number; `last` is the message that `header` says it had last.
        """
        return self._ask("open", count, window, int(heads), round(timeout * 1000), last, path, header)

    def until(self, number: int, timeout: float) -> Answer:
        """Wait until every viewer has the message of this number."""
        return self._ask("until", number, round(timeout * 1000))

    def mark(self) -> Answer:
        return self._ask("mark")

    def stats(self) -> Answer:
        return self._ask("stats")

    def close(self) -> Answer:
        return self._ask("close")


class Viewer:
    __slots__ = ("carry", "head", "last", "number", "socket", "state")

    def __init__(self, number: int, last: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.number, self.last = number, last
        self.state = "connecting"
        self.head: bytes | None = b""
        self.carry = b""


class Generator:
    """The generator in Python."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.epoll = select.epoll()
        self.viewers: dict[int, Viewer] = {}
        self.waiting = self.failed = self.first_error = self.started = self.opened_ever = 0
        self.mark()

    def mark(self) -> None:
        self.frames = self.bytes = self.lost = self.repeated = self.closed = 0
        self.first_sent = self.last_received = 0
        self.latencies: list[int] = []

    def open(
        self, count: str, window: str, heads: str, timeout: str, last: str, path: str, *header: str
    ) -> bool:
        self.path, self.header, self.heads = path, " ".join(header), heads == "1"
        self.failed = self.first_error = 0
        self.started = time.monotonic_ns()
        deadline = self.started + int(timeout) * 1_000_000
        left = int(count)
        while (left or self.waiting) and time.monotonic_ns() < deadline:
            while left and self.waiting < int(window):
                left -= 1
                self._connect(int(last))
            self.turn(0.05)
        return not left and not self.waiting and not self.failed

    def until(self, number: str, timeout: str) -> bool:
        target, deadline = int(number), time.monotonic() + int(timeout) / 1000
        while time.monotonic() < deadline:
            alive = [viewer for viewer in self.viewers.values() if viewer.state == "open"]
            if all(viewer.last >= target for viewer in alive):
                return bool(alive)
            self.turn(0.01)
        return False

    def close(self) -> None:
        for viewer in list(self.viewers.values()):
            self._drop(viewer)
        self.closed = 0

    def answer(self, done: bool) -> Answer:
        ordered = sorted(self.latencies) or [0]
        names = ("failed", "first_error", "closed", "frames", "bytes", "lost", "repeated")
        times = ("started", "first_sent", "last_received")
        return {
            "done": done,
            "open": sum(viewer.state == "open" for viewer in self.viewers.values()),
            **{name: getattr(self, name) for name in (*names, *times)},
            "now": time.monotonic_ns(),
            **{f"{name}_ms": ordered[int(share * (len(ordered) - 1))] / 1e6 for name, share in
               (("p50", 0.5), ("p99", 0.99), ("max", 1))},
        }  # fmt: skip

    def _connect(self, last: int) -> None:
        viewer = Viewer(self.opened_ever, last)
        self.opened_ever += 1
        self.viewers[viewer.socket.fileno()] = viewer
        self.waiting += 1
        with contextlib.suppress(BlockingIOError):
            viewer.socket.connect(("127.0.0.1", self.port))
        self.epoll.register(viewer.socket, select.EPOLLOUT)

    def _ask(self, viewer: Viewer) -> None:
        path = self.path.replace("{i}", str(viewer.number))
        header = f"{self.header}\r\n" if self.header else ""
        text = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: text/event-stream\r\n{header}\r\n"
        )
        try:
            viewer.socket.send(text.encode())
        except OSError as error:
            self._drop(viewer, error.errno or 0)
            return
        viewer.state = "head"
        self.epoll.modify(viewer.socket, select.EPOLLIN)
        if not self.heads:
            self._opened(viewer)

    def _opened(self, viewer: Viewer) -> None:
        viewer.state = "open"
        self.waiting -= 1

    def _drop(self, viewer: Viewer, error: int = 0) -> None:
        if viewer.state == "open":
            self.closed += 1
        else:
            self.waiting -= 1
            self.failed += 1
            self.first_error = self.first_error or error
        del self.viewers[viewer.socket.fileno()]
        viewer.socket.close()

    def turn(self, seconds: float) -> bool:
        """Handle what the sockets have; return whether a command waits."""
        commanded = False
        for number, _ in self.epoll.poll(seconds, 1024):
            viewer = self.viewers.get(number)
            if viewer is None:
                commanded = commanded or number == 0
            elif viewer.state == "connecting":
                self._ask(viewer)
            else:
                self._receive(viewer)
        return commanded

    def _receive(self, viewer: Viewer) -> None:
        try:
            data = viewer.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(viewer, error.errno or 0)
            return
        if not data:
            self._drop(viewer)
            return
        self.bytes += len(data)
        if viewer.head is not None:
            viewer.head += data
            head, end, data = viewer.head.partition(b"\r\n\r\n")
            if head[9:12] != b"200":
                self._drop(viewer, int(head[9:12] or 0))
                return
            if not end:
                return
            viewer.head = None
            if viewer.state == "head":
                self._opened(viewer)
        self._body(viewer, viewer.carry + data)

    def _body(self, viewer: Viewer, data: bytes) -> None:
        received, place = time.monotonic_ns(), data.find(b"@")
        viewer.carry = b""
        while place >= 0:
            token = data[place : place + TOKEN]
            if len(token) < TOKEN:
                viewer.carry = token
                return
            number = int(token[1 + STAMP :])
            self._frame(viewer, number, token, received)
            place = data.find(b"@", place + TOKEN)

    def _frame(self, viewer: Viewer, number: int, token: bytes, received: int) -> None:
        self.frames += 1
        if number <= viewer.last:
            self.repeated += 1
            return
        if viewer.last >= 0:
            self.lost += number - viewer.last - 1
        viewer.last = number
        self.last_received = received
        if viewer.number % SAMPLED == 0:
            sent = int(token[1 : 1 + STAMP])
            self.first_sent = min(self.first_sent or sent, sent)
            self.latencies.append(received - sent)


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    generator = Generator(int(sys.argv[1]))
    generator.epoll.register(0, select.EPOLLIN)
    while True:
        if generator.turn(-1):
            line = sys.stdin.readline()
            if not line:
                return
            name, *words = line.split()
            done = True if name == "stats" else getattr(generator, name)(*words)
            print(json.dumps(generator.answer(done is not False)), flush=True)


if __name__ == "__main__":
    main()
