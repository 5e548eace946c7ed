"""Reads all members of a group in pages. In a cluster their states are on other nodes."""

import re

# `Any` in this module: redis-py declares no type for the answers of scripts.
from typing import Any

from bridge.backends.base import PAGE_BYTES, Listed
from bridge.backends.redis.keys import Keys
from bridge.backends.redis.link import Argument
from bridge.backends.redis.replies import parse_fields
from bridge.backends.redis.scripts import Scripts
from bridge.backends.redis.servers import Servers
from bridge.backends.redis.states import MAX_NAMED
from bridge.model.state import TopicState

AT_ONCE = 200
"""Members that one call looks at; the server does nothing else meanwhile."""

MOST_CALLS = 50
"""Calls for one page. With many members that are not kept any more it is shorter."""

_PLACE = re.compile(r"[\d.e+-]+ .+", re.DOTALL)


def read_listed(
    servers: Servers, scripts: Scripts, keys: Keys, group: str, before: str | None, limit: int
) -> Listed:
    """Return a page of the members of a group. Raises `ValueError` for a bad `before`."""
    place = before or ""
    if place and not _PLACE.fullmatch(place):
        raise ValueError("this names no place in the list of a group")
    found: list[TopicState] = []
    more: bytes | None = None
    for _ in range(MOST_CALLS):
        room = PAGE_BYTES - sum(state.size for state in found)
        wanted = min(MAX_NAMED if servers.one_slot else AT_ONCE, limit - len(found))
        states, names, more = _call(servers, scripts, keys, group, place, wanted, room)
        found += [parse_fields(name, pairs) for name, pairs in states]
        if names:
            found += _elsewhere(servers, keys, group, names)
        if more is None:
            break
        place = more.decode()
        if len(found) >= limit or sum(state.size for state in found) >= PAGE_BYTES:
            break
    return Listed(found, None if more is None else place)


def _call(
    servers: Servers, scripts: Scripts, keys: Keys, group: str, place: str, wanted: int, room: int
) -> Any:
    start, after_meta, *_ = keys.around_topic()
    args: list[Argument] = [place, wanted, room, int(not servers.one_slot), start, after_meta]
    return scripts.run("read_listed", [keys.of(group).members], args)


def _elsewhere(servers: Servers, keys: Keys, group: str, names: list[bytes]) -> list[TopicState]:
    """Read the states of members from their nodes. Remove members that have none any more."""
    found: list[TopicState] = []
    gone: list[bytes] = []
    for name in names:
        fields: dict[bytes, bytes] = servers.send("HGETALL", keys.meta(name.decode()))
        if b"rank" in fields:
            found.append(parse_fields(name, [text for pair in fields.items() for text in pair]))
        else:
            gone.append(name)
    if gone:
        servers.send("ZREM", keys.of(group).members, *gone)
    return found
