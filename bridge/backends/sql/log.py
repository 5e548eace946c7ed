"""Appends messages to the log of a topic, within a transaction of the caller."""

from dataclasses import dataclass

# `Any` in this module: SQLAlchemy types the columns of a row only for mapped classes.
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, insert, select, update

from bridge.backends.sql.retention import SET, milliseconds, trim
from bridge.backends.sql.tables import MESSAGES, TOPICS, key_of
from bridge.backends.sql.topics import BY_KEY, make_topic
from bridge.model.counts import Counts
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention

ANY_RANK = 2**62
"""No topic has a rank above this one."""

_number = TOPICS.c.number + 1
_first_kept = _number + 1 - bindparam("b_keep")
# The number comes last, because MySQL reads the columns that it has already set.
_DRAW = (
    update(TOPICS)
    .where(TOPICS.c.key == bindparam("b_key"), TOPICS.c.rank <= bindparam("b_highest"))
    .ordered_values(
        (TOPICS.c.mark, case((TOPICS.c.mark < bindparam("b_now"), bindparam("b_now")), else_=TOPICS.c.mark)),
        (TOPICS.c.epoch, case((TOPICS.c.number == 0, bindparam("b_epoch")), else_=TOPICS.c.epoch)),
        (TOPICS.c.oldest, case((TOPICS.c.oldest < _first_kept, _first_kept), else_=TOPICS.c.oldest)),
        (TOPICS.c.number, _number),
    )
)
_DRAW_RETURNING = _DRAW.returning(*TOPICS.c)
_KEEP = insert(MESSAGES).inline()
_MARK_OF = select(MESSAGES.c.mark).where(
    MESSAGES.c.topic == bindparam("b_id"), MESSAGES.c.number == bindparam("b_number")
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that publishes. The caller begins and ends it."""

    connection: Connection
    namespace: str
    retention: Retention


def append(
    transaction: Transaction,
    topic: str,
    publication: Publication,
    counts: Counts | None,
    *,
    known: Position | None = None,
    highest: int = ANY_RANK,
) -> Row[Any] | None:
    """Append a message to the log of `topic`; return the row of the topic.

    `counts` are those of the canvas at this message. `known` is a position in the topic that this publisher
    once had confirmed. If the rank of the topic is above `highest`, writes nothing and returns `None`.
    """
    connection, now = transaction.connection, milliseconds()
    epoch = publication.token[:8].decode()
    values = {"b_key": key_of(transaction.namespace, topic), "b_highest": highest, "b_now": now}
    values |= {"b_epoch": epoch, "b_keep": transaction.retention.messages}
    row = _draw(connection, values)
    if row is None:
        make_topic(connection, transaction.namespace, topic)
        row = _draw(connection, values)
        if row is None:
            return None
    if known is not None and _has_forgotten(connection, row, known):
        # The database is an older copy without some messages. A new epoch shows this to their readers.
        connection.execute(SET.values(epoch=epoch), {"b_id": row.id})
        row = connection.execute(BY_KEY, {"b_key": row.key}).one()
    _keep(connection, row, publication, counts)
    trim(connection, row, transaction.retention, now, len(publication.payload))
    return row


def _keep(connection: Connection, row: Row[Any], publication: Publication, counts: Counts | None) -> None:
    """Write the message whose number the row of the topic has."""
    message = {"topic": row.id, "number": row.number, "mark": row.mark, "token": publication.token.decode()}
    message |= {"payload": publication.payload, "kind": publication.type}
    connection.execute(_KEEP, {**message, "counts": None if counts is None else str(counts)})


def _draw(connection: Connection, values: dict[str, Any]) -> Row[Any] | None:
    """Draw the next number of a topic, which locks it until the transaction ends."""
    if connection.dialect.update_returning:
        return connection.execute(_DRAW_RETURNING, values).first()
    if not connection.execute(_DRAW, values).rowcount:
        return None
    return connection.execute(BY_KEY, {"b_key": values["b_key"]}).one()


def _has_forgotten(connection: Connection, row: Row[Any], known: Position) -> bool:
    """Return whether the topic lacks a message that was confirmed and should still be kept."""
    if row.epoch != known.epoch or row.number - 1 == known.number:
        return False
    if row.number <= known.number:
        return True
    mark = connection.scalar(_MARK_OF, {"b_id": row.id, "b_number": known.number})
    return bool(known.number >= row.oldest if mark is None else mark != known.mark)
