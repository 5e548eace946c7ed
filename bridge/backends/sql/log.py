"""Writing, within a transaction of the caller: a message, what it changes, and what is kept no longer."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from bridge.backends.sql.retention import FEW, SET, milliseconds, trim
from bridge.backends.sql.tables import ENTRIES, FIELDS, MEMBERS, MESSAGES, TOPICS, key_of
from bridge.position import Position
from bridge.state import MAX_ENTRIES, Change, Retention

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
_KEEP = insert(MESSAGES).inline()
_MARK_OF = select(MESSAGES.c.mark).where(
    MESSAGES.c.topic == bindparam("b_id"), MESSAGES.c.number == bindparam("b_number")
)
_BY_TOKEN = (
    select(MESSAGES.c.number, MESSAGES.c.mark, TOPICS.c.epoch)
    .join(TOPICS, TOPICS.c.id == MESSAGES.c.topic)
    .where(
        TOPICS.c.key == bindparam("b_key"),
        MESSAGES.c.number > TOPICS.c.number - LOOK_BACK,
        MESSAGES.c.token == bindparam("b_token"),
    )
)
_ENLIST = insert(MEMBERS).from_select(
    ["of_group", "topic"],
    select(bindparam("b_group", type_=TOPICS.c.id.type), TOPICS.c.id).where(
        TOPICS.c.id == bindparam("b_topic"),
        ~exists().where(
            MEMBERS.c.of_group == bindparam("b_group", type_=TOPICS.c.id.type),
            MEMBERS.c.topic == bindparam("b_topic"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Written:
    """A message and where it was written."""

    key: str
    position: Position
    payload: bytes


@dataclass(frozen=True, slots=True)
class Letter:
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
    connection: Connection, letter: Letter, retention: Retention, highest: int = _ANY_RANK
) -> Row[Any] | None:
    """Write a message and return the row of its topic; `None` if the topic's rank is above `highest`."""
    now = milliseconds()
    row = _draw(connection, letter, retention, highest, now)
    if row is None:
        make_topic(connection, letter.namespace, letter.topic)
        row = _draw(connection, letter, retention, highest, now)
        if row is None:
            return None
    if letter.known is not None and _has_forgotten(connection, row, letter.known):
        # It is an older copy, in which messages are missing: whoever read them shall learn of it.
        connection.execute(SET.values(epoch=_epoch(letter)), {"b_id": row.id})
        row = connection.execute(_BY_KEY, {"b_key": row.key}).one()
    message = {"topic": row.id, "number": row.number, "mark": row.mark}
    connection.execute(_KEEP, {**message, "token": letter.token.decode(), "payload": letter.payload})
    trim(connection, row, retention, now)
    return row


def publish(
    connection: Connection, letter: Letter, change: Change | None, retention: Retention, again: bool
) -> list[Written]:
    """Write a message to its topic, and with a change to the group too; nothing if the change is refused.

    With `again`, if it was written before, nothing is either, and that is returned.
    """
    if again:
        lock_topic(connection, letter.key)
        found = _find(connection, letter)
        if found is not None:
            return [found]
    highest = _ANY_RANK if change is None else change.rank - change.final
    row = append(connection, letter, retention, highest)
    if row is None:
        return []
    written = [_written(row, letter.payload)]
    if change is not None:
        apply(connection, row, change, letter.payload)
        group = append(
            connection, Letter(letter.namespace, change.group, letter.payload, letter.token), retention
        )
        assert group is not None, "a group is open to every rank"
        connection.execute(_ENLIST, {"b_group": group.id, "b_topic": row.id})
        written.append(_written(group, letter.payload))
    return written


def apply(connection: Connection, row: Row[Any], change: Change, payload: bytes) -> None:
    """Move the state of a topic, whose row is locked, on."""
    if change.fields:
        names = FIELDS.c.name.in_(list(change.fields))
        connection.execute(delete(FIELDS).where(FIELDS.c.topic == row.id, names))
        fields = [{"topic": row.id, "name": name, "value": value} for name, value in change.fields.items()]
        connection.execute(insert(FIELDS), fields)
    entries = row.entries + change.entry
    if change.entry:
        connection.execute(insert(ENTRIES), {"topic": row.id, "number": entries, "payload": payload})
        if entries > MAX_ENTRIES and entries % FEW == 0:
            old = (ENTRIES.c.topic == row.id, ENTRIES.c.number <= entries - MAX_ENTRIES)
            connection.execute(delete(ENTRIES).where(*old))
    if change.rank != row.rank or change.entry:
        connection.execute(SET.values(rank=change.rank, entries=entries), {"b_id": row.id})


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


def lock_topic(connection: Connection, key: str) -> None:
    """Wait until nobody else writes to the topic, and let nobody until the transaction ends."""
    connection.execute(_LOCK, {"b_key": key})


def _find(connection: Connection, letter: Letter) -> Written | None:
    """Return the place of a message whose publishing is repeated because its answer was lost."""
    found = {"b_key": letter.key, "b_token": letter.token.decode()}
    row = connection.execute(_BY_TOKEN, found).first()
    if row is None:
        return None
    return Written(letter.key, Position(row.epoch, row.number, row.mark), letter.payload)


def _draw(
    connection: Connection, letter: Letter, retention: Retention, highest: int, now: int
) -> Row[Any] | None:
    """Draw the next number of a topic, which locks it until the transaction ends."""
    values = {"b_key": letter.key, "b_highest": highest, "b_now": now}
    values |= {"b_epoch": _epoch(letter), "b_keep": retention.messages}
    if connection.dialect.update_returning:
        return connection.execute(_DRAW_RETURNING, values).first()
    if not connection.execute(_DRAW, values).rowcount:
        return None
    return connection.execute(_BY_KEY, {"b_key": letter.key}).one()


def _epoch(letter: Letter) -> str:
    return letter.token[:8].decode()


def _has_forgotten(connection: Connection, row: Row[Any], known: Position) -> bool:
    """Whether the topic no longer has a message that was confirmed, though it should still be kept."""
    if row.epoch != known.epoch or row.number - 1 == known.number:
        return False
    if row.number <= known.number:
        return True
    mark = connection.scalar(_MARK_OF, {"b_id": row.id, "b_number": known.number})
    return bool(known.number >= row.oldest if mark is None else mark != known.mark)
