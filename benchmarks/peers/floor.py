"""The floor in Python: read a message from Redis with hiredis, send a frame to every socket, nothing else."""

import selectors
import socket
import sys
from collections import defaultdict

import hiredis

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

selector = selectors.DefaultSelector()
viewers: dict[bytes, dict[int, socket.socket]] = defaultdict(dict)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
redis = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
reader = hiredis.Reader()


def publish() -> None:
    reader.feed(redis.recv(256 * 1024))
    while (reply := reader.gets()) is not False:
        if reply[0] == b"message":
            frame = b"data: " + reply[2] + b"\n\n"
            for viewer in viewers[reply[1]].values():
                viewer.send(frame)


def answer(viewer: socket.socket) -> None:
    request = viewer.recv(4096)
    if not request:
        leave(viewer)
        return
    path = request.split(None, 2)[1]
    if path == b"/plain":
        viewer.send(PLAIN)
        leave(viewer)
        return
    topic = path.rpartition(b"/")[2]
    if not viewers[topic]:
        # hiredis declares a tuple of one word; it takes any number.
        redis.send(hiredis.pack_command((b"SUBSCRIBE", topic)))  # type: ignore[arg-type]
    viewer.send(HEAD)
    viewers[topic][viewer.fileno()] = viewer


def leave(viewer: socket.socket) -> None:
    selector.unregister(viewer)
    for members in viewers.values():
        members.pop(viewer.fileno(), None)
    viewer.close()


selector.register(server, selectors.EVENT_READ)
selector.register(redis, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is server:
            accepted, _ = server.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(accepted, selectors.EVENT_READ, accepted)
        elif key.fileobj is redis:
            publish()
        else:
            answer(key.data)
