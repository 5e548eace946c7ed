"""Builds the calls that publish: the keys and the arguments of scripts."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bridge.backends.redis.keys import Keys
from bridge.backends.redis.link import Argument
from bridge.model.publication import Change, Group, Part, Publication


class Call(NamedTuple):
    """A call of a script."""

    script: str
    keys: list[bytes]
    args: list[Argument]


def publish_call(
    keys: Keys, known: Mapping[str, str], publications: Sequence[Publication], *, with_groups: bool
) -> Call:
    """Return the call that publishes messages in their order, up to the first that fails.

    `known` has the last id of each topic that was confirmed. `with_groups` says whether the groups are on
    the same node. Most messages are sent alone, so they have scripts of their own: a script costs the server
    more the more functions it defines.
    """
    first = publications[0]
    if len(publications) == 1 and not first.repeated and first.part is None:
        last_known = known.get(first.topic, "")
        if first.change is None:
            return _message_call(keys, first, last_known)
        if len(first.change.groups) <= 1:
            return _change_call(keys, first, first.change, last_known, with_groups)
    batch = _Batch(keys, known, with_groups=with_groups)
    for publication in publications:
        batch.add(publication)
    return batch.call


class _Batch:
    """Builds a call that publishes messages, as `lua/batch.lua` describes it.

    It names each topic once, whatever the number of its messages.
    """

    def __init__(self, keys: Keys, known: Mapping[str, str], *, with_groups: bool) -> None:
        self._keys = keys
        self._known = known
        self._with_groups = with_groups
        self._script = "publish_batch"
        self._keys_of_call: list[bytes] = []
        self._args: list[Argument] = []
        self._first_keys: dict[tuple[str, str], int] = {}
        self._groups_of: dict[str, tuple[Group, ...]] = {}

    @property
    def call(self) -> Call:
        return Call(self._script, self._keys_of_call, self._args)

    def add(self, publication: Publication) -> None:
        """Add a message."""
        topic, change, part, keys = publication.topic, publication.change, publication.part, self._keys
        more: list[Argument] = []
        if part is not None and change is not None:
            form, first_key = "part", self._first_key("canvas", topic, keys.of_part)
            self._add_groups(first_key, topic, change)
            more = _part_args(change, part)
            self._script = "publish_any"
        else:
            form, first_key = "message", self._first_key("topic", topic, keys.of_change)
            if change is not None:
                form = "entry" if change.entry else "change"
                self._add_groups(first_key, topic, change)
                more = _change_args(change)
        args: list[Argument] = [
            first_key,
            publication.token,
            publication.type or "",
            publication.payload,
            *more,
        ]
        if publication.repeated:
            self._script = "publish_any"
            form, args = "repeated", [form, *args]
        self._args += (form, len(args), *args)

    def _add_groups(self, first_key: int, topic: str, change: Change) -> None:
        """Add the record with the groups of a topic, unless they are as in its last message."""
        if self._groups_of.get(topic) == change.groups:
            return
        self._groups_of[topic] = change.groups
        if not self._with_groups:
            for group in change.groups:
                self._args += ("channel", 1, self._keys.channel(group.topic))
            return
        args: list[Argument] = [first_key]
        for group in change.groups:
            args.append(self._first_key("group", group.topic, self._keys.of_group))
            args += (topic if group.lists else "", group.lists)
        self._args += ("groups", len(args), *args)

    def _first_key(self, form: str, topic: str, keys_of: Callable[[str], Sequence[bytes]]) -> int:
        """Return where the keys of a topic begin, counted from 1. Add them and a record the first time."""
        first_key = self._first_keys.get((form, topic))
        if first_key is None:
            first_key = self._first_keys[form, topic] = len(self._keys_of_call) + 1
            self._keys_of_call += keys_of(topic)
            known = "" if form == "group" else self._known.get(topic, "")
            self._args += (form, 3, first_key, self._keys.channel(topic), known)
        return first_key


def _message_call(keys: Keys, publication: Publication, known: str) -> Call:
    """Return the call that publishes one message without a change."""
    topic = publication.topic
    args: list[Argument] = [
        keys.channel(topic),
        known,
        publication.token,
        publication.type or "",
        publication.payload,
    ]
    return Call("publish_message", [*keys.of_message(topic)], args)


def _change_call(keys: Keys, publication: Publication, change: Change, known: str, with_group: bool) -> Call:
    """Return the call that publishes one message with a change, of a topic with one group or none."""
    topic = publication.topic
    group = change.groups[0] if change.groups else None
    args: list[Argument] = [
        keys.channel(topic),
        known,
        publication.token,
        publication.type or "",
        publication.payload,
        "" if group is None else keys.channel(group.topic),
        topic if group is not None and group.lists else "",
        0 if group is None else group.lists,
        change.rank,
        int(change.final),
        int(change.entry),
        *_fields(change),
    ]
    group_keys = keys.of_group(group.topic) if with_group and group is not None else ()
    return Call("publish_change", [*keys.of_change(topic), *group_keys], args)


def group_call(keys: Keys, publication: Publication, group: Group, counts: bytes, known: str) -> Call:
    """Return the call that publishes a message to one group of its topic, on another node."""
    args: list[Argument] = [
        keys.channel(group.topic),
        publication.payload,
        publication.token,
        known,
        publication.type or "",
        counts,
        publication.topic if group.lists else "",
        group.lists,
    ]
    return Call("publish_to_group", [*keys.of_group(group.topic)], args)


def send_call(keys: Keys, publication: Publication, change: Change) -> Call:
    """Return the call that publishes a message with a change, where no messages are kept."""
    topic, part = publication.topic, publication.part
    own = keys.of(topic)
    members = [keys.of(group.topic).members for group in change.groups]
    args: list[Argument] = [own.channel, publication.type or "", publication.payload, len(members)]
    for group in change.groups:
        args += (keys.channel(group.topic), topic if group.lists else "", group.lists)
    if part is None:
        args += (change.rank, int(change.final), int(change.entry), *_fields(change))
        return Call("send_change", [own.meta, own.entries, *members], args)
    canvas = [own.meta, own.parts, own.row_order, own.rows]
    return Call("send_part", [*canvas, *members], [*args, *_part_args(change, part)])


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
    return [change.rank, int(change.final), *_fields(change)]


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
