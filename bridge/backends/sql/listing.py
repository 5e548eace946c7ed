"""Lists topics and namespaces."""

from sqlalchemy import Connection, select

from bridge.backends.base import TopicNames
from bridge.backends.sql.tables import TOPICS


def topics(connection: Connection, namespace: str, limit: int) -> TopicNames:
    """Return names of topics of the namespace."""
    found = select(TOPICS.c.name).where(TOPICS.c.namespace == namespace, TOPICS.c.number > 0)
    names = list(connection.scalars(found.order_by(TOPICS.c.name).limit(limit + 1)))
    return TopicNames(names[:limit], len(names) <= limit)


def namespaces(connection: Connection, topic: str) -> list[str]:
    """Return the namespaces that have `topic`."""
    found = select(TOPICS.c.namespace).where(TOPICS.c.name == topic, TOPICS.c.number > 0)
    return sorted(connection.scalars(found.distinct()))
