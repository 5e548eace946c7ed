"""Letting go of what is older than retention allows, a few rows at a time."""

import time
from collections.abc import Sequence

# `Any` in this module: the new values of columns, each of its own type. SQLAlchemy types rows only for
# mapped classes.
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, or_, select, update

from bridge.backends.sql.tables import (
    COUNTS,
    DURABLE,
    ENTRIES,
    FIELDS,
    MEMBERS,
    MESSAGES,
    PARTS,
    ROWS,
    TOPICS,
)
from bridge.model.state import END, Retention

BATCH = 256
"""Rows deleted at most with one message."""

FEW = 64
"""Rows that may wait to be deleted, so that not every message deletes one."""

SET = update(TOPICS).where(TOPICS.c.id == bindparam("b_id"))
_FIRST_SINCE = (
    select(MESSAGES.c.number)
    .where(
        MESSAGES.c.topic == bindparam("b_id"),
        MESSAGES.c.number >= bindparam("b_oldest"),
        MESSAGES.c.mark >= bindparam("b_since"),
    )
    .order_by(MESSAGES.c.number)
    .limit(1)
)
_FORGET = delete(MESSAGES).where(
    MESSAGES.c.topic == bindparam("b_id"), MESSAGES.c.number < bindparam("b_below")
)

_KEPT = select(TOPICS.c.id).where(
    TOPICS.c.key.in_(bindparam("b_keys", expanding=True)), TOPICS.c.rank <= bindparam("b_highest")
)
_KEPT_AND_FREE = _KEPT.with_for_update(skip_locked=True)
_RENEW = (
    update(TOPICS)
    .where(TOPICS.c.id.in_(bindparam("b_ids", expanding=True)))
    .values(upkeep=bindparam("b_now"))
)


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


def trim(connection: Connection, row: Row[Any], retention: Retention, now: int) -> None:
    """Let go of what is older than retention allows.

    The bound is moved exactly; rows below it are deleted a few at a time. Age is looked after when a 64th
    of it has passed, which costs most messages nothing.
    """
    moved: dict[str, Any] = {}
    oldest = row.oldest
    if now - row.upkeep >= retention.seconds * 1000 / 64:
        since = {"b_id": row.id, "b_oldest": oldest, "b_since": now - round(retention.seconds * 1000)}
        oldest = connection.scalar(_FIRST_SINCE, since) or oldest
        moved = {"oldest": oldest, "upkeep": now}
    if oldest - row.swept >= FEW:
        swept = min(oldest, row.swept + BATCH)
        connection.execute(_FORGET, {"b_id": row.id, "b_below": swept})
        moved["swept"] = swept
    if moved:
        connection.execute(SET.values(moved), {"b_id": row.id})


def renew(connection: Connection, keys: Sequence[str], highest: int) -> None:
    """Let the retention of these topics begin anew, where the rank is not above `highest`.

    Whoever holds one of them publishes to it, and so does the same: to wait could be a deadlock. Not every
    database can pass over what is held.
    """
    kept = _KEPT_AND_FREE if connection.dialect.name == "postgresql" else _KEPT
    found = connection.scalars(kept, {"b_keys": list(keys), "b_highest": highest}).all()
    if found:
        connection.execute(_RENEW, {"b_ids": list(found), "b_now": milliseconds()})


def sweep(connection: Connection, namespace: str, retention: Retention) -> bool:
    """Forget a part of one topic that nobody wrote or read for long; return whether there was one.

    A group is kept as long as a member that has not ended may be.
    """
    now = milliseconds()
    since, unended_since = (
        now - round(seconds * 1000 * 65 / 64) for seconds in (retention.seconds, retention.unended)
    )
    lists = exists().where(MEMBERS.c.of_group == TOPICS.c.id)
    over = or_(TOPICS.c.rank >= END, (TOPICS.c.rank < 0) & ~lists, TOPICS.c.upkeep < unended_since)
    expired = (TOPICS.c.namespace == namespace, TOPICS.c.upkeep < since, over)
    durable = exists().where(DURABLE.c.topic == TOPICS.c.id)
    topic = connection.scalar(
        select(TOPICS.c.id).where(*expired, ~durable).order_by(TOPICS.c.upkeep).limit(1)
    )
    if topic is None:
        return False
    locked = connection.execute(SET.where(*expired).values(rank=TOPICS.c.rank), {"b_id": topic})
    if not locked.rowcount:
        return True
    row = connection.execute(select(TOPICS).where(TOPICS.c.id == topic)).one()
    below = row.swept + BATCH
    connection.execute(_FORGET, {"b_id": topic, "b_below": below})
    if below <= row.number:
        connection.execute(SET.values(oldest=below, swept=below), {"b_id": topic})
        return True
    connection.execute(delete(MEMBERS).where((MEMBERS.c.topic == topic) | (MEMBERS.c.of_group == topic)))
    for table in (FIELDS, ENTRIES, COUNTS, PARTS, ROWS):
        connection.execute(delete(table).where(table.c.topic == topic))
    connection.execute(delete(TOPICS).where(TOPICS.c.id == topic))
    return True
