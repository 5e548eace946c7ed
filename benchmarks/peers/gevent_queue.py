"""The usual design: a greenlet and a queue per viewer, one reader of Redis Pub/Sub; gunicorn or pywsgi."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import gevent
import redis
from flask import Flask, Response
from gevent.queue import SimpleQueue

app = Flask(__name__)
queues: "dict[bytes, set[SimpleQueue[bytes]]]" = defaultdict(set)


def read() -> None:
    pubsub = redis.Redis.from_url(os.environ["BENCH_REDIS"]).pubsub()
    pubsub.psubscribe("*")
    for message in pubsub.listen():
        if message["type"] == "pmessage":
            frame = b"data: " + message["data"] + b"\n\n"
            for queue in list(queues[message["channel"]]):
                queue.put(frame)


def frames(topic: bytes) -> Iterator[bytes]:
    queue: SimpleQueue[bytes] = SimpleQueue()
    queues[topic].add(queue)
    try:
        yield b": open\n\n"
        while True:
            yield queue.get()
    finally:
        queues[topic].discard(queue)


@app.get("/events/<topic>")
def events(topic: str) -> Response:
    return Response(frames(topic.encode()), mimetype="text/event-stream")


@app.get("/plain")
def plain() -> str:
    return "ok"


gevent.spawn(read)

if __name__ == "__main__":
    from gevent.pywsgi import WSGIServer

    WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None, backlog=4096).serve_forever()
