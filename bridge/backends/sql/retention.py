"""Removes what is older than the retention, a few rows at a time."""

import random
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Table, bindparam, delete, exists, func, or_, select, update

from bridge.backends.sql.held import Held
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
from bridge.model.state import END, MAX_ENTRIES, MAX_ENTRY_BYTES, Retention

BATCH = 256
"""The most rows that are deleted with one message."""

FEW = 64
"""Rows that may wait to be deleted, so that not every message deletes a row."""

MEASURED_AFTER = 16
"""The bytes of a topic are added up after about a 16th of those that are kept, so it costs little."""

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


def is_to_be_measured(size: int, most: int) -> bool:
    """Return whether to add up the bytes of a topic after `size` more, if `most` are kept.

    Many processes write to a topic, and none knows how much the others wrote. So it is left to chance, which
    comes once for `most / MEASURED_AFTER` bytes. It is always done after as many bytes at once.
    """
    return random.random() * most < size * MEASURED_AFTER


def first_within(
    connection: Connection, table: Table, topic: int, oldest: int, newest: int, most: int
) -> int:
    """Return the first number from which on the payloads have at most `most` bytes, or else `newest`."""
    bytes_from = func.sum(func.length(table.c.payload)).over(order_by=table.c.number.desc())
    rows = select(table.c.number, bytes_from.label("bytes"))
    rows = rows.where(table.c.topic == topic, table.c.number >= oldest)
    sums = rows.subquery()
    first = connection.scalar(select(func.min(sums.c.number)).where(sums.c.bytes <= most))
    return newest if first is None else int(first)


def trim(connection: Connection, topic: Held, retention: Retention, now: int, most: int = BATCH) -> None:
    """Remove messages and entries of a locked topic that are too old: at most `most` messages.

    Changes `topic`, which the caller writes. The number of the oldest message is exact. The rows below it are
    deleted a few at a time. The age is checked after each 64th of the retention time, so it costs nothing for
    most messages.
    """
    if is_due(topic, retention, now):
        since = {"b_id": topic.id, "b_oldest": topic.oldest, "b_since": now - round(retention.seconds * 1000)}
        topic.oldest = connection.scalar(_FIRST_SINCE, since) or topic.oldest
        topic.upkeep = now
    if topic.measured:
        oldest, newest = topic.oldest, topic.number
        topic.oldest = first_within(connection, MESSAGES, topic.id, oldest, newest, retention.bytes)
    if topic.oldest - topic.swept >= FEW:
        topic.swept = min(topic.oldest, topic.swept + most)
        connection.execute(_FORGET, {"b_id": topic.id, "b_below": topic.swept})
    if has_old_entries(topic):
        trim_entries(connection, topic)


def is_due(topic: Held, retention: Retention, now: int) -> bool:
    """Return whether the age of the messages of a topic is to be checked."""
    return now - topic.upkeep >= retention.seconds * 1000 / 64


def needs_trim(topic: Held, retention: Retention, now: int) -> bool:
    """Return whether it is worth a transaction of its own to trim a topic."""
    many = topic.oldest - topic.swept >= FEW
    return many or topic.measured or is_due(topic, retention, now) or has_old_entries(topic)


def has_old_entries(topic: Held) -> bool:
    """Return whether to delete the entries that are too many. They may wait until there are a few."""
    before, now = topic.entries_before, topic.entries
    return topic.entries_measured or (now > MAX_ENTRIES and now // FEW != before // FEW)


def trim_entries(connection: Connection, topic: Held) -> None:
    """Delete the oldest entries of a topic, if they are too many or have too many bytes."""
    first = topic.entries - MAX_ENTRIES + 1
    if topic.entries_measured:
        first = first_within(connection, ENTRIES, topic.id, first, topic.entries, MAX_ENTRY_BYTES)
    if first > 1:
        connection.execute(delete(ENTRIES).where(ENTRIES.c.topic == topic.id, ENTRIES.c.number < first))


def renew(connection: Connection, keys: Sequence[str], highest: int) -> None:
    """Start the retention of these topics again, if their rank is not above `highest`.

    PostgreSQL skips locked topics, because waiting could be a deadlock. The publisher that has locked a topic
    renews it too. Not every database can skip locked rows.
    """
    kept = _KEPT_AND_FREE if connection.dialect.name == "postgresql" else _KEPT
    found = connection.scalars(kept, {"b_keys": list(keys), "b_highest": highest}).all()
    if found:
        connection.execute(_RENEW, {"b_ids": list(found), "b_now": milliseconds()})


def sweep(connection: Connection, namespace: str, retention: Retention) -> bool:
    """Remove a part of one expired topic. Return whether there was one.

    A topic expires when nobody has written or read it for the retention time. A group is kept as long as one
    of its members may be kept that has not ended.
    """
    now = milliseconds()
    since, unended_since = (
        now - round(seconds * 1000 * 65 / 64) for seconds in (retention.seconds, retention.unended)
    )
    lists = exists().where(MEMBERS.c.of_group == TOPICS.c.id)
    may_expire = or_(TOPICS.c.rank >= END, (TOPICS.c.rank < 0) & ~lists, TOPICS.c.upkeep < unended_since)
    expired = (TOPICS.c.namespace == namespace, TOPICS.c.upkeep < since, may_expire)
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
