"""Writing, within a transaction of the caller: a message, what it changes, and what is kept no longer."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from bridge.backends.sql import counts as tally
from bridge.backends.sql import state
from bridge.backends.sql.retention import SET, milliseconds, trim
from bridge.backends.sql.tables import MESSAGES, TOPICS, key_of
from bridge.model.position import Position
from bridge.model.publication import Change
from bridge.model.state import Retention

LOOK_BACK = 1000
"""Messages among which one that is published again is looked for."""

_ANY_RANK = 2**62

_number = TOPICS.c.number + 1
_first_kept = _number + 1 - bindparam("b_keep")
# The number comes last: MySQL reads what it has set already.
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
_BY_KEY = select(TOPICS).where(TOPICS.c.key == bindparam("b_key"))
_LOCK = update(TOPICS).where(TOPICS.c.key == bindparam("b_key")).values(rank=TOPICS.c.rank)
_LOCK_RETURNING = _LOCK.returning(*TOPICS.c)
_KEEP = insert(MESSAGES).inline()
_MARK_OF = select(MESSAGES.c.mark).where(
    MESSAGES.c.topic == bindparam("b_id"), MESSAGES.c.number == bindparam("b_number")
)
_BY_TOKEN = (
    select(MESSAGES.c.number, MESSAGES.c.mark, MESSAGES.c.payload, TOPICS.c.epoch)
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


@dataclass(frozen=True, slots=True)
class Draft:
    """A message on its way into the log of a topic."""

    namespace: str
    topic: str
    payload: bytes
    token: bytes
    known: Position | None = None
    """A place of the topic that this publisher once had confirmed."""

    @property
    def key(self) -> str:
        return key_of(self.namespace, self.topic)


def append(
    connection: Connection, draft: Draft, retention: Retention, highest: int = _ANY_RANK
) -> Row[Any] | None:
    """Write a message and return the row of its topic; `None` if the topic's rank is above `highest`."""
    now = milliseconds()
    row = _draw(connection, draft, retention, highest, now)
    if row is None:
        make_topic(connection, draft.namespace, draft.topic)
        row = _draw(connection, draft, retention, highest, now)
        if row is None:
            return None
    if draft.known is not None and _has_forgotten(connection, row, draft.known):
        # It is an older copy, in which messages are missing: whoever read them shall learn of it.
        connection.execute(SET.values(epoch=_epoch(draft)), {"b_id": row.id})
        row = connection.execute(_BY_KEY, {"b_key": row.key}).one()
    message = {"topic": row.id, "number": row.number, "mark": row.mark}
    connection.execute(_KEEP, {**message, "token": draft.token.decode(), "payload": draft.payload})
    trim(connection, row, retention, now)
    return row


def publish(
    connection: Connection, draft: Draft, change: Change | None, retention: Retention, again: bool
) -> list[Written]:
    """Write a message to its topic, and with a change to the group too; nothing if the change is refused.

    A message that tells of a part may come with its turn, whose token has a 2 at its end. With `again`, if it
    was written before, nothing is either, and the last that was is returned.
    """
    if again:
        hold_topic(connection, draft.namespace, draft.topic)
        found = _find(connection, draft)
        if found is not None:
            return [found]
    if change is None:
        return _write(connection, draft, None, retention)
    if change.part is None:
        return _write(connection, draft, change, retention, change.rank - change.final)
    topic = hold_topic(connection, draft.namespace, draft.topic)
    if change.refused_by(topic.rank):
        return []
    messages = tally.admit(connection, topic, draft.payload, change, change.part)
    written: list[Written] = []
    for payload, accepted in messages:
        written += _write(connection, replace(draft, payload=payload), accepted, retention)
        draft = replace(draft, token=draft.token + b"2", known=None)
    return written


def _write(
    connection: Connection,
    draft: Draft,
    change: Change | None,
    retention: Retention,
    highest: int = _ANY_RANK,
) -> list[Written]:
    """Write a message to its topic and its group, and apply what it changes, unless the rank is too high."""
    row = append(connection, draft, retention, highest)
    if row is None:
        return []
    written = [_written(row, draft.payload)]
    if change is not None:
        state.apply(connection, row, change, draft.payload)
        of_group = Draft(draft.namespace, change.group, draft.payload, draft.token)
        group = append(connection, of_group, retention)
        assert group is not None, "a group is open to every rank"
        if change.listed:
            state.enlist(connection, group, row)
        written.append(_written(group, draft.payload))
    return written


def make_topic(connection: Connection, namespace: str, name: str) -> None:
    """Make the row of a topic if there is none."""
    row: dict[str, Any] = dict.fromkeys(("number", "mark", "entries"), 0)
    row |= {"key": key_of(namespace, name), "namespace": namespace, "name": name}
    row |= {"epoch": "", "oldest": 1, "swept": 1, "rank": -1, "upkeep": milliseconds()}
    makers: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    maker = makers.get(connection.dialect.name)
    if maker is not None:
        connection.execute(maker(TOPICS).values(row).on_conflict_do_nothing(index_elements=["key"]))
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(TOPICS), row)
    except IntegrityError:
        pass  # another publisher was faster


def _written(row: Row[Any], payload: bytes) -> Written:
    return Written(row.key, Position(row.epoch, row.number, row.mark), payload)


def hold_topic(connection: Connection, namespace: str, name: str) -> Row[Any]:
    """Wait until nobody else writes to the topic, let nobody until the transaction ends; return its row."""
    key = key_of(namespace, name)
    row = _lock(connection, key)
    if row is None:
        make_topic(connection, namespace, name)
        row = _lock(connection, key)
        assert row is not None, "it has just been made"
    return row


def _lock(connection: Connection, key: str) -> Row[Any] | None:
    if connection.dialect.update_returning:
        return connection.execute(_LOCK_RETURNING, {"b_key": key}).first()
    connection.execute(_LOCK, {"b_key": key})
    return connection.execute(_BY_KEY, {"b_key": key}).first()


def _find(connection: Connection, draft: Draft) -> Written | None:
    """Return the message whose publishing is repeated because its answer was lost, or its turn."""
    tokens = [draft.token.decode(), f"{draft.token.decode()}2"]
    row = connection.execute(_BY_TOKEN, {"b_key": draft.key, "b_tokens": tokens}).first()
    if row is None:
        return None
    return Written(draft.key, Position(row.epoch, row.number, row.mark), row.payload)


def _draw(
    connection: Connection, draft: Draft, retention: Retention, highest: int, now: int
) -> Row[Any] | None:
    """Draw the next number of a topic, which locks it until the transaction ends."""
    values = {"b_key": draft.key, "b_highest": highest, "b_now": now}
    values |= {"b_epoch": _epoch(draft), "b_keep": retention.messages}
    if connection.dialect.update_returning:
        return connection.execute(_DRAW_RETURNING, values).first()
    if not connection.execute(_DRAW, values).rowcount:
        return None
    return connection.execute(_BY_KEY, {"b_key": draft.key}).one()


def _epoch(draft: Draft) -> str:
    return draft.token[:8].decode()


def _has_forgotten(connection: Connection, row: Row[Any], known: Position) -> bool:
    """Whether the topic no longer has a message that was confirmed, though it should still be kept."""
    if row.epoch != known.epoch or row.number - 1 == known.number:
        return False
    if row.number <= known.number:
        return True
    mark = connection.scalar(_MARK_OF, {"b_id": row.id, "b_number": known.number})
    return bool(known.number >= row.oldest if mark is None else mark != known.mark)
