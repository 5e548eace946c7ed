"""The counting of wholes, within the transaction that publishes: `Tally` of bridge/model/counts.py, in rows.

Whoever calls holds the row of the topic, so what is read here stays as it is until it is written.
"""

from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, select, update

from bridge.backends.sql.tables import LINES, PARTS, TALLIES, key_of
from bridge.model.counts import Sums, importance_of
from bridge.model.state import MAX_LINES, WAITING, Change, Part

_STAGES = ("stage1", "stage2", "stage3", "stage4")

_HELD = (
    select(TALLIES, PARTS.c.stage, PARTS.c.value)
    .outerjoin(PARTS, and_(PARTS.c.topic == TALLIES.c.topic, PARTS.c.key == bindparam("b_key")))
    .where(TALLIES.c.topic == bindparam("b_topic"))
)
_SIZE = select(PARTS.c.value).where(PARTS.c.topic == bindparam("b_topic"), PARTS.c.key == bindparam("b_key"))
_SUM_UP = (
    update(TALLIES)
    .where(TALLIES.c.topic == bindparam("b_topic"))
    .values({name: bindparam(name) for name in ("done", "shown", *_STAGES)})
)
_MOVE = (
    update(PARTS)
    .where(PARTS.c.topic == bindparam("b_topic"), PARTS.c.key == bindparam("b_key"))
    .values(stage=bindparam("stage"), value=bindparam("value"))
)
_SHOW = (
    update(LINES)
    .where(LINES.c.topic == bindparam("b_topic"), LINES.c.key == bindparam("b_key"))
    .values({name: bindparam(name) for name in ("importance", "age", "line")})
)
_LEAST = (
    select(LINES.c.key, LINES.c.importance)
    .where(LINES.c.topic == bindparam("b_topic"))
    .order_by(LINES.c.importance, LINES.c.age)
    .limit(1)
)
_BEGIN, _ADD, _ADD_LINE = insert(TALLIES), insert(PARTS), insert(LINES)
_HIDE = delete(LINES).where(LINES.c.topic == bindparam("b_topic"), LINES.c.key == bindparam("b_key"))


def admit(
    connection: Connection, topic: Row[Any], payload: bytes, change: Change, part: Part
) -> list[tuple[bytes, Change]]:
    """Take `part` into account and return what is to be published: nothing if it is no news."""
    of_part = {"b_topic": topic.id, "b_key": key_of(part.name)}
    held = connection.execute(_HELD, of_part).first()
    new = held is None or held.stage is None
    size = part.size or connection.scalar(_SIZE, {"b_topic": topic.id, "b_key": key_of("")}) or 0
    stages = [0, 0, 0, 0, 0] if held is None else [0, *(getattr(held, stage) for stage in _STAGES)]
    sums = Sums(0 if held is None else held.done, stages, size)
    counted = sums.count(part, (WAITING, 0) if held is None or new else (held.stage, held.value))
    if counted is None:
        return []
    values = dict(zip(("stage", "value"), counted, strict=True))
    if new:
        connection.execute(_ADD, {"topic": topic.id, "key": of_part["b_key"], **values})
    else:
        connection.execute(_MOVE, {**of_part, **values})
    shown = 0 if held is None else held.shown
    if part.name:
        shown += _show(connection, of_part, shown, importance_of(counted[0]), topic.number, part.line)
    tally = {"done": sums.done, "shown": shown} | dict(zip(_STAGES, sums.stages[1:], strict=True))
    if held is None:
        connection.execute(_BEGIN, {"topic": topic.id, **tally})
    else:
        connection.execute(_SUM_UP, {**of_part, **tally})
    messages = sums.messages(payload, change, part)
    if any(told.final for _, told in messages):
        # Whatever is said from now on is refused.
        connection.execute(delete(PARTS).where(PARTS.c.topic == topic.id))
    return messages


def _show(
    connection: Connection, of_part: dict[str, Any], shown: int, importance: int, age: int, line: bytes
) -> int:
    """Keep the line of a part, if need be in place of the oldest of the least importance.

    Returns how many lines there are more.
    """
    values = {"importance": importance, "age": age, "line": line}
    if connection.execute(_SHOW, {**of_part, **values}).rowcount:
        return 0
    if shown >= MAX_LINES:
        least = connection.execute(_LEAST, of_part).one()
        if least.importance > importance:
            return 0
        connection.execute(_HIDE, {**of_part, "b_key": least.key})
    connection.execute(_ADD_LINE, {"topic": of_part["b_topic"], "key": of_part["b_key"], **values})
    return int(shown < MAX_LINES)
