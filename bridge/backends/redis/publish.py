"""Builds the calls that publish: the keys and the arguments of scripts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bridge.backends.redis.keys import Keys
from bridge.backends.redis.link import Argument
from bridge.model.publication import Change, Part, Publication


class Call(NamedTuple):
    """A call of a script."""

    script: str
    keys: list[bytes]
    args: list[Argument]


class Batch:
    """Builds a call of `publish_batch`. It names the keys of a topic once, for all messages of the topic."""

    def __init__(self, keys: Keys, *, with_groups: bool) -> None:
        self.call = Call("publish_batch", [], [])
        self._keys = keys
        self._with_groups = with_groups
        self._first_keys: dict[object, int] = {}

    def add(self, publication: Publication, known: str) -> None:
        """Add a message; `known` is the last id of its topic that was confirmed, or empty."""
        topic, change, part, keys = publication.topic, publication.change, publication.part, self._keys
        if change is None:
            form, keys_of, more = "message", keys.of_message, []
        elif part is None:
            form, keys_of = "change", keys.of_change
            more = [*self._group_args(topic, change), *_change_args(change)]
        else:
            form, keys_of = "part", keys.of_part
            more = [*self._group_args(topic, change), *_part_args(change, part)]
        args: list[Argument] = [
            form,
            self._first_key(topic, keys_of),
            keys.channel(topic),
            int(publication.repeated),
            publication.token,
            known,
            publication.type or "",
            publication.payload,
            len(more),
            *more,
        ]
        self.call.args.extend(args)

    def _group_args(self, topic: str, change: Change) -> list[Argument]:
        keys = self._keys
        first_key = self._first_key(change.group, keys.of_group) if self._with_groups else 0
        return [first_key, keys.channel(change.group), topic, int(change.listed)]

    def _first_key(self, topic: str, keys_of: Callable[[str], Sequence[bytes]]) -> int:
        """Return where the keys of a topic begin, counted from 1."""
        which = (topic, keys_of)
        first = self._first_keys.get(which)
        if first is None:
            first = self._first_keys[which] = len(self.call.keys) + 1
            self.call.keys.extend(keys_of(topic))
        return first


def message_call(keys: Keys, publication: Publication, known: str) -> Call:
    """Return the call that publishes one message without a change."""
    topic = publication.topic
    args: list[Argument] = [
        keys.channel(topic),
        publication.payload,
        publication.token,
        known,
        publication.type or "",
    ]
    return Call("publish_message", [*keys.of_message(topic)], args)


def group_call(keys: Keys, publication: Publication, change: Change, counts: bytes, known: str) -> Call:
    """Return the call that publishes a message to the group of its topic, on another node."""
    topic, group = publication.topic, change.group
    args: list[Argument] = [
        keys.channel(group),
        publication.payload,
        publication.token,
        known,
        publication.type or "",
        counts,
        topic,
        int(change.listed),
    ]
    return Call("publish_to_group", [*keys.of_group(group)], args)


def send_call(keys: Keys, publication: Publication, change: Change) -> Call:
    """Return the call that publishes a message with a change, where no messages are kept."""
    topic, part = publication.topic, publication.part
    own, group = keys.of(topic), keys.of(change.group)
    args: list[Argument] = [
        own.channel,
        group.channel,
        topic,
        int(change.listed),
        publication.type or "",
        publication.payload,
    ]
    if part is None:
        return Call("send_change", [own.meta, own.entries, group.members], [*args, *_change_args(change)])
    canvas = [own.meta, own.parts, own.row_order, own.rows]
    return Call("send_part", [*canvas, group.members], [*args, *_part_args(change, part)])


def size_of(publication: Publication) -> int:
    """Return about how many bytes a message sends to the server."""
    size = len(publication.payload)
    if publication.change is not None:
        size += sum(map(len, publication.change.fields.values()))
    if publication.part is not None:
        follow_up = publication.part.follow_up
        size += len(publication.part.row) + (0 if follow_up is None else size_of(follow_up))
    return size


def _change_args(change: Change) -> list[Argument]:
    return [change.rank, int(change.final), int(change.entry), *_fields(change)]


def _part_args(change: Change, part: Part) -> list[Argument]:
    fields = _fields(change)
    args: list[Argument] = [
        part.name,
        part.size,
        part.stage,
        part.value,
        part.row,
        change.rank,
        len(fields),
        *fields,
    ]
    follow_up = part.follow_up
    if follow_up is not None:
        assert follow_up.change is not None, "every event of a canvas changes its state"
        args += [follow_up.token, follow_up.type or "", follow_up.payload, follow_up.change.rank]
        args += _fields(follow_up.change)
    return args


def _fields(change: Change) -> list[bytes | str]:
    """Return the names and values of the fields that a change sets in the hash of its topic."""
    return [arg for name, value in change.fields.items() for arg in (f".{name}", value)]
