"""Publishes one message to its topic and its groups, and applies its change, within a transaction."""

from dataclasses import dataclass

# `Any` in this module: SQLAlchemy types the columns of a row only for mapped classes.
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from bridge.backends.sql import state
from bridge.backends.sql.counts import count
from bridge.backends.sql.log import ANY_RANK, Transaction, append
from bridge.backends.sql.tables import MESSAGES, TOPICS, key_of
from bridge.backends.sql.topics import hold_topic
from bridge.model.counts import Counts, parse_counts
from bridge.model.position import Position
from bridge.model.publication import Publication

LOOK_BACK = 1000
"""The number of last messages in which a repeated message is searched for."""

_BY_TOKEN = (
    select(MESSAGES, TOPICS.c.key, TOPICS.c.epoch)
    .join(TOPICS, TOPICS.c.id == MESSAGES.c.topic)
    .where(
        TOPICS.c.key == bindparam("b_key"),
        MESSAGES.c.number > TOPICS.c.number - LOOK_BACK,
        MESSAGES.c.token.in_(bindparam("b_tokens", expanding=True)),
    )
    .order_by(MESSAGES.c.number.desc())
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Written:
    """A message and where it was written."""

    key: str
    position: Position
    payload: bytes
    type: str | None
    counts: Counts | None


def publish(
    transaction: Transaction, publication: Publication, known: Position | None = None
) -> list[Written]:
    """Write a message to its topic, and if it has a change, to the groups too. Return what is written.

    If the change is refused, nothing is written. A message about a part of a canvas may be written with its
    follow-up. If a repeated message was already written, nothing is written, and the last one is returned.
    `known` is a position in the topic that this publisher once had confirmed.
    """
    connection, change = transaction.connection, publication.change
    if publication.repeated:
        hold_topic(connection, transaction.namespace, publication.topic)
        found = _find(connection, key_of(transaction.namespace, publication.topic), publication)
        if found is not None:
            return [found]
    if change is None:
        return _write(transaction, publication, None, known)
    if publication.part is None:
        return _write(transaction, publication, None, known, change.rank - change.final)
    topic = hold_topic(connection, transaction.namespace, publication.topic)
    if change.refused_by(topic.rank):
        return []
    messages, counts = count(connection, topic, publication, publication.part)
    written: list[Written] = []
    for message in messages:
        written += _write(transaction, message, counts, known)
        known = None
    return written


def _write(
    transaction: Transaction,
    publication: Publication,
    counts: Counts | None,
    known: Position | None,
    highest: int = ANY_RANK,
) -> list[Written]:
    """Write a message to its topic and its groups, and apply its change, unless the rank is too high."""
    row = append(transaction, publication.topic, publication, counts, known=known, highest=highest)
    if row is None:
        return []
    written, change = [_written(row, publication, counts)], publication.change
    if change is not None:
        state.apply(transaction.connection, row, change, publication.payload)
        for group in change.groups:
            copy = append(transaction, group.topic, publication, counts)
            assert copy is not None, "a group is open to every rank"
            if group.lists:
                state.enlist(transaction.connection, copy, row)
            written.append(_written(copy, publication, counts))
    return written


def _written(row: Row[Any], publication: Publication, counts: Counts | None) -> Written:
    position = Position(row.epoch, row.number, row.mark)
    return Written(row.key, position, publication.payload, publication.type, counts)


def _find(connection: Connection, key: str, publication: Publication) -> Written | None:
    """Return the last message that an earlier attempt has written, or `None`."""
    tokens = [publication.token.decode()]
    if publication.part is not None and publication.part.follow_up is not None:
        tokens.append(publication.part.follow_up.token.decode())
    row = connection.execute(_BY_TOKEN, {"b_key": key, "b_tokens": tokens}).first()
    if row is None:
        return None
    position = Position(row.epoch, row.number, row.mark)
    return Written(row.key, position, row.payload, row.kind, parse_counts(row.counts))
