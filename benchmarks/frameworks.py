"""Web frameworks: thousands of viewers in one process of FastAPI, Django or Flask."""

import time
from collections.abc import Callable
from functools import partial

from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import (
    DJANGO_EVENTSTREAM,
    SEND_LOOP,
    SSE_STARLETTE,
    TOKEN_KEY,
    Peer,
    Probe,
    Stage,
    gunicorn,
    on_bridge,
    stage,
    uvicorn,
    wanted,
)
from bridge.asgi import Bridge

VIEWERS = pick(8000, 500)
TURNS = 4
BURST = 50
SECONDS = pick(5.0, 1.0)
WARM = 20
TOPIC = "news"

QUESTION = Question(
    "frameworks",
    f"Web frameworks: {VIEWERS:,} viewers of one process",
    (
        Column("accepted", "accepted/s", plot=True),
        Column("accept_ratio", "times the plain route", ".2f"),
        Column("accept_cpu_us", "CPU µs a viewer"),
        Column("accept_cpu_ratio", "times the plain route", ".2f"),
        Column("token_cpu_ratio", "CPU without a token, times that with one", ".2f"),
        Column("per_viewer_kb", "KB a viewer", ",.2f", plot=True, log=True),
        Column("burst_rate", f"burst of {BURST}: deliveries/s", plot=True),
        Column("burst_cpu_us", "CPU µs a delivery", ".2f"),
        Column("plain_p99_ms", "plain route meanwhile, p99 ms", ",.1f", plot=True, log=True),
        Column("lost", "lost"),
        Column("viewers", "viewers"),
    ),
    "The viewers connect 256 at a time, and afterwards as many clients ask a plain route of the same "
    "application in the same way, each on a new connection that is closed afterwards: the ratios compare "
    "the two rates, and the CPU of the two. Then viewers of the bridge connect in turn without a token and "
    "with one, which many of them share. Bursts follow one another while the plain route is asked. Memory "
    "is measured as in the table of memory. FastAPI's own way is tried with 1,000 viewers only.",
)


def frameworks() -> list[Peer]:
    """Return the servers to compare."""
    return wanted(
        [
            on_bridge("FastAPI, uvicorn", uvicorn("fastapi_bridge:app")),
            on_bridge("Django, gunicorn sync", gunicorn("django_bridge:app", "sync")),
            on_bridge("Flask, gunicorn sync", gunicorn("ours:app", "sync")),
            Peer(
                "FastAPI EventSourceResponse + broadcaster, uvicorn",
                uvicorn("fastapi_sse_app:app"),
                most=1000,
            ),
            SSE_STARLETTE,
            Peer("Django StreamingHttpResponse, uvicorn", uvicorn("django_streaming_app:app")),
            DJANGO_EVENTSTREAM,
            SEND_LOOP,
        ]
    )


def bursts(stage: Stage, viewers: int) -> dict[str, float]:
    """Publish bursts, each at once, while a plain route is asked; the rate is that of the median one."""
    rates, frames, lost = [], 0, 0
    step = BURST if stage.peer.window is None else stage.peer.window // 2
    began, cpu = time.monotonic(), stage.cpu()
    with Probe(stage.place.port) as probe:
        while time.monotonic() - began < SECONDS:
            stage.load.mark()
            for _ in range(BURST // step):
                last = stage.publish([TOPIC], step)
                answer = stage.load.until(last, 60)
            seconds = (answer["last_received"] - answer["first_sent"]) / 1e9
            rates.append(answer["frames"] / seconds)
            frames += answer["frames"]
            lost += viewers * BURST - answer["frames"] + answer["repeated"]
    return {
        "burst_rate": sorted(rates)[len(rates) // 2],
        "burst_cpu_us": 1e6 * (stage.cpu() - cpu) / max(frames, 1),
        "plain_p99_ms": probe.p99(),
        "plain_failed": probe.failed,
        "lost": lost,
    }


def close_viewers(stage: Stage, descriptors: int) -> None:
    """Close all viewers, and wait until the server has closed its sides too."""
    stage.load.close()
    deadline = time.monotonic() + 60
    while stage.descriptors() > descriptors and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)


def ask_plain(stage: Stage, count: int) -> None:
    """Have new connections ask the plain route, as viewers ask for streams. The server closes each."""
    answer = stage.load.open(count, "/plain", timeout=120, header="Connection: close")
    if answer["failed"]:
        raise RuntimeError(f"{answer['failed']} requests of the plain route failed")


def timed(stage: Stage, count: int, connect: Callable[[int], object]) -> tuple[float, float]:
    """Return how many of `count` connections a second are answered, and the CPU microseconds of each."""
    began, cpu = time.monotonic(), stage.cpu()
    connect(count)
    return count / (time.monotonic() - began), 1e6 * (stage.cpu() - cpu) / count


def token_ratio(stage: Stage, viewers: int) -> dict[str, float]:
    """Return how much less CPU a viewer without a token takes. Nothing for servers that know no tokens."""
    if not stage.peer.name.startswith("bridge"):
        return {}
    streams = Bridge("memory://", token_keys=[TOKEN_KEY])
    cpu = dict.fromkeys(("", "Authorization: Bearer "), 0.0)
    for _ in range(TURNS):
        for header in cpu:
            token = streams.token(TOPIC, subject="42") if header else ""
            opened = partial(stage.open, topic=TOPIC, header=header + token)
            cpu[header] += timed(stage, viewers // 2 // TURNS, opened)[1]
    without, with_token = cpu.values()
    return {"token_cpu_us": (with_token - without) / TURNS, "token_cpu_ratio": without / with_token}


def measure(peer: Peer) -> dict[str, float]:
    most = min(VIEWERS, peer.most)
    viewers = most - WARM - 1
    with stage(peer) as on:
        on.open(WARM + 1, TOPIC)
        on.settle([TOPIC])
        time.sleep(0.5)
        before, descriptors = on.memory(), on.descriptors()
        accepted, accept_cpu = timed(on, viewers, lambda count: on.open(count, TOPIC))
        on.settle([TOPIC])
        time.sleep(1)
        memory = (on.memory() - before) / viewers / 1024
        figures = bursts(on, most)
        close_viewers(on, descriptors)
        plain, plain_cpu = timed(on, viewers, partial(ask_plain, on))
        return {
            "accepted": accepted,
            "plain_rate": plain,
            "accept_ratio": accepted / plain,
            "accept_cpu_us": accept_cpu,
            "plain_cpu_us": plain_cpu,
            "accept_cpu_ratio": plain_cpu / accept_cpu,
            "per_viewer_kb": memory,
            "viewers": most,
            **figures,
            **token_ratio(on, viewers),
        }


def main() -> None:
    prepare()
    report(QUESTION, rounds({peer.name: partial(measure, peer) for peer in frameworks()}))


if __name__ == "__main__":
    main()
