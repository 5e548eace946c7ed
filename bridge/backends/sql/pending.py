"""Messages for groups that wait until a caller's transaction has ended.

Every task publishes to the feed. A caller's transaction may take long, so it does not lock the feed, nor the
feed of a tag. It writes its messages for them to `bridge_pending`. When it has been committed, whoever locks
such a group next appends them: a publisher, or a process that reads the group.

A reader takes what it sees and removes it, so what is committed late is not missed, and nothing comes twice.
The transaction that publishes has the topic of its message locked. So of one topic, the rows become visible
in the order of their ids, and before the next publisher of that topic locks a group.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select

from bridge.backends.sql.batch import Copy
from bridge.backends.sql.tables import PENDING, key_of
from bridge.model.counts import parse_counts

_ADD = insert(PENDING)
_OF_GROUPS = (
    select(PENDING)
    .where(PENDING.c.of_group.in_(bindparam("b_groups", expanding=True)))
    .order_by(PENDING.c.id)
)
_REMOVE = delete(PENDING).where(PENDING.c.id.in_(bindparam("b_ids", expanding=True)))
_NAMES = select(PENDING.c.name).distinct().where(PENDING.c.namespace == bindparam("b_namespace"))


def is_used(connection: Connection) -> bool:
    """Return whether messages may wait in this database: only on PostgreSQL are the readers told of them."""
    return connection.dialect.name == "postgresql"


def defer(connection: Connection, namespace: str, copies: Mapping[str, Sequence[Copy]]) -> None:
    """Keep messages for groups, by the names of these, until the transaction ends."""
    rows = [
        {
            "of_group": key_of(namespace, group),
            "namespace": namespace,
            "name": group,
            "topic": copy.topic,
            "listed": int(copy.listed),
            "token": copy.token,
            "payload": copy.payload,
            "kind": copy.type,
            "counts": None if copy.counts is None else str(copy.counts),
        }
        for group, of_group in copies.items()
        for copy in of_group
    ]
    if rows:
        connection.execute(_ADD, rows)


def take_pending(connection: Connection, groups: Sequence[str]) -> dict[str, list[Copy]]:
    """Remove and return what waits for groups that are locked, by their keys."""
    found: dict[str, list[Copy]] = {}
    if not groups or not is_used(connection):
        return found
    rows = connection.execute(_OF_GROUPS, {"b_groups": groups}).all()
    for row in rows:
        copy = Copy(row.topic, bool(row.listed), row.token, row.payload, row.kind, parse_counts(row.counts))
        found.setdefault(row.of_group, []).append(copy)
    if rows:
        connection.execute(_REMOVE, {"b_ids": [row.id for row in rows]})
    return found


def names_with_some(connection: Connection, namespace: str) -> set[str]:
    """Return the names of the groups for which something waits."""
    return set(connection.scalars(_NAMES, {"b_namespace": namespace}))
