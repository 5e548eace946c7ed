"""Accepting: how fast viewers are let in, and how a plain route answers meanwhile and while messages flow."""

import time
from functools import partial

from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import Peer, Probe, Stage, peers, stage

VIEWERS = pick(8000, 500)
RATE = 4
SECONDS = pick(5.0, 1.0)
TOPIC = "news"

QUESTION = Question(
    "accept",
    f"Accepting {VIEWERS:,} viewers, 256 at a time",
    (
        Column("accepted", "accepted/s", plot=True),
        Column("plain_accept_ms", "plain route meanwhile, p99 ms", ",.1f", plot=True, log=True),
        Column("plain_flow_ms", f"at {RATE} messages/s, p99 ms", ",.1f", plot=True, log=True),
        Column("latency_ms", "message p99 ms", ",.1f"),
        Column("lost", "lost"),
        Column("viewers", "viewers"),
    ),
    "The plain route is asked a hundred times a second, each time on a new connection. "
    "flask-sse is tried with 1,000 viewers only: it opens as many connections to Redis.",
)


def flow(stage: Stage, viewers: int) -> dict[str, float]:
    """Publish at a steady rate to all while a plain route is asked."""
    began = time.monotonic()
    with Probe(stage.place.port) as probe:
        for tick in range(round(RATE * SECONDS)):
            time.sleep(max(0.0, began + tick / RATE - time.monotonic()))
            stage.publish([TOPIC])
        answer = stage.load.until(stage.number, 60)
    expected = viewers * round(RATE * SECONDS)
    return {
        "plain_flow_ms": probe.p99(),
        "plain_flow_failed": probe.failed,
        "latency_ms": answer["p99_ms"],
        "lost": expected - answer["frames"] + answer["repeated"],
    }


def measure(peer: Peer) -> dict[str, float]:
    viewers = min(VIEWERS, peer.most)
    with stage(peer) as on:
        on.open(2, TOPIC)
        with Probe(on.place.port) as probe:
            seconds = on.open(viewers - 2, TOPIC)
        on.settle([TOPIC])
        return {
            "accepted": (viewers - 2) / seconds,
            "plain_accept_ms": probe.p99(),
            "plain_accept_failed": probe.failed,
            **flow(on, viewers),
            "viewers": viewers,
        }


def main() -> None:
    prepare()
    report(QUESTION, rounds({peer.name: partial(measure, peer) for peer in peers()}))


if __name__ == "__main__":
    main()
