"""Publishes a batch to PostgreSQL with two round trips, and locks no group for longer than its last moment.

The first round trip locks the topics. Then the batch is planned, and the second one writes it: one statement
a table, the groups, the notification, and the commit. The server numbers the messages of the groups itself.
So a group is locked while the server runs what it already has, however slow the publisher is.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

# `Any` in this module: psycopg's connections and cursors are generic in the type of a row.
from typing import Any

import psycopg

from bridge.backends.sql.batch import Batch, Copy
from bridge.backends.sql.held import COLUMNS, Held
from bridge.backends.sql.tables import key_of
from bridge.backends.sql.topics import new_row
from bridge.model.state import Retention

CHANNEL = "bridge_message"

KEYS_TOGETHER = 200
"""The most topics in one notification, whose limit is 8,000 bytes."""

_COLUMNS = ", ".join(COLUMNS)
_LOCK = f"""SELECT {_COLUMNS} FROM bridge_topic WHERE key = ANY(%b::varchar[])
    ORDER BY key COLLATE "C" FOR NO KEY UPDATE"""  # noqa: S608 - names of columns
_EXISTING = "SELECT key FROM bridge_topic WHERE key = ANY(%b::varchar[])"
_MAKE = """INSERT INTO bridge_topic
        (key, namespace, name, epoch, number, mark, oldest, swept, upkeep, rank, entries)
    SELECT key, %s, name, '', 0, 0, 1, 1, %s, -1, 0
    FROM unnest(%b::varchar[], %b::varchar[]) AS made (key, name) ORDER BY key COLLATE "C"
    ON CONFLICT (key) DO NOTHING"""
_MARKS = """SELECT topic, number, mark FROM bridge_message
    JOIN unnest(%b::bigint[], %b::bigint[]) AS asked (topic, number) USING (topic, number)"""
_ADD_MESSAGES = """INSERT INTO bridge_message (topic, number, mark, token, payload, kind, counts)
    SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::varchar[], %b::bytea[], %b::varchar[],
        %b::varchar[])"""
_SET_FIELDS = """INSERT INTO bridge_field (topic, name, value)
    SELECT * FROM unnest(%b::bigint[], %b::varchar[], %b::bytea[])
    ON CONFLICT (topic, name) DO UPDATE SET value = excluded.value"""
_ADD_ENTRIES = """INSERT INTO bridge_entry (topic, number, payload)
    SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[])"""
_NUMBER = """UPDATE bridge_topic SET epoch = new.epoch, number = new.number, mark = new.mark,
        oldest = new.oldest, rank = new.rank, entries = new.entries
    FROM unnest(%b::bigint[], %b::varchar[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
        %b::bigint[]) AS new (id, epoch, number, mark, oldest, rank, entries)
    WHERE bridge_topic.id = new.id"""
# A group that was removed meanwhile has no id, which the table refuses.
_APPEND = """WITH waiting AS (
        DELETE FROM bridge_pending WHERE of_group = %(key)s
        RETURNING id, topic, listed, token, payload, kind, counts),
    copy AS (
        SELECT *, row_number() OVER (ORDER BY late, place) AS place_of
        FROM (SELECT 0 AS late, id AS place, topic, listed, token, payload, kind, counts FROM waiting
            UNION ALL
            SELECT 1, ordinality, topic, listed, token, payload, kind, counts
            FROM unnest(%(topics)b::bigint[], %(listed)b::int[], %(tokens)b::varchar[], %(payloads)b::bytea[],
                %(kinds)b::varchar[], %(counts)b::varchar[])
                WITH ORDINALITY AS given (topic, listed, token, payload, kind, counts)) AS every),
    total AS (SELECT count(*) AS copies FROM copy),
    head AS (
        UPDATE bridge_topic SET
            epoch = CASE WHEN number = 0 THEN %(epoch)s ELSE epoch END,
            mark = greatest(mark, %(now)s),
            oldest = greatest(oldest, number + copies + 1 - %(keep)s),
            number = number + copies
        FROM total WHERE key = %(key)s
        RETURNING id, key, epoch, number, mark, oldest, swept, upkeep, rank, entries),
    kept AS (
        INSERT INTO bridge_message (topic, number, mark, token, payload, kind, counts)
        SELECT head.id, head.number - copies + place_of, head.mark, token, payload, kind, counts
        FROM copy CROSS JOIN total LEFT JOIN head ON true),
    enlisted AS (
        INSERT INTO bridge_member (of_group, topic)
        SELECT head.id, copy.topic FROM copy CROSS JOIN head JOIN bridge_topic AS member ON member.id = topic
        WHERE listed = 1 AND NOT EXISTS (SELECT FROM bridge_member AS known
            WHERE known.of_group = head.id AND known.topic = copy.topic)
        GROUP BY head.id, copy.topic ORDER BY min(place_of))
    SELECT * FROM head"""
WAITING, SKIPPING = "", " SKIP LOCKED"
_NOTIFY = f"SELECT pg_notify('{CHANNEL}', %s)"


@dataclass(frozen=True, slots=True)
class Locked:
    """The topics that a transaction has locked, by name, and the others."""

    topics: dict[str, Held]
    missing: set[str]
    """Names of topics and groups that do not exist."""


def lock(
    driver: psycopg.Connection[Any], namespace: str, names: Collection[str], groups: Collection[str], how: str
) -> Locked:
    """Begin a transaction, and lock topics in the order of their keys.

    `how` is one of `WAITING`, `SKIPPING` (leaves out those that others have locked), or `soon(seconds)`.
    """
    keys = {key_of(namespace, name): name for name in (*names, *groups)}
    own = [key_of(namespace, name) for name in names]
    with driver.pipeline():
        if how not in (WAITING, SKIPPING):
            driver.execute(how)
        locking = driver.execute(_LOCK + (how if how == SKIPPING else ""), [own])
        existing = driver.execute(_EXISTING, [list(keys)])
        topics = {keys[row[1]]: Held(*row) for row in locking.fetchall()}
        known = {key for (key,) in existing.fetchall()}
    return Locked(topics, {name for key, name in keys.items() if key not in known} - topics.keys())


def make_topics(
    driver: psycopg.Connection[Any], namespace: str, names: Collection[str], how: str = WAITING
) -> None:
    """Create the rows of topics, in a transaction of its own, which locks nothing else."""
    rows = [new_row(namespace, name) for name in names]
    keys, made = [row["key"] for row in rows], [row["name"] for row in rows]
    with driver.pipeline():
        driver.commit()
        if how:
            driver.execute(how)
        driver.execute(_MAKE, [namespace, rows[0]["upkeep"], keys, made])
        driver.commit()


def soon(seconds: float) -> str:
    """Return the statement after which the transaction waits for a lock no longer than this."""
    return f"SET LOCAL lock_timeout = {max(1, round(seconds * 1000))}"


def marks_at(
    driver: psycopg.Connection[Any], places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], int]:
    """Return the marks of messages, by the id of the topic and the number."""
    topics, numbers = zip(*places, strict=True)
    rows = driver.execute(_MARKS, [list(topics), list(numbers)]).fetchall()
    return {(topic, number): mark for topic, number, mark in rows}


def write(driver: psycopg.Connection[Any], batch: Batch, namespace: str) -> list[Held]:
    """Write all rows of `batch`, append to its groups, notify the readers and commit. Return the groups."""
    groups = {key_of(namespace, name): copies for name, copies in batch.copies.items()}
    keys = [*(topic.key for topic in batch.changed), *groups]
    with driver.pipeline():
        _many(driver, _ADD_MESSAGES, batch.messages)  # fmt: skip
        _many(driver, _SET_FIELDS, [(*place, value) for place, value in batch.fields.items()])
        _many(driver, _ADD_ENTRIES, batch.entries)
        _many(driver, _NUMBER, [
            (topic.id, topic.epoch, topic.number, topic.mark, topic.oldest, topic.rank, topic.entries)
            for topic in batch.changed
        ])  # fmt: skip
        if groups:
            driver.execute(_LOCK, [list(groups)])
        heads = [
            driver.execute(_APPEND, _copies(key, copies, batch.now, batch.retention))
            for key, copies in sorted(groups.items())
        ]
        for first in range(0, len(keys), KEYS_TOGETHER):
            driver.execute(_NOTIFY, [" ".join(keys[first : first + KEYS_TOGETHER])])
        driver.commit()
    return [Held(*row) for head in heads for row in head.fetchall()]


def _many(driver: psycopg.Connection[Any], statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run a statement whose parameters are the columns of `rows`."""
    if rows:
        driver.execute(statement, [list(column) for column in zip(*rows, strict=True)])


def _copies(key: str, copies: Sequence[Copy], now: int, retention: Retention) -> dict[str, Any]:
    """Return the parameters that append messages to a group."""
    return {
        "key": key,
        "topics": [copy.topic for copy in copies],
        "listed": [int(copy.listed) for copy in copies],
        "tokens": [copy.token for copy in copies],
        "payloads": [copy.payload for copy in copies],
        "kinds": [copy.type for copy in copies],
        "counts": [None if copy.counts is None else str(copy.counts) for copy in copies],
        "epoch": copies[0].token[:8],
        "now": now,
        "keep": retention.messages,
    }
