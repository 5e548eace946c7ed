"""Memory: what an idle viewer holds in the server's processes."""

import time
from functools import partial

from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import Peer, peers, stage

VIEWERS = pick(8000, 500)
WARM = 20
TOPIC = "news"

QUESTION = Question(
    "memory",
    f"Memory: {VIEWERS:,} idle viewers",
    (
        Column("per_viewer_kb", "KB a viewer", ",.2f", plot=True, log=True),
        Column("rss_per_viewer_kb", "RSS: KB a viewer", ",.2f"),
        Column("total_mb", "all, MB", ",.1f"),
        Column("viewers", "viewers"),
    ),
    "Proportional set size of the server's processes, less what they had with "
    f"{WARM + 1} viewers. The kernel's memory for a socket, the same for all, is not in it. "
    "flask-sse is tried with 1,000 viewers only: it opens as many connections to Redis.",
)


def measure(peer: Peer) -> dict[str, float]:
    viewers = min(VIEWERS, peer.most)
    with stage(peer) as on:
        on.open(WARM + 1, TOPIC)
        on.settle([TOPIC])
        time.sleep(0.5)
        pss, rss = on.memory(), on.memory("Rss")
        on.open(viewers, TOPIC)
        on.settle([TOPIC])
        time.sleep(1)
        full = on.memory()
        return {
            "per_viewer_kb": (full - pss) / viewers / 1024,
            "rss_per_viewer_kb": (on.memory("Rss") - rss) / viewers / 1024,
            "total_mb": full / 1024 / 1024,
            "viewers": viewers,
        }


def main() -> None:
    prepare()
    report(QUESTION, rounds({peer.name: partial(measure, peer) for peer in peers()}))


if __name__ == "__main__":
    main()
