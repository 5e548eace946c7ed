"""A publisher or a reader of a soak, as a process: `python -m tests.soak.member ROLE URL NAME FILE PAUSE`.

It writes what it does to FILE. On SIGUSR1 it writes the stack of every thread to its log.
"""

import faulthandler
import logging
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication

TOPIC = "numbers"
LARGE = 200_000

logger = logging.getLogger("soak")
stopped = threading.Event()


def publish(channel: Any, name: str, file: Path, pause: float) -> None:
    """Publish numbers, each again with its token until it is taken; write the last one that was taken.

    Every twentieth message is large. Each says when it was published.
    """
    number = 0
    while not stopped.wait(random.uniform(0, 2 * pause)):
        publication = Publication(TOPIC, b"")
        while True:
            filling = b"x" * (0 if number % 20 else LARGE)
            publication.payload = f"{name} {number} {time.time()} ".encode() + filling
            try:
                transport_of(channel).publish(publication)
                break
            except bridge.PublishError as error:
                logger.info("%s is refused: %s", number, error)
                publication.repeated = True
                time.sleep(0.05)
        file.write_text(str(number))
        number += 1


def read(channel: Any, file: Path) -> None:
    """Write down what is received, from the beginning on, and how old it was then."""
    while True:
        try:
            subscription = channel.topic(TOPIC).subscribe(after=bridge.BEGINNING)
            break
        except bridge.ConnectionLost as error:  # the machine is busy
            logger.info("%s", error)
    with file.open("a", buffering=1) as received, subscription:
        while not stopped.is_set():
            message = subscription.receive(timeout=0.1)
            if message is not None:
                name, number, at, *_ = message.decode().split(" ")
                received.write(f"{name} {number} {time.time() - float(at):.3f}\n")


def main(role: str, url: str, name: str, file: str, pause: str) -> None:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(threadName)s %(name)s %(message)s")
    options: dict[str, Any] = {"retention_messages": 1_000_000, "queue_size": 1_000_000}
    with bridge.connect(url, timeout=1, **options) as channel:
        if role == "reader":
            read(channel, Path(file))
        else:
            publish(channel, name, Path(file), float(pause))


if __name__ == "__main__":
    main(*sys.argv[1:])
