"""The publishing side. One step for the caller is one transaction."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bridge.backends.base import Listed, States, TopicNames, TopicsHeld
from bridge.backends.sql import durable, listing, reading, reading_listed, reading_states
from bridge.backends.sql.batch import Written
from bridge.backends.sql.database import Database
from bridge.backends.sql.listener import SqlListener
from bridge.backends.sql.publishing import Transaction, publish
from bridge.backends.sql.retention import renew, sweep
from bridge.backends.sql.tables import key_of
from bridge.backends.sql.topics import hold_topics
from bridge.backends.sql.writing import remove_fields
from bridge.errors import ConfigurationError, ConnectionLost, PublishError
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import END, Retention
from bridge.support.fork import reset_in_child
from bridge.support.recent import Recent

MAX_KNOWN = 1000
"""The topics whose last confirmed position is remembered: those published to most recently."""

SWEEPS = 10
"""The most transactions that remove expired topics one after another."""

TOGETHER = 200
"""Messages published in one transaction. Other publishers of their topics wait for it."""


class SqlBackend:
    """Keeps messages in the tables of a database."""

    replays = True

    def __init__(self, database: Database, namespace: str, retention: Retention) -> None:
        self._database = database
        self._namespace = namespace
        self._retention = retention
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self._lock = threading.Lock()  # Guards _known.
        self._known: Recent[str, Position] = Recent(MAX_KNOWN)
        self._sweeping = threading.Lock()  # Held by the thread that removes expired topics.
        self._sweep_at = time.monotonic()

    def publish(self, publication: Publication) -> Position | None:
        written = self._write([publication])
        self._sweep()
        return self._place(publication.topic, written)

    def publish_many(self, publications: Sequence[Publication]) -> int:
        written, held = 0, set[str]()
        for start in range(0, len(publications), TOGETHER):
            together = [
                publication
                for publication in publications[start : start + TOGETHER]
                if publication.topic not in held
            ]
            try:
                self._write(together, held)
            except PublishError:
                if not written or held:
                    raise
                break
            written += len(together)
        self._sweep()
        if held:
            raise TopicsHeld(f"{self._database.address}: others hold {len(held)} topics", frozenset(held))
        return written

    def _write(self, publications: Sequence[Publication], held: set[str] | None = None) -> list[Written]:
        """Publish in one step. With `held`, leaves out topics that others hold, and adds them to it."""
        with self._database.errors(PublishError, "did not take the message"):
            try:
                return self._write_once(publications, held)
            except DBAPIError as error:
                if not self._database.recover(error):
                    raise
                for publication in publications:
                    publication.repeated = True
                return self._write_once(publications, held)

    def _write_once(self, publications: Sequence[Publication], held: set[str] | None) -> list[Written]:
        self._database.prepare()
        topics = {publication.topic for publication in publications}
        known = {topic: place for topic in topics if (place := self._known.get(topic)) is not None}
        written = self._database.publish(self._namespace, self._retention, publications, known, held)
        self._database.published(written)
        places = {message.key: message.position for message in written}
        for topic in topics:
            position = places.get(key_of(self._namespace, topic))
            if position is not None:
                self._confirm(topic, position)
        return written

    def _place(self, topic: str, written: Sequence[Written]) -> Position | None:
        """Return the position of the last written message of `topic`, or `None`."""
        key = key_of(self._namespace, topic)
        return next((message.position for message in reversed(written) if message.key == key), None)

    def publish_within(self, connection: object, publication: Publication) -> Position | None:
        """Publish in the transaction of `connection`, which the caller commits or rolls back."""
        dialect = self._database.engine.dialect.name
        if not isinstance(connection, Connection) or connection.dialect.name != dialect:
            raise ConfigurationError(
                f"connection must be a SQLAlchemy Connection to {self._database.address} "
                f"(of a Session: session.connection()), not {connection!r}"
            )
        with self._database.errors(PublishError, "did not take the message"):
            self._database.prepare()
            defers = self._database.defers
            transaction = Transaction(connection, self._namespace, self._retention, hold_topics, defers)
            written = publish(transaction, [publication], {})
            self._database.announce(connection, written, self._groups_of(publication) if defers else ())
        return self._place(publication.topic, written)

    def _groups_of(self, publication: Publication) -> list[str]:
        """Return the keys of the groups that a publication goes to."""
        groups = () if publication.change is None else publication.change.groups
        return [key_of(self._namespace, group.topic) for group in groups]

    def _confirm(self, topic: str, position: Position) -> None:
        """Remember the position of a confirmed message. A database without it has lost messages."""
        with self._lock:
            known = self._known.get(topic, position)
            self._known[topic] = max(known, position) if known.epoch == position.epoch else position

    def _sweep(self) -> None:
        """Remove some expired topics from time to time. It is called after a publish."""
        if time.monotonic() < self._sweep_at or not self._sweeping.acquire(blocking=False):
            return
        try:
            with suppress(SQLAlchemyError):  # The next publish tries again.
                for _ in range(SWEEPS):
                    with self._database.writing() as connection:
                        more = sweep(connection, self._namespace, self._retention)
                    if not more:
                        with self._database.reading() as connection:
                            self._database.publish_pending(connection, self._namespace, self._retention)
                        self._sweep_at = time.monotonic() + max(1.0, self._retention.seconds / 64)
                        return
                self._sweep_at = time.monotonic() + 0.1
        finally:
            self._sweeping.release()

    def history(self, topic: str, limit: int) -> list[Message]:
        key = key_of(self._namespace, topic)
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.reading() as connection:
                head = reading.heads(connection, [key]).get(key, reading.NOWHERE)
                first = head.position.number - limit + 1
                return reading.messages(connection, topic, head, first, limit)

    def acknowledged(self, topic: str, name: str) -> Position:
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.writing() as connection:
                return durable.place(connection, self._namespace, topic, name)

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        with self._database.errors(PublishError, "did not take the acknowledgement"):
            self._database.prepare()
            with self._database.writing() as connection:
                durable.move(connection, self._namespace, topic, name, position, back=back)

    def renew(self, topics: Sequence[str]) -> None:
        keys = [key_of(self._namespace, topic) for topic in topics]
        with self._database.errors(PublishError, "did not renew what it keeps"):
            self._database.prepare()
            for start in range(0, len(keys), reading.MANY):
                with self._database.writing() as connection:
                    renew(connection, keys[start : start + reading.MANY], END - 1)

    def states(self, topic: str, after: str | None = None) -> States:
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.reading() as connection:
                return reading_states.states(connection, topic, key_of(self._namespace, topic), after)

    def listed(self, group: str, before: str | None, limit: int) -> Listed:
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.reading() as connection:
                return reading_listed.listed(connection, key_of(self._namespace, group), before, limit)

    def count_listed(self, group: str) -> int:
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.reading() as connection:
                return reading_listed.count(connection, key_of(self._namespace, group))

    def field(self, topic: str, name: str) -> bytes | None:
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.reading() as connection:
                return reading_states.field(connection, key_of(self._namespace, topic), name)

    def remove_fields(self, topic: str, names: Sequence[str]) -> None:
        with self._database.errors(PublishError, "did not remove what it keeps"):
            self._database.prepare()
            with self._database.writing() as connection:
                remove_fields(connection, key_of(self._namespace, topic), names)

    def topics(self, limit: int) -> TopicNames:
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.reading() as connection:
                return listing.topics(connection, self._namespace, limit)

    def namespaces(self, topic: str) -> list[str]:
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.reading() as connection:
                return listing.namespaces(connection, topic)

    def ping(self) -> None:
        with self._database.errors(ConnectionLost, "did not answer"):
            self._database.prepare()
            with self._database.reading() as connection:
                connection.scalar(select(1))

    def migrate(self) -> str:
        with self._database.errors(ConnectionLost, "could not be migrated"):
            return self._database.migrate()

    def open_listener(self) -> SqlListener:
        with self._database.errors(ConnectionLost, "cannot be reached"):
            self._database.prepare()
            return SqlListener(self._database, self._namespace, self._retention)

    def close(self) -> None:
        self._database.close()
