"""Many topics: a viewer each. The floor reads Redis Pub/Sub with hiredis and sends."""

import threading
import time
from functools import partial

from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import Peer, Stage, peers, stage

TOPICS = pick(1000, 200)
SWEEPS = pick(50, 10)
SECONDS = pick(4.0, 0.5)
NAMES = [f"t{number}" for number in range(TOPICS)]

QUESTION = Question(
    "topics",
    f"Many topics: {TOPICS:,} topics, a viewer each",
    (
        Column("rate", "deliveries/s", plot=True),
        Column("cpu_us", "CPU µs a delivery", ".2f", plot=True),
        Column("lost", "lost"),
    ),
    f"The server is stopped while {SWEEPS} messages a topic are published and goes on then, so that the "
    "publisher's own speed does not count. django-eventstream, which drops what is more than 10 messages "
    "behind, gets 5. Nchan's own process also takes the messages, one HTTP request each.",
)


def drain(stage: Stage, sweeps: int) -> tuple[int, float]:
    """Let `sweeps` messages a topic pile up; return the frames and the seconds it takes to deliver them."""
    stage.load.mark()
    publishing = threading.Thread(target=stage.publish, args=(NAMES, sweeps))
    expected = stage.number + sweeps
    with stage.paused():
        publishing.start()
        publishing.join(timeout=stage.publisher.patience)
        resumed = time.monotonic_ns()
    answer = stage.load.until(expected, 60)
    publishing.join()
    if not answer["done"]:
        raise RuntimeError(f"the messages did not arrive: {answer}")
    return answer["frames"] - answer["repeated"], (answer["last_received"] - resumed) / 1e9


def measure(peer: Peer) -> dict[str, float]:
    with stage(peer) as on:
        on.open(TOPICS, "t{i}")
        on.settle(NAMES)
        sweeps = SWEEPS if peer.window is None else peer.window // 2
        rates, frames, lost, spent, cpu = [], 0, 0, 0.0, on.cpu()
        while spent < SECONDS:
            count, seconds = drain(on, sweeps)
            rates.append(count / seconds)
            lost += sweeps * TOPICS - count
            frames, spent = frames + count, spent + max(seconds, SECONDS / 20)
        return {
            "rate": sorted(rates)[len(rates) // 2],
            "cpu_us": 1e6 * (on.cpu() - cpu) / frames,
            "lost": lost,
        }


def main() -> None:
    prepare()
    report(QUESTION, rounds({peer.name: partial(measure, peer) for peer in peers()}))


if __name__ == "__main__":
    main()
