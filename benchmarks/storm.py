"""A reconnect storm: all viewers come back at once, many events behind, each with its `Last-Event-ID`."""

import socket
import time
from functools import partial

from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import Peer, Stage, peers, stage

VIEWERS = pick(1000, 200)
BEHIND = pick(500, 100)
TOPIC = "news"
READS = ("xrange", "xrevrange", "xread", "eval", "evalsha", "evalsha_ro", "eval_ro", "fcall", "fcall_ro")

QUESTION = Question(
    "storm",
    f"Reconnect storm: {VIEWERS:,} viewers, {BEHIND} events behind",
    (
        Column("seconds", "all caught up after s", ".2f", plot=True),
        Column("cpu_us", "CPU µs a delivery", ".2f"),
        Column("reads", "reads and scripts at Valkey"),
        Column("lost", "lost"),
    ),
    "Only what can resume is here. Nchan keeps its messages itself, so it reads nothing from Valkey.",
)


def newest_id(stage: Stage) -> str:
    """Publish one message; return its event's id."""
    path = stage.peer.path.format(topic=TOPIC)
    with socket.create_connection(("127.0.0.1", stage.place.port), timeout=10) as viewer:
        viewer.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        text = viewer.recv(65536)
        time.sleep(0.5)
        token = f"{stage.publish([TOPIC]):08d}.".encode()
        while token not in text or b"\n\n" not in text.partition(token)[2]:
            text += viewer.recv(65536)
    fields = text.rpartition(b"id: ")[2] if text.rfind(b"id: ") > 0 else b""
    return fields.partition(b"\n")[0].strip().decode()


def reads(stage: Stage) -> dict[str, int]:
    """Return how many of each command that may read history Valkey has run."""
    lines = stage.place.valkey.command("INFO", "commandstats")
    if isinstance(lines, bytes):
        lines = lines.decode()
    if isinstance(lines, str):
        pairs = (line.partition(":") for line in lines.splitlines() if line.startswith("cmdstat_"))
        lines = {name: {"calls": figures.split("=", 2)[1].split(",")[0]} for name, _, figures in pairs}
    return {name: int(lines.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in READS}


def measure(peer: Peer) -> dict[str, float]:
    with stage(peer) as on:
        on.open(VIEWERS, TOPIC)
        on.settle([TOPIC])
        last_id, number = newest_id(on), on.number
        if not last_id:
            raise RuntimeError("events have no id to resume from")
        on.load.until(number, 10)
        on.load.close()
        for _ in range(BEHIND // 50):
            on.publish([TOPIC], 50)
        time.sleep(0.5)
        on.load.mark()
        before, cpu = reads(on), on.cpu()
        on.open(VIEWERS, TOPIC, window=VIEWERS, last=number, header=f"Last-Event-ID: {last_id}")
        answer = on.load.until(on.number, 60)
        after = reads(on)
        by_command = {f"{name}_calls": after[name] - before[name] for name in READS if after[name]}
        return {
            "seconds": (answer["last_received"] - answer["started"]) / 1e9,
            "cpu_us": 1e6 * (on.cpu() - cpu) / max(answer["frames"], 1),
            "reads": sum(by_command.values()),
            **by_command,
            "lost": VIEWERS * BEHIND - answer["frames"] + answer["repeated"],
        }


def main() -> None:
    prepare()
    report(QUESTION, rounds({peer.name: partial(measure, peer) for peer in peers() if peer.resumes}))


if __name__ == "__main__":
    main()
