"""Publishes messages to their topics and their groups, and applies their changes, within a transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from bridge.backends.sql.batch import Batch, Written
from bridge.backends.sql.counts import count
from bridge.backends.sql.held import Held
from bridge.backends.sql.pending import defer, take_pending
from bridge.backends.sql.tables import MESSAGES
from bridge.backends.sql.writing import write
from bridge.model.counts import parse_counts
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention

LOOK_BACK = 1000
"""The number of last messages in which a repeated message is searched for."""

Hold = Callable[[Connection, str, Iterable[str]], dict[str, Held]]

_BY_TOKEN = (
    select(MESSAGES)
    .where(
        MESSAGES.c.topic == bindparam("b_topic"),
        MESSAGES.c.number > bindparam("b_after"),
        MESSAGES.c.token.in_(bindparam("b_tokens", expanding=True)),
    )
    .order_by(MESSAGES.c.number.desc())
    .limit(1)
)
_MARKS = select(MESSAGES.c.topic, MESSAGES.c.number, MESSAGES.c.mark).where(
    MESSAGES.c.topic.in_(bindparam("b_topics", expanding=True)),
    MESSAGES.c.number.in_(bindparam("b_numbers", expanding=True)),
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that publishes. The caller begins and ends it."""

    connection: Connection
    namespace: str
    retention: Retention
    hold: Hold
    """Locks topics, see `bridge.backends.sql.topics`."""
    defers: bool = False
    """Whether messages for groups wait in `bridge_pending`, so that the groups are not locked."""


def publish(
    transaction: Transaction, publications: Sequence[Publication], known: Mapping[str, Position]
) -> list[Written]:
    """Write messages to their topics, and those that have a change to the groups too. Return what is written.

    If a change is refused, its message is not written. A message about a part of a canvas may be written with
    its follow-up. If a repeated message was already written, it is not written again, and the last one is
    returned. `known` has, by topic, a position that this publisher once had confirmed.
    """
    connection, namespace = transaction.connection, transaction.namespace
    groups = {
        group.topic
        for publication in publications
        if publication.change is not None
        for group in publication.change.groups
    }
    names = {publication.topic for publication in publications}
    held = transaction.hold(connection, namespace, names - groups)
    held |= transaction.hold(connection, namespace, groups & names if transaction.defers else groups)
    batch = Batch(transaction.retention, held)
    find_forgotten(connection, batch.topics, known)
    for publication in publications:
        _add(connection, batch, publication)
    if transaction.defers:
        defer(connection, namespace, batch.copies)
    else:
        _add_to_groups(connection, batch)
    write(connection, batch)
    return batch.written


def publish_pending(transaction: Transaction, groups: Iterable[str]) -> list[Written]:
    """Append to groups what waits for them. Return what is written."""
    held = transaction.hold(transaction.connection, transaction.namespace, groups)
    batch = Batch(transaction.retention, held, copies={group: [] for group in held})
    _add_to_groups(transaction.connection, batch)
    write(transaction.connection, batch)
    return batch.written


def _add_to_groups(connection: Connection, batch: Batch) -> None:
    """Append messages to groups, first those that wait for them."""
    pending = take_pending(connection, [batch.topics[group].key for group in batch.copies])
    for group, copies in batch.copies.items():
        held = batch.topics[group]
        batch.add_copies(held, pending.get(held.key, ()))
        batch.add_copies(held, copies)


def _add(connection: Connection, batch: Batch, publication: Publication) -> None:
    topic = batch.topics[publication.topic]
    if publication.repeated:
        found = _find(connection, batch, topic, publication)
        if found is not None:
            batch.written.append(found)
            return
    change = publication.change
    if publication.part is None or change is None:
        batch.add(publication)
    elif not change.refused_by(topic.rank):
        messages, counts = count(connection, topic, publication, publication.part)
        for message in messages:
            batch.add(message, counts)


def _find(connection: Connection, batch: Batch, topic: Held, publication: Publication) -> Written | None:
    """Return the last message that an earlier attempt, or this batch, has written, or `None`."""
    tokens = [publication.token.decode()]
    if publication.part is not None and publication.part.follow_up is not None:
        tokens.append(publication.part.follow_up.token.decode())
    for token in reversed(tokens):
        if (topic.id, token) in batch.by_token:
            return batch.by_token[topic.id, token]
    after = topic.number - LOOK_BACK
    values = {"b_topic": topic.id, "b_after": after, "b_tokens": tokens}
    row = connection.execute(_BY_TOKEN, values).first()
    if row is None:
        return None
    position = Position(topic.epoch, row.number, row.mark)
    return Written(topic.key, position, row.payload, row.kind, parse_counts(row.counts))


def find_forgotten(connection: Connection, topics: Mapping[str, Held], known: Mapping[str, Position]) -> None:
    """Note which topics lack a message that was confirmed and should still be kept."""
    doubtful = {name: position for name, position in known.items() if is_doubtful(topics.get(name), position)}
    if not doubtful:
        return
    ids = [topics[name].id for name in doubtful]
    numbers = [position.number for position in doubtful.values()]
    rows = connection.execute(_MARKS, {"b_topics": ids, "b_numbers": numbers})
    marks = {(topic, number): mark for topic, number, mark in rows}
    for name, position in doubtful.items():
        topic = topics[name]
        topic.has_forgotten = has_forgotten(topic, position, marks.get((topic.id, position.number)))


def is_doubtful(topic: Held | None, known: Position) -> bool:
    """Return whether the message at `known` has to be looked for."""
    return topic is not None and topic.epoch == known.epoch and topic.number != known.number


def has_forgotten(topic: Held, known: Position, mark: int | None) -> bool:
    """Return whether the message at `known` is missing. `mark` is that of the message with its number."""
    if topic.number < known.number:
        return True
    return known.number >= topic.oldest if mark is None else mark != known.mark
