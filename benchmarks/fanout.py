"""Fan-out: many viewers of one topic, in bursts and at a steady rate."""

import time
from functools import partial

from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import Peer, Stage, peers, stage

VIEWERS = pick(1000, 200)
BURST = pick(200, 50)
SECONDS = pick(3.0, 0.5)
RATE = 20
STEADY_SECONDS = pick(10.0, 2.0)
TOPIC = "news"

QUESTION = Question(
    "fanout",
    f"Fan-out: {VIEWERS:,} viewers of one topic, frames of about 130 bytes",
    (
        Column("flow_rate", "2 in flight: deliveries/s", plot=True),
        Column("flow_cpu_us", "CPU µs a delivery", ".2f"),
        Column("burst_rate", f"burst of {BURST}: deliveries/s", plot=True),
        Column("burst_cpu_us", "CPU µs a delivery", ".2f"),
        Column("steady_cpu_us", f"{RATE}/s: CPU µs a delivery", ".2f", plot=True),
        Column("steady_p50_ms", "latency p50 ms", ".2f"),
        Column("steady_p99_ms", "latency p99 ms", ".2f", plot=True),
        Column("lost", "lost"),
    ),
    "With two messages in flight a server can hardly join frames in one write; in a burst it can. CPU is "
    "user and system time of the server's processes, Valkey and load generator left out. "
    "django-eventstream drops what is more than 10 messages behind, so it gets a burst 5 at a time.",
)


def flow(stage: Stage) -> dict[str, float]:
    """Keep two messages in flight, so that next to nothing can be joined in one write."""
    stage.settle([TOPIC])
    cpu, began, published = stage.cpu(), time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        previous = stage.number
        stage.publish([TOPIC])
        published += 1
        stage.load.until(previous, 10)
    answer = stage.load.until(stage.number, 10)
    seconds = (answer["last_received"] - answer["first_sent"]) / 1e9
    return {
        "flow_rate": answer["frames"] / seconds,
        "flow_cpu_us": 1e6 * (stage.cpu() - cpu) / max(answer["frames"], 1),
        "flow_lost": VIEWERS * published - answer["frames"] + answer["repeated"],
    }


def burst(stage: Stage) -> dict[str, float]:
    """Publish bursts, each at once; the rate is that of the median one."""
    rates, frames, lost, cpu, busy = [], 0, 0, stage.cpu(), stage.load_cpu()
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        stage.load.mark()
        step = BURST if stage.peer.window is None else stage.peer.window // 2
        previous = stage.number
        for _ in range(BURST // step):
            last = stage.publish([TOPIC], step)
            stage.load.until(previous, 30)
            previous = last
        answer = stage.load.until(last, 60)
        seconds = (answer["last_received"] - answer["first_sent"]) / 1e9
        rates.append(answer["frames"] / seconds)
        frames += answer["frames"]
        lost += VIEWERS * BURST - answer["frames"] + answer["repeated"]
    wall = time.monotonic() - began
    return {
        "burst_rate": sorted(rates)[len(rates) // 2],
        "burst_cpu_us": 1e6 * (stage.cpu() - cpu) / max(frames, 1),
        "burst_load_busy": (stage.load_cpu() - busy) / wall,
        "burst_lost": lost,
    }


def steady(stage: Stage) -> dict[str, float]:
    """Publish at a steady rate."""
    stage.settle([TOPIC])
    cpu, began = stage.cpu(), time.monotonic()
    for tick in range(round(RATE * STEADY_SECONDS)):
        time.sleep(max(0.0, began + tick / RATE - time.monotonic()))
        stage.publish([TOPIC])
    answer = stage.load.until(stage.number, 30)
    return {
        "steady_cpu_us": 1e6 * (stage.cpu() - cpu) / max(answer["frames"], 1),
        "steady_p50_ms": answer["p50_ms"],
        "steady_p99_ms": answer["p99_ms"],
        "steady_lost": VIEWERS * round(RATE * STEADY_SECONDS) - answer["frames"] + answer["repeated"],
    }


def measure(peer: Peer) -> dict[str, float]:
    with stage(peer) as on:
        on.open(VIEWERS, TOPIC)
        on.settle([TOPIC])
        figures = flow(on) | burst(on) | steady(on)
        return figures | {"lost": sum(figures[f"{way}_lost"] for way in ("flow", "burst", "steady"))}


def main() -> None:
    prepare()
    report(QUESTION, rounds({peer.name: partial(measure, peer) for peer in peers()}))


if __name__ == "__main__":
    main()
