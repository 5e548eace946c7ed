"""A Flask app whose streams leave the server, under every server that lets them."""

import gzip
import io
import queue
import re
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from bridge.streams.takeover.connection import LAST_CHUNK, TakenConnection, chunk
from bridge.streams.takeover.wsgi import Takeover

FIRST = b": first\n"


class Loop(threading.Thread):
    """Writes to all connections that were taken over and notices who leaves; a greenlet under gevent."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.viewers: set[TakenConnection] = set()
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._waking, self._waker = socket.socketpair()
        self._selector.register(self._waking, selectors.EVENT_READ, self._run_inbox)

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                key.data()

    def do(self, work: Callable[[], None]) -> None:
        """Run `work` in the loop and wait for it."""
        done = threading.Event()
        self._inbox.put(work)
        self._inbox.put(done.set)
        self._waker.send(b"\0")
        assert done.wait(30)

    def add(self, taken: TakenConnection, *, deaf: bool) -> None:
        """Serve a connection; if `deaf`, without ever reading from it."""
        self.viewers.add(taken)
        if not deaf:
            self._selector.register(taken.socket, selectors.EVENT_READ, lambda: self._read(taken))
        if taken.unsent:
            self._write(taken, taken.unsent)

    def send(self, first: int, last: int) -> None:
        for viewer in list(self.viewers):
            for number in range(first, last):
                frame = b"data: %d\n\n" % number
                self._write(viewer, chunk(frame) if viewer.chunked else frame)

    def end(self) -> None:
        for viewer in list(self.viewers):
            self._write(viewer, LAST_CHUNK if viewer.chunked else b"")
            self._drop(viewer)

    def _write(self, viewer: TakenConnection, data: bytes) -> None:
        try:
            assert not data or viewer.socket.send(data) == len(data)
        except OSError:
            self._drop(viewer)

    def _read(self, viewer: TakenConnection) -> None:
        with suppress(OSError):
            if viewer.socket.recv(65536):
                return
        self._drop(viewer)

    def _drop(self, viewer: TakenConnection) -> None:
        self.viewers.discard(viewer)
        with suppress(KeyError, ValueError):  # a deaf one, or gone already
            self._selector.unregister(viewer.socket)
        with suppress(OSError):
            viewer.socket.shutdown(socket.SHUT_WR)
            while viewer.socket.recv(65536):  # so that closing does not reset what is under way
                pass
        viewer.socket.close()

    def _run_inbox(self) -> None:
        self._waking.recv(4096)
        with suppress(queue.Empty):
            while True:
                self._inbox.get_nowait()()


class Stream:
    """A response that leaves the server after its first chunk, or else sends three more and ends."""

    def __init__(self, environ: dict[str, Any], loop: Loop, *, deaf: bool) -> None:
        self._takeover = Takeover(environ)
        self._loop = loop
        self._deaf = deaf
        self._chunks = self._run()

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._takeover.close()

    def _run(self) -> Iterator[bytes]:
        taken = yield from self._takeover.take(FIRST)
        if taken is not None:
            self._loop.do(lambda: self._loop.add(taken, deaf=self._deaf))
            return
        yield b": plain, %b\n" % str(self._takeover.refusal).encode()
        for number in range(3):
            yield b"data: %d\n\n" % number


def create_app() -> Flask:
    app = Flask(__name__)
    loop = Loop()
    started = threading.Lock()

    @app.get("/stream")
    def stream() -> Response:
        with started:
            if not loop.ident:
                loop.start()
        body = Stream(request.environ, loop, deaf="deaf" in request.args)
        return Response(body, content_type="text/event-stream", direct_passthrough=True)

    @app.get("/send")
    def send() -> str:
        first, last = int(request.args["first"]), int(request.args["last"])
        loop.do(lambda: loop.send(first, last))
        return ""

    @app.get("/end")
    def end() -> str:
        loop.do(loop.end)
        return ""

    @app.get("/stats")
    def stats() -> dict[str, Any]:
        return {
            "viewers": len(loop.viewers),
            "descriptors": len(list(Path("/dev/fd").iterdir())),
            "cpu": time.process_time(),
            "strays": strays(),
        }

    # Flask documents this as the way to add a middleware.
    app.wsgi_app = Through(app.wsgi_app)  # type: ignore[method-assign]
    return app


def strays() -> list[str]:
    """Return the entries of this process's epoll sets whose number is by now another file's, or nobody's."""
    found = []
    for info in Path("/proc/self/fdinfo").glob("*"):
        with suppress(FileNotFoundError):
            for number, inode in re.findall(r"tfd: +(\d+) .* ino:(\w+)", info.read_text()):
                there = Path(f"/proc/self/fd/{number}")
                if not there.exists() or there.stat().st_ino != int(inode, 16):
                    found.append(f"{info.name}: {number}")
    return found


class Through:
    """Middleware of several kinds, chosen by the request's `through=`."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        kind = MIDDLEWARE.get(environ["QUERY_STRING"].partition("through=")[2])
        if kind is None:
            return self._app(environ, start_response)
        if kind is compressing:
            plain = start_response
            start_response = lambda status, headers, *rest: plain(  # noqa: E731
                status, [*headers, ("Content-Encoding", "gzip")], *rest
            )
        return kind(self._app(environ, start_response))


def compressing(body: Any) -> Iterator[bytes]:
    """Compress, sending on what there is after every chunk."""
    try:
        buffer = io.BytesIO()
        with gzip.GzipFile(mode="wb", fileobj=buffer) as file:
            for data in body:
                file.write(data)
                file.flush()
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
        yield buffer.getvalue()
    finally:
        body.close()


def late(body: Any) -> Iterator[bytes]:
    """Hold each chunk back until the next."""
    try:
        held = next(chunks := iter(body))
        for data in chunks:
            yield held
            held = data
        yield held
    finally:
        body.close()


def cut(body: Any) -> Iterator[bytes]:
    """End after the first chunk."""
    try:
        chunks = iter(body)
        yield next(chunks)
    finally:
        body.close()


def hasty(body: Any) -> Iterator[bytes]:
    """Close the body before the server knows that it has ended, as Werkzeug's debugger does."""
    yield from body
    body.close()


def careless(body: Any) -> Iterator[bytes]:
    """Never close the body."""
    yield from body


MIDDLEWARE: Mapping[str, Callable[[Any], Iterator[bytes]]] = {
    kind.__name__: kind for kind in (compressing, late, cut, hasty, careless)
}


if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer

    port, *tls = sys.argv[1:]
    files: dict[str, Any] = dict(zip(("certfile", "keyfile"), tls, strict=False))
    WSGIServer(("127.0.0.1", int(port)), create_app(), **files).serve_forever()
