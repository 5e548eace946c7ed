"""Publishes to PostgreSQL so that a topic which another transaction holds delays no other topic.

A batch skips such topics, and publishes all others first. Then it waits for each of them for a moment. Those
that are still held are returned: the caller publishes to them later.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

# `Any` in this module: psycopg's connections are generic in the type of a row.
from typing import Any

import psycopg
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bridge.backends.base import TopicsHeld
from bridge.backends.sql import postgres_batch
from bridge.backends.sql.batch import Batch, Written
from bridge.backends.sql.held import Held
from bridge.backends.sql.postgres_batch import SKIPPING, WAITING, Locked, soon
from bridge.backends.sql.publishing import Transaction, has_forgotten, is_doubtful, publish
from bridge.backends.sql.retention import BATCH, is_to_be_measured, needs_trim
from bridge.backends.sql.tables import key_of
from bridge.backends.sql.topics import hold_topics
from bridge.backends.sql.writing import trim_free
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention

ATTEMPTS = 5
"""How often topics are created and locked, if others create or remove them at the same time."""

PATIENCE = 0.5
"""Seconds that one batch waits for all topics together that others hold."""


@dataclass(slots=True)
class Job:
    """One call that publishes: what it has written, and the topics that others hold."""

    engine: Engine
    namespace: str
    retention: Retention
    known: Mapping[str, Position]
    announce: Callable[[Connection, Sequence[Written]], None]
    written: list[Written] = field(default_factory=list)
    held: set[str] = field(default_factory=set)

    def publish(self, publications: Sequence[Publication]) -> None:
        """Publish everything. Waits for topics that others hold, as long as a statement may take."""
        for some, write in self._ways(publications):
            held = write(some, WAITING)
            if held:
                raise TopicsHeld(f"others create and remove {', '.join(sorted(held))}", frozenset(held))

    def publish_free(self, publications: Sequence[Publication]) -> None:
        """Publish everything, but nothing of the topics that others hold for longer than a moment."""
        late: set[str] = set()
        for some, write in self._ways(publications):
            late |= self._try(some, write, SKIPPING)
        deadline = time.monotonic() + PATIENCE
        for topic in sorted(late):
            some = [publication for publication in publications if publication.topic == topic]
            for same, write in self._ways(some):
                self.held |= self._try(same, write, soon(deadline - time.monotonic()))

    def _try(self, publications: Sequence[Publication], write: "Write", how: str) -> set[str]:
        """Publish; return the topics that others hold."""
        try:
            return write(publications, how)
        except DBAPIError as error:
            if not isinstance(error.orig, (LockNotAvailable, DeadlockDetected)):
                raise
            return {publication.topic for publication in publications}

    def _ways(self, publications: Sequence[Publication]) -> Iterator[tuple[list[Publication], "Write"]]:
        """Yield the publications with the way to write them. Those of one topic have one way.

        What is repeated, parts of a canvas, and changes of a group itself are rare. They have to read more.
        """
        groups = _groups_of(publications)
        rare = {
            publication.topic
            for publication in publications
            if publication.repeated
            or publication.part is not None
            or (publication.change is not None and publication.topic in groups)
        }
        for is_rare, write in ((False, self._write), (True, self._write_rare)):
            some = [publication for publication in publications if (publication.topic in rare) == is_rare]
            if some:
                yield some, write

    def _write_rare(self, publications: Sequence[Publication], how: str) -> set[str]:
        with self.engine.begin() as connection:
            if how != WAITING:
                connection.execute(text(soon(PATIENCE) if how == SKIPPING else how))
            transaction = Transaction(connection, self.namespace, self.retention, hold_topics)
            written = publish(transaction, publications, self.known)
            self.announce(connection, written)
        self.written += written
        return set()

    def _write(self, publications: Sequence[Publication], how: str) -> set[str]:
        plain = set() if how == WAITING else self._plain_topics(publications)
        names = {publication.topic for publication in publications} - plain
        with self._driver() as driver:
            topics = self._lock(driver, names, _groups_of(publications) | plain, how).topics
            batch = Batch(self.retention, topics)
            self._find_forgotten(driver, topics)
            for publication in publications:
                if publication.topic in plain:
                    batch.add_unlocked(publication)
                elif publication.topic in topics:
                    batch.add(publication)
            groups = (
                postgres_batch.write(driver, batch, self.namespace) if batch.copies or batch.messages else []
            )
        self.written += batch.written
        self._trim(batch, groups)
        return names - topics.keys()

    def _plain_topics(self, publications: Sequence[Publication]) -> set[str]:
        """Return the topics, such as feeds, whose messages the server may number itself.

        Of the others this process knows a position, which it compares, or a message changes their state.
        """
        plain = {publication.topic for publication in publications if publication.change is None}
        changed = {publication.topic for publication in publications if publication.change is not None}
        return plain - changed - (self.known.keys() - _groups_of(publications))

    def _lock(self, driver: psycopg.Connection[Any], names: Set[str], groups: Set[str], how: str) -> Locked:
        """Lock topics, after creating those that are missing.

        One that others create meanwhile is not seen by the statement that locks, so it is tried again.
        """
        attempts = 2 if how == SKIPPING else ATTEMPTS
        for left in reversed(range(attempts)):
            locked = postgres_batch.lock(driver, self.namespace, names, groups, how)
            complete = not locked.missing and (how == SKIPPING or names <= locked.topics.keys())
            if complete or not left:
                break
            if locked.missing:
                self._make(driver, locked.missing, soon(PATIENCE / 5) if how == SKIPPING else how)
            else:
                driver.rollback()
        return locked

    def _make(self, driver: psycopg.Connection[Any], names: Collection[str], how: str) -> None:
        """Create topics. Those that others are creating in a long transaction are left out."""
        try:
            postgres_batch.make_topics(driver, self.namespace, names, how)
        except LockNotAvailable:
            driver.rollback()
            if len(names) > 1:
                for name in names:
                    self._make(driver, [name], soon(0))

    def _find_forgotten(self, driver: psycopg.Connection[Any], topics: Mapping[str, Held]) -> None:
        doubtful = {name: place for name, place in self.known.items() if is_doubtful(topics.get(name), place)}
        if not doubtful:
            return
        places = [(topics[name].id, place.number) for name, place in doubtful.items()]
        marks = postgres_batch.marks_at(driver, places)
        for (name, place), at in zip(doubtful.items(), places, strict=True):
            topics[name].has_forgotten = has_forgotten(topics[name], place, marks.get(at))

    def _trim(self, batch: Batch, groups: Sequence[Held]) -> None:
        """Remove what is older than the retention, in transactions of their own. Publishing comes first."""
        due = [topic for topic in batch.changed if needs_trim(topic, batch.retention, batch.now)]
        most_bytes = batch.retention.bytes
        measured = {
            key_of(self.namespace, name)
            for name, copies in batch.copies.items()
            if any(is_to_be_measured(len(copy.payload), most_bytes) for copy in copies)
        }
        for group in groups:
            group.measured |= group.key in measured
        due_groups = [group for group in groups if needs_trim(group, batch.retention, batch.now)]
        most = max(BATCH, 4 * len(batch.messages))
        for topics in (due, *([group] for group in due_groups)):
            if topics:
                with suppress(SQLAlchemyError), self.engine.begin() as connection:
                    connection.execute(text("SET LOCAL synchronous_commit = off"))
                    trim_free(connection, topics, batch.retention, batch.now, most)

    @contextmanager
    def _driver(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection of psycopg, and translate its errors as SQLAlchemy does."""
        with self.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            try:
                yield driver
                if driver.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    driver.rollback()
            except psycopg.Error as error:
                lost = bool(driver.closed)
                if lost:
                    # The other connections of the pool may be lost too.
                    connection.invalidate(error)
                    self.engine.dispose()
                raise DBAPIError.instance(
                    "", None, error, psycopg.Error, connection_invalidated=lost
                ) from error


Write = Callable[[Sequence[Publication], str], set[str]]


def _groups_of(publications: Sequence[Publication]) -> set[str]:
    changes = [publication.change for publication in publications if publication.change is not None]
    return {group.topic for change in changes for group in change.groups}
