"""Lists topics and namespaces with SCAN, which lets the server do other work in between."""

from collections.abc import Iterator

from bridge.backends.base import TopicNames
from bridge.backends.redis.keys import Keys
from bridge.backends.redis.servers import Servers

MOST_CALLS = 2_000
"""Calls of SCAN at most, on all nodes together."""


def topics(servers: Servers, keys: Keys, limit: int) -> TopicNames:
    """Return names of topics of the namespace. Raises the errors of the driver."""
    found: set[str] = set()
    complete = True
    for page in _pages(servers, keys.pattern()):
        if page is None:
            complete = False
            break
        found.update(name for key in page if (name := keys.topic_of(key)) is not None)
        if len(found) > limit:
            return TopicNames(sorted(found)[:limit], complete=False)
    return TopicNames(sorted(found), complete)


def namespaces(servers: Servers, keys: Keys, topic: str) -> list[str]:
    """Return the namespaces that have `topic`. Raises the errors of the driver."""
    found = set()
    for page in _pages(servers, keys.pattern_of_namespaces(topic)):
        for key in page or ():
            found.add(keys.namespace_of(key))
    return sorted(found)


def _pages(servers: Servers, pattern: bytes) -> Iterator[list[bytes] | None]:
    """Yield the keys of each call of SCAN, and `None` at the end if there was no time for all."""
    for number, page in enumerate(servers.scan(pattern)):
        if number == MOST_CALLS:
            yield None
            return
        yield page
