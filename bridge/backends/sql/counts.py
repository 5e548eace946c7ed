"""Counts the parts of a canvas, within the transaction that publishes.

The caller has locked the row of the topic. So no other transaction changes the counts meanwhile.
"""

# `Any` in this module: SQLAlchemy types the columns of a row only for mapped classes.
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from bridge.backends.sql.held import Held
from bridge.backends.sql.tables import COUNTS, PARTS, ROWS, key_of
from bridge.model.counts import Counts, Reached, importance_of, messages
from bridge.model.publication import Part, Publication
from bridge.model.state import MAX_ROWS

# The columns of the counts, in the order of the fields of `Counts`. The names of the stages are fixed by
# existing tables.
COLUMNS = ("size", "done", "stage1", "stage2", "stage3", "stage4")

_HELD = (
    select(COUNTS, PARTS.c.stage, PARTS.c.value)
    .outerjoin(PARTS, and_(PARTS.c.topic == COUNTS.c.topic, PARTS.c.key == bindparam("b_key")))
    .where(COUNTS.c.topic == bindparam("b_topic"))
)
_SET_COUNTS = (
    update(COUNTS)
    .where(COUNTS.c.topic == bindparam("b_topic"))
    .values({name: bindparam(name) for name in (*COLUMNS, "shown")})
)
_SET_PART = (
    update(PARTS)
    .where(PARTS.c.topic == bindparam("b_topic"), PARTS.c.key == bindparam("b_key"))
    .values(stage=bindparam("stage"), value=bindparam("value"))
)
_SET_ROW = (
    update(ROWS)
    .where(ROWS.c.topic == bindparam("b_topic"), ROWS.c.key == bindparam("b_key"))
    .values({name: bindparam(name) for name in ("importance", "age", "line")})
)
_LEAST = (
    select(ROWS.c.key, ROWS.c.importance)
    .where(ROWS.c.topic == bindparam("b_topic"))
    .order_by(ROWS.c.importance, ROWS.c.age)
    .limit(1)
)
_ADD_COUNTS, _ADD_PART, _ADD_ROW = insert(COUNTS), insert(PARTS), insert(ROWS)
_REMOVE_ROW = delete(ROWS).where(ROWS.c.topic == bindparam("b_topic"), ROWS.c.key == bindparam("b_key"))
_REMOVE_PARTS = delete(PARTS).where(PARTS.c.topic == bindparam("b_topic"))


def counts_of(row: Any) -> Counts:
    """Return the counts in a row that has their columns."""
    return Counts(*(getattr(row, name) for name in COLUMNS))


def _columns_of(counts: Counts) -> dict[str, int]:
    stages = (counts.running, counts.succeeded, counts.revoked, counts.failed)
    return dict(zip(COLUMNS, (counts.size, counts.done, *stages), strict=True))


def count(
    connection: Connection, topic: Held, publication: Publication, part: Part
) -> tuple[list[Publication], Counts]:
    """Count `part`. Return the messages to publish, none if nothing has changed, and the counts."""
    of_part = {"b_topic": topic.id, "b_key": key_of(part.name)}
    held = connection.execute(_HELD, of_part).first()
    before = Counts() if held is None else counts_of(held)
    is_new = held is None or held.stage is None
    reached = Reached() if held is None or is_new else Reached(held.stage, held.value)
    after = reached.advanced(part)
    if after is None:
        return [], before
    counts = before.count(part, reached, after)
    if counts.complete:
        # The state of the canvas refuses all that follows.
        connection.execute(_REMOVE_PARTS, of_part)
    elif is_new:
        connection.execute(_ADD_PART, {"topic": topic.id, "key": of_part["b_key"], **after._asdict()})
    else:
        connection.execute(_SET_PART, {**of_part, **after._asdict()})
    shown = 0 if held is None else held.shown
    if part.name:
        shown += _show(connection, of_part, shown, importance_of(after.stage), topic.number, part.row)
    values = {**_columns_of(counts), "shown": shown}
    if held is None:
        connection.execute(_ADD_COUNTS, {"topic": topic.id, **values})
    else:
        connection.execute(_SET_COUNTS, {**of_part, **values})
    return messages(publication, part, before, counts), counts


def _show(
    connection: Connection, of_part: dict[str, Any], shown: int, importance: int, age: int, row: bytes
) -> int:
    """Keep the row of a part. If there are too many, it replaces the oldest row of the least importance.

    Returns by how many the number of rows has grown.
    """
    values = {"importance": importance, "age": age, "line": row}
    if connection.execute(_SET_ROW, {**of_part, **values}).rowcount:
        return 0
    if shown >= MAX_ROWS:
        least = connection.execute(_LEAST, of_part).one()
        if least.importance > importance:
            return 0
        connection.execute(_REMOVE_ROW, {**of_part, "b_key": least.key})
    connection.execute(_ADD_ROW, {"topic": of_part["b_topic"], "key": of_part["b_key"], **values})
    return int(shown < MAX_ROWS)
