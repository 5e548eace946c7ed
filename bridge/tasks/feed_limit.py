"""Chooses what the feeds get of a task: its states, requests to cancel it, and progress once a second.

The topic of the task gets all of it. Steps, logs and custom events go there alone.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.model.publication import Group, Publication
from bridge.tasks.events import FEED
from bridge.tasks.publish_queue import PublishQueue

INTERVAL = 1.0
"""Seconds between two progress events of a task in its feeds."""


@dataclass(slots=True)
class _Sent:
    """What the feeds of one task have."""

    at: float
    """When they last got progress; from `time.monotonic`."""
    held: Publication | None = None
    """The newest progress that they have not got."""
    groups: tuple[Group, ...] = ()
    """The feeds that get it."""


class FeedLimit:
    """The tasks whose progress went to a feed within the last second. Not thread-safe: its user has a lock.

    A canvas is not limited: its progress tells which parts begin and end. Where `all_tasks` is false, only
    the feeds of tags get anything.
    """

    def __init__(self, *, all_tasks: bool = True) -> None:
        self.all_tasks = all_tasks
        # Those that were sent first are in front.
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
        self._held = 0

    def append_to(self, queue: PublishQueue, publication: Publication, stands_for: int = 0) -> None:
        """Queue a message for its topic, and for its feeds if they are to get it."""
        for earlier in self.pass_through(publication):
            queue.append(earlier, within=publication.topic)
        queue.append(publication, stands_for=stands_for)

    def append_due(self, queue: PublishQueue) -> None:
        """Queue what was held for a second."""
        for topic, publication in self.due():
            queue.append(publication, within=topic)

    def pass_through(self, publication: Publication) -> list[Publication]:
        """Return what to send before a message. Remove its feeds if they are not to get it.

        Progress that comes too early is held. It goes to the feeds when the second is over, or before the
        next state. An end replaces it.
        """
        change, topic = publication.change, publication.topic
        if not self.all_tasks:
            leave_feed(publication)
        if change is None or publication.part is not None:
            return []
        if change.entry:
            change.groups = ()
        elif publication.type == "state":
            sent = self._remove(topic)
            return [] if sent is None or change.final else _for_feeds(sent)
        elif publication.type == "progress" and change.groups:
            now = time.monotonic()
            sent = self._sent.get(topic)
            if sent is None or now >= sent.at + INTERVAL:
                self._remove(topic)
                self._sent[topic] = _Sent(now)
            else:
                self._held += sent.held is None
                sent.held, sent.groups = publication, change.groups
                change.groups = ()
        return []

    def _remove(self, topic: str) -> _Sent | None:
        sent = self._sent.pop(topic, None)
        if sent is not None and sent.held is not None:
            self._held -= 1
        return sent

    def due(self) -> Iterator[tuple[str, Publication]]:
        """Yield what was held for a second, with the topic of its task. Forget the others of that age."""
        now = time.monotonic()
        while self._sent:
            topic, sent = next(iter(self._sent.items()))
            if now < sent.at + INTERVAL:
                break
            self._remove(topic)
            if sent.held is not None:
                self._sent[topic] = _Sent(now)
                for message in _for_feeds(sent):
                    yield topic, message

    def wait(self) -> float | None:
        """Return the seconds until something may be due, `None` if nothing is held."""
        if not self._held:
            return None
        first = next(iter(self._sent.values()))
        return max(0.0, first.at + INTERVAL - time.monotonic())


def leave_feed(publication: Publication) -> None:
    """Remove the feed of all tasks from what gets a message, and the one that follows it up."""
    if publication.change is not None:
        groups = publication.change.groups
        publication.change.groups = tuple(group for group in groups if group.topic != FEED)
    if publication.part is not None and publication.part.follow_up is not None:
        leave_feed(publication.part.follow_up)


def _for_feeds(sent: _Sent) -> list[Publication]:
    """Return the messages for the feeds alone. The task's own topic has that progress already."""
    held = sent.held
    if held is None:
        return []
    return [Publication(group.topic, held.payload, held.type) for group in sent.groups]
