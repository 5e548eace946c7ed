"""The SQL backends: what only a database promises, and what it refuses."""

import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from select import select as select_ready
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, func, select, text

import bridge
from bridge import cli
from bridge.backends.sql import listener as reader
from bridge.backends.sql import reading, retention, schema, tables
from bridge.backends.sql.file import File, FileWatch
from bridge.backends.sql.reading import LATEST
from bridge.channel.transport import transport_of
from bridge.model import state
from bridge.model.publication import Publication
from bridge.model.state import MAX_LINES
from bridge.support.tokens import new_token
from bridge.tasks import canvas as wholes
from bridge.tasks import events
from tests.channel.test_contract import drain
from tests.channel.test_replay import publish, received
from tests.conftest import Connect
from tests.publications import repeated
from tests.servers import Postgres, eventually, free_port

SQL = ("sqlite", "postgresql", "sql+postgresql")
sql = pytest.mark.parametrize("url", SQL, indirect=True)
sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def engine_of(url: str) -> Engine:
    return create_engine(url.removeprefix("sql+").replace("postgresql://", "postgresql+psycopg://"))


@pytest.fixture
def database(url: str) -> Iterator[Engine]:
    """The application's own way to the database of the channel."""
    engine = engine_of(url)
    yield engine
    engine.dispose()


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


def rows(engine: Engine, table: Any, topic: str, namespace: str) -> int:
    """How many rows of `table` a topic has."""
    key = tables.key_of(namespace, topic)
    of_topic = select(tables.TOPICS.c.id).where(tables.TOPICS.c.key == key).scalar_subquery()
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).where(table.c.topic == of_topic)) or 0


@pytest.mark.parametrize("url", ["postgresql", "sql+postgresql"], indirect=True)
def test_a_transaction_that_commits_late_is_never_skipped(connect: Connect, database: Engine) -> None:
    """While one who drew a number has not committed the next waits, so no reader passes a number by."""
    topic = connect().topic("orders")
    connect().topic("others").publish(b"makes the tables")
    with topic.subscribe() as subscription, ThreadPoolExecutor() as pool, database.connect() as late:
        first = topic.publish(b"late", connection=late)
        second = pool.submit(connect().topic("orders").publish, b"early")
        connect().topic("others").publish(b"a topic of its own is not held up")
        assert subscription.receive(timeout=0.3) is None
        assert not second.done()
        late.commit()
        assert [subscription.receive(timeout=5) for _ in range(2)] == [b"late", b"early"]
        assert [message.id for message in topic.history()] == [first, second.result(5)]


@sql
def test_a_message_exists_if_and_only_if_the_transaction_does(connect: Connect, database: Engine) -> None:
    """With connection= message, state and feed come with the caller's data, or not at all."""
    channel: Any = connect()
    topic = channel.topic("orders")
    task = bridge.task_topic("t1")
    transport_of(channel).backend.ping()
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS sales (n INTEGER)"))
    with topic.subscribe() as subscription, channel.topic(bridge.FEED).subscribe() as feed:
        for number, kept in enumerate((True, False, True, False)):
            with database.connect() as connection:
                connection.execute(text("INSERT INTO sales VALUES (1)"))
                message_id = topic.publish(b"%d" % number, connection=connection)
                event = events.make("log", "t1", level="info", message=str(number))
                transport_of(channel).publish(event, connection=connection)
                connection.commit() if kept else connection.rollback()
            if kept:
                message = subscription.receive(timeout=5)
                assert message is not None
                assert (message, message.id) == (b"%d" % number, message_id)
        assert [message[-2:-1] for message in channel.topic(task).history()] == [b'"', b'"']
        topic.publish(b"end")
        channel.topic(bridge.FEED).publish(b"end")
        assert drain(subscription, b"end") == []
        assert len(drain(feed, b"end")) == 2
    entries = transport_of(channel).states(task)[0].entries
    assert [events.decode(entry)["message"] for entry in entries] == ["0", "2"]  # type: ignore[index]


@sql
def test_a_refused_change_leaves_the_transaction_of_the_caller_alone(
    connect: Connect, database: Engine
) -> None:
    """What comes after a task's end is not published, and the caller can go on and commit."""
    channel: Any = connect()
    task = bridge.task_topic("t1")
    transport_of(channel).publish(events.make("state", "t1", state="SUCCESS"))
    with database.connect() as connection:
        assert (
            transport_of(channel).publish(events.make("progress", "t1", current=1), connection=connection)
            is None
        )
        assert channel.topic("orders").publish(b"after", connection=connection)
        connection.commit()
    assert channel.topic("orders").history() == [b"after"]
    assert len(channel.topic(task).history()) == 1


def test_what_is_no_connection_to_the_database_is_refused(tmp_path: Path) -> None:
    """connection= takes a SQLAlchemy connection to such a database; elsewhere it is refused."""
    with bridge.connect(f"sqlite:///{tmp_path}/bridge.db") as channel:
        for wrong in ("sqlite://", object(), create_engine("sqlite://")):
            with pytest.raises(bridge.ConfigurationError, match=r"session\.connection"):
                channel.topic("orders").publish(b"one", connection=wrong)
    for url in ("memory://", "redis://localhost", "redis+pubsub://localhost"):
        with (
            bridge.connect(url) as channel,
            pytest.raises(bridge.ConfigurationError, match="needs a database"),
        ):
            channel.topic("orders").publish(b"one", connection=object())


@sql
def test_trimming_is_exact_and_deletes_in_small_batches(
    connect: Connect, namespace: str, database: Engine
) -> None:
    """A lower bound holds at once for who reads, while rows are deleted a few with each message."""
    publish(connect(namespace=namespace).topic("orders"), *range(1500))
    strict = connect(namespace=namespace, retention_messages=10).topic("orders")
    publish(strict, 1500)
    assert [int(message) for message in strict.history(limit=100)] == list(range(1491, 1501))
    with strict.subscribe(after=bridge.BEGINNING) as subscription:
        assert received(subscription, 10) == list(range(1491, 1501))
    assert rows(database, tables.MESSAGES, "orders", namespace) == 1501 - retention.BATCH
    publish(strict, *range(1501, 1510))
    assert 10 <= rows(database, tables.MESSAGES, "orders", namespace) <= 10 + 64


@sql
def test_topics_that_nobody_uses_are_forgotten(
    connect: Connect, namespace: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After retention a topic leaves no row behind, unless it is read or has a durable reader."""
    monkeypatch.setattr(state, "UNENDED_SECONDS", 1.0)
    monkeypatch.setattr(reader, "COMPARE_EVERY", 0.1)
    channel: Any = connect(namespace=namespace, retention_seconds=1)
    task = bridge.task_topic("t1")
    transport_of(channel).publish(events.make("log", "t1", level="info", message="hello"))
    publish(channel.topic("durable"), 1)
    channel.topic("durable").subscribe(durable="indexer").close()
    publish(channel.topic("read"), *range(300))
    publish(channel.topic("long"), *range(600))
    whole = bridge.task_topic("whole:w")
    transport_of(channel).publish(wholes.make("whole:w", 2, "a", "STARTED"))
    of_whole = (tables.TALLIES, tables.PARTS, tables.LINES)
    assert [rows(database, table, whole, namespace) for table in of_whole] == [1, 1, 1]
    of_topic = (tables.MESSAGES, tables.ENTRIES, tables.FIELDS)
    gone = [(table, name) for name in (task, whole, "long") for table in (*of_topic, *of_whole)]
    with channel.topic("read").subscribe() as subscription:

        def forgotten() -> bool:
            publish(channel.topic("busy"), 1)
            return not any(rows(database, table, name, namespace) for table, name in gone)

        eventually(forgotten, within=20)
        assert transport_of(channel).states(task) == []
        publish(channel.topic("read"), 7)
        assert received(subscription, 1) == [7]
    publish(channel.topic("durable"), 2)
    with channel.topic("durable").subscribe(durable="indexer") as subscription:
        assert received(subscription, 1) == [2]


@sql
def test_any_name_and_any_bytes_round_trip(connect: Connect) -> None:
    """Names that only differ in case, accents or spaces are apart, everywhere a name goes."""
    names = [
        "x",
        "X",
        "x ",
        " x",
        "é",
        "e\u0301",
        "ß",
        "ss",
        "語" * 255,
        "😀" * 255,
        "a'b\"c%d:e\\",
        "\ufeff",
    ]
    channel = connect(namespace=uuid.uuid4().hex + "語 " * 100)
    payload = bytes(range(256)) * 3 + b"\0"
    for number, name in enumerate(names):
        channel.topic(name).subscribe(durable=name).close()
        channel.topic(name).publish(payload + b"%d" % number)
    for number, name in enumerate(names):
        with channel.topic(name).subscribe(durable=name) as subscription:
            message = subscription.receive(timeout=5)
            assert message == payload + b"%d" % number
            assert message.topic == name
        assert channel.topic(name).history() == [payload + b"%d" % number]


@sql
def test_an_older_copy_is_a_lost_position(connect: Connect, namespace: str, database: Engine) -> None:
    """A database put back to an earlier state draws a new epoch as soon as a publisher misses its message."""
    channel = connect(namespace=namespace)
    topic = channel.topic("orders")
    ids = publish(topic, *range(10))
    key = tables.key_of(namespace, "orders")
    with database.begin() as connection:
        row = connection.execute(select(tables.TOPICS).where(tables.TOPICS.c.key == key)).one()
        connection.execute(tables.TOPICS.update().where(tables.TOPICS.c.id == row.id).values(number=5))
        newer = (tables.MESSAGES.c.topic == row.id, tables.MESSAGES.c.number > 5)
        connection.execute(tables.MESSAGES.delete().where(*newer))
    publish(topic, *range(20))
    for message_id in (ids[0], ids[4], ids[9]):
        with pytest.raises(bridge.PositionLost):
            topic.subscribe(after=message_id)


@sql
def test_dropped_tables_are_made_again_and_told(connect: Connect, url: str, request: Any) -> None:
    """Whoever read gets PositionLost, and publishing goes on; also if it was all the tables."""
    if "postgresql" in url:
        url = request.getfixturevalue("own_postgres").url(scheme=url.partition("://")[0])
    engine = engine_of(url)
    channel = bridge.connect(url)
    topic = channel.topic("orders")
    with topic.subscribe() as subscription:
        publish(topic, 1)
        assert received(subscription, 1) == [1]
        tables.METADATA.drop_all(engine)
        (again,) = publish(topic, 2)
        with pytest.raises(bridge.PositionLost):
            subscription.receive(timeout=20)
    assert [message.id for message in topic.history()] == [again]
    channel.close()
    engine.dispose()


def test_another_file_of_that_name_is_a_lost_position(tmp_path: Path) -> None:
    """A file that was removed, or replaced by an older copy, is noticed by readers and publishers."""
    file = tmp_path / "bridge.db"
    for replaced in (False, True):
        channel = bridge.connect(f"sqlite:///{file}")
        topic = channel.topic("orders")
        with topic.subscribe() as subscription:
            publish(topic, 1)
            if replaced:
                with sqlite3.connect(file) as source, sqlite3.connect(tmp_path / "copy") as copy:
                    source.backup(copy)
                copy.close()
                source.close()
            publish(topic, 2)
            assert received(subscription, 2) == [1, 2]
            for part in tmp_path.glob("bridge.db*"):
                part.unlink()
            if replaced:
                (tmp_path / "copy").rename(file)
            publish(topic, 3, 4)
            with pytest.raises(bridge.PositionLost):
                subscription.receive(timeout=20)
        assert [int(message) for message in topic.history()][-2:] == [3, 4]
        channel.close()


@sql
@pytest.mark.parametrize("version", [0, 2])
def test_tables_of_another_version_are_refused(url: str, request: Any, version: int) -> None:
    """At each use older tables ask for `bridge migrate`, and newer ones for a newer package."""
    if "postgresql" in url:
        url = request.getfixturevalue("own_postgres").url(scheme=url.partition("://")[0])
    engine = engine_of(url)
    with bridge.connect(url) as channel:
        channel.topic("orders").publish(b"one")
    with engine.begin() as connection:
        connection.execute(tables.SCHEMA.update().values(version=version))
    says = f"schema version {version}.*(bridge migrate|upgrade celery-event-bridge)"
    with bridge.connect(url) as channel:
        topic = channel.topic("orders")
        uses: list[Callable[[], object]] = [
            lambda: topic.publish(b"one"),
            topic.subscribe,
            topic.history,
            transport_of(channel).backend.ping,
            lambda: topic.subscribe(durable="indexer"),
        ]
        for use in uses:
            with pytest.raises(bridge.ConfigurationError, match=says):
                use()
    engine.dispose()


@sql
def test_migrate_makes_and_updates_tables(
    url: str, request: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bridge migrate URL` makes the tables, changes nothing a second time, and leads from older to newer."""
    if "postgresql" in url:
        url = request.getfixturevalue("own_postgres").url(scheme=url.partition("://")[0])
    for _ in range(2):
        assert cli.main(["migrate", url]) == 0
        assert "schema version 1" in capsys.readouterr().out
    with bridge.connect(url) as channel:
        channel.topic("orders").publish(b"one")
        monkeypatch.setattr(schema, "VERSION", 2)
        assert cli.main(["migrate", url]) == 1
        assert "no way leads from schema version 1" in capsys.readouterr().err
        monkeypatch.setattr(schema, "STEPS", {1: ("ALTER TABLE bridge_topic ADD COLUMN note VARCHAR(10)",)})
        assert cli.main(["migrate", url]) == 0
        assert "schema version 2" in capsys.readouterr().out
        assert channel.topic("orders").history() == [b"one"]


def test_migrate_says_what_is_wrong(tmp_path: Path) -> None:
    """The command, as installed, exits with 1 and one line for what is no database or out of reach."""
    for url, says in (
        ("memory://", "only a database has tables"),
        ("kafka://x", "no backend"),
        (f"postgresql://u:secret@127.0.0.1:{free_port()}/x", "could not be migrated"),
        (f"sqlite:///{tmp_path}/no/such/folder.db", "unable to open"),
    ):
        command = [Path(sys.executable).with_name("bridge"), "migrate", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert done.stderr.startswith("bridge: ")
        assert says in done.stderr
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("sqlite://", {}, "memory://"),
        ("sqlite:///:memory:", {}, "memory://"),
        ("sqlite://host/file", {}, "name a file"),
        ("sqlite:///file?colour=red", {}, "colour"),
        ("sqlite:///file", {"poll_interval": 0}, "poll_interval"),
        ("sqlite:///file", {"poll_interval": "often"}, "poll_interval"),
        ("postgresql://host/db", {"poll_interval": -1}, "poll_interval"),
        ("postgresql://host/db?colour=red", {}, "colour"),
        ("postgresql://host:port/db", {}, "postgresql://"),
        ("postgresql+asyncpg://host/db", {}, "no backend"),
        ("sql+nosuch://host/db", {}, "nosuch"),
        ("sql+mysql+nosuch://host/db", {}, "nosuch"),
        ("sql+oracle+oracledb://host/db", {}, "pip install oracledb"),
        ("sql+sqlite:///file", {}, "sqlite:///file"),
        ("sql+", {}, "URL of SQLAlchemy"),
        ("sql+postgresql+psycopg://host/db", {"poll_interval": True}, "poll_interval"),
        ("memory://", {"poll_interval": 1}, "poll_interval"),
    ],
)
def test_a_bad_url_or_option_is_refused(url: str, options: dict[str, Any], says: str) -> None:
    """Whatever `connect` cannot use is refused at the call, by name."""
    with pytest.raises(bridge.ConfigurationError, match=says):
        bridge.connect(url, **options)


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [
        ("sqlalchemy", "sqlite:///x", "sql"),
        ("psycopg", "postgresql://x/y", "postgresql"),
        ("sqlalchemy", "postgresql://x/y", "postgresql"),
        ("sqlalchemy", "sql+mysql://x/y", "sql"),
    ],
)
def test_a_missing_extra_is_named(module: str, url: str, extra: str) -> None:
    """Without the package that a URL needs, connect says which extra installs it."""
    program = f"import sys; sys.modules[{module!r}] = None\nimport bridge\nbridge.connect({url!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert f"pip install 'celery-event-bridge[{extra}]'" in done.stderr


@sql
def test_a_message_published_again_with_its_token_appears_once(connect: Connect, database: Engine) -> None:
    """What is repeated because its answer was lost is found, after the end of a task too."""
    channel: Any = connect()
    end = events.make("state", "t1", state="SUCCESS")
    for publication in (Publication("orders", b"one"), end):
        first = transport_of(channel).publish(publication)
        assert transport_of(channel).publish(*repeated([publication])) == first
        assert [message.id for message in transport_of(channel).backend.history(publication.topic, 10)] == [
            first
        ]
    assert len(transport_of(channel).backend.history(bridge.FEED, 10)) == 1


def told(task: str, number: int, shared: bool = False) -> Publication:
    """A log line of a task, on its way."""
    line = events.make("log", task, level="info", message=str(number))
    line.repeated = shared
    return line


@sql
def test_many_messages_are_published_in_order_and_once(connect: Connect, database: Engine) -> None:
    """What is published together comes in order, everywhere; repeated with `again`, nothing comes twice."""
    channel: Any = connect()
    publications = [told(f"t{number % 3}", number) for number in range(120)]
    publications += [wholes.make("whole:w", 2, part, "SUCCESS") for part in "ab"]
    publications.append(Publication("orders", b"last"))
    with channel.topic(bridge.FEED).subscribe() as feed, channel.topic("orders").subscribe() as orders:
        transport_of(channel).backend.publish_many(publications)
        for _ in range(2):
            transport_of(channel).backend.publish_many(repeated(publications))
        transport_of(channel).backend.publish_many([])
        channel.topic(bridge.FEED).publish(b"end")
        seen = [events.decode(message) or {} for message in drain(feed, b"end")]
        channel.topic("orders").publish(b"end")
        assert drain(orders, b"end") == [b"last"]
    assert [int(event["message"]) for event in seen[:120]] == list(range(120))
    assert [event["type"] for event in seen[120:]] == ["progress", "progress", "state"]


@sql
def test_a_shared_token_is_published_by_one_of_many(connect: Connect, database: Engine) -> None:
    """Of several who say the same for the first time, at once, in a topic that is new, one is heard."""
    channels: list[Any] = [connect() for _ in range(4)]
    transport_of(channels[0]).backend.ping()
    for number in range(10):
        publication = told(f"t{number}", 1, shared=True)
        with ThreadPoolExecutor() as pool:
            calls = [pool.submit(transport_of(one).publish_many, [replace(publication)]) for one in channels]
            for call in calls:
                call.result(20)
        assert len(transport_of(channels[0]).backend.history(publication.topic, 10)) == 1


@sql
def test_those_who_publish_much_at_once_do_not_lock_each_other_out(
    connect: Connect, database: Engine
) -> None:
    """The same topics in opposite orders, by several at once: no deadlock, and every message is there."""
    channels: list[Any] = [connect() for _ in range(4)]
    transport_of(channels[0]).backend.ping()
    barrier = threading.Barrier(4)

    def publish(number: int) -> None:
        for _ in range(5):
            publications = [told(f"t{task}", number) for task in range(10)]
            barrier.wait(20)
            transport_of(channels[number]).backend.publish_many(publications[:: -1 if number % 2 else 1])
            transport_of(channels[number]).backend.publish(replace(publications[number], token=new_token()))

    with ThreadPoolExecutor() as pool:
        for call in [pool.submit(publish, number) for number in range(4)]:
            call.result(60)
    assert len(transport_of(channels[0]).backend.history(bridge.FEED, 1000)) == 4 * 5 * 11


@sql
def test_one_field_is_read(connect: Connect, database: Engine) -> None:
    """A field of a topic's state by its name, `None` if there is none of that name or no such topic."""
    channel: Any = connect()
    task = bridge.task_topic("t1")
    event = events.make("state", "t1", state="STARTED")
    transport_of(channel).publish(event)
    assert transport_of(channel).backend.field(task, "state") == event.payload
    assert transport_of(channel).backend.field(task, "other") is None
    assert transport_of(channel).backend.field("other", "state") is None


@sql
def test_a_part_costs_the_same_in_a_large_whole(connect: Connect, namespace: str, database: Engine) -> None:
    """As many statements a part among 300 as among 100; few lines are kept, and no parts after the end."""
    channel: Any = connect(namespace=namespace)
    topic = bridge.task_topic("whole:w")
    found = statements(transport_of(channel).backend._database.engine)
    costs = []
    for part in range(300):
        found.clear()
        transport_of(channel).publish(wholes.make("whole:w", 300, str(part), "SUCCESS"))
        costs.append(len(found))
        if part == 298:
            assert rows(database, tables.PARTS, topic, namespace) == 299
    assert max(costs[250:290]) <= max(costs[100:140]) < 30
    assert rows(database, tables.LINES, topic, namespace) == MAX_LINES
    assert rows(database, tables.PARTS, topic, namespace) == 0


@sqlite
def test_within_a_process_nobody_waits_for_the_next_look(connect: Connect) -> None:
    """With a poll_interval of a minute, a reader on another channel of the process has a message at once."""
    one, other = connect(poll_interval=60), connect(poll_interval=60)
    with one.topic("orders").subscribe() as subscription:
        for number in range(20):
            other.topic("orders").publish(b"%d" % number)
            assert subscription.receive(timeout=1) == b"%d" % number


@sqlite
def test_what_other_processes_write_is_seen(connect: Connect, url: str, database: Engine) -> None:
    """Commits of a connection that this process knows nothing of are found within the interval."""
    channel = connect(namespace="shared")
    with channel.topic("orders").subscribe() as subscription:
        program = (
            "import bridge, sys\n"
            f"topic = bridge.connect({url!r}, namespace='shared').topic('orders')\n"
            "for number in range(300): topic.publish(b'%d' % number)"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
        assert received(subscription, 300) == list(range(300))
        # One that comes in the same moment as the last look.
        for number in range(300):
            with database.connect() as connection:
                channel.topic("orders").publish(b"%d" % number, connection=connection)
                connection.commit()
            assert received(subscription, 1) == [number]


@pytest.mark.parametrize("query", ["heads", "page", "states"])
def test_a_notification_during_a_query_is_not_overlooked(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """What PostgreSQL says while the reader runs a query is looked at before the reader waits again."""
    channel: Any = bridge.connect(own_postgres.url())
    one, other = channel.topic("one"), channel.topic("other")
    with one.subscribe() as reading_one, other.subscribe() as reading_other:
        run: Callable[..., Any] = getattr(reading, query)
        notified: list[bool] = []

        def run_while_notified(connection: Connection, *given: Any) -> Any:
            if threading.current_thread().name == "bridge-hub" and not notified:
                notified.append(True)
                other.publish(b"small")
                driver: Any = connection.connection.dbapi_connection
                assert select_ready([driver], [], [], 10)[0]
            return run(connection, *given)

        monkeypatch.setattr(reading, query, run_while_notified)
        if query == "states":
            transport_of(channel).hub._listener.request_state("one", None)
        one.publish(b"x" * 1_000_000)
        assert reading_other.receive(timeout=3) == b"small"
        assert len(reading_one.receive(timeout=3) or b"") == 1_000_000
    channel.close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_small_message_after_a_large_one_comes_at_once(connect: Connect) -> None:
    """A small message that follows one of 1 MB on another topic, and precedes silence, comes at once."""
    channel, readers = connect(), connect()
    large, small = channel.topic("large"), channel.topic("small")
    with readers.topic("large").subscribe() as one, readers.topic("small").subscribe() as other:
        for number in range(26):
            large.publish(b"x" * 1_000_000)
            time.sleep(number % 13 / 1000)
            small.publish(b"%d" % number)
            assert other.receive(timeout=3) == b"%d" % number
            assert one.receive(timeout=3)


def test_a_commit_that_is_seen_late_is_found_on_sqlite(tmp_path: Path) -> None:
    """A commit that becomes visible only some time after the file was written is found without another."""
    with bridge.connect(f"sqlite:///{tmp_path}/bridge.db") as channel:
        topic = channel.topic("orders")
        topic.publish(b"one")
        database: Any = transport_of(channel).backend._database
        connection = database.open_reading()
        watch = FileWatch(tmp_path / "bridge.db", File(), connection, lambda _: None, 0.02)
        eventually(lambda: not watch.look(), 5)
        # A transaction that has begun to read does not see what is written from then on.
        connection.connection.execute("BEGIN")
        connection.scalar(LATEST)
        topic.publish(b"two")
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            assert not watch.look()
            time.sleep(0.02)
        connection.connection.execute("COMMIT")
        eventually(watch.look, 2)
        connection.close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_renewing_waits_for_no_transaction(connect: Connect, database: Engine) -> None:
    """Topics that an open transaction holds are passed over, and the others are renewed."""
    channel: Any = connect(timeout=1, namespace="renewing")
    for task in "ab":
        transport_of(channel).publish(events.make("state", task, state="STARTED"))
    keys = {name: tables.key_of("renewing", bridge.task_topic(name)) for name in "ab"}
    with database.begin() as connection:
        of_both = tables.TOPICS.c.key.in_(keys.values())
        connection.execute(tables.TOPICS.update().where(of_both).values(upkeep=0))
    with database.begin() as connection:
        channel.topic(bridge.task_topic("a")).publish(b"", connection=connection)
        transport_of(channel).backend.renew([bridge.task_topic(name) for name in "ab"])
        upkeep = select(tables.TOPICS.c.upkeep).where(tables.TOPICS.c.key == keys["b"])
        assert connection.scalar(upkeep)


def statements(engine: Engine) -> list[str]:
    """Collect the statements of an engine from now on."""
    found: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: found.append(given[2]))
    return found


@sql
def test_an_idle_process_asks_little(connect: Connect, url: str) -> None:
    """With 100 topics read and nothing said, at most 20 statements a second are run."""
    channel: Any = connect(poll_interval=0.1) if url.startswith("sql+") else connect()
    subscriptions = [channel.topic(f"topic {number}").subscribe() for number in range(100)]
    time.sleep(0.2)  # what was read a moment ago is looked at once more
    found = statements(transport_of(channel).backend._database.engine)
    time.sleep(2)
    assert len(found) <= 40
    for subscription in subscriptions:
        subscription.close()


def test_readers_of_a_process_take_one_connection(own_postgres: Postgres) -> None:
    """50 subscriptions to 50 topics open one connection; closing the channel closes all."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'celery-event-bridge'"
    channel: Any = bridge.connect(own_postgres.url())
    subscriptions = [channel.topic(f"topic {number}").subscribe() for number in range(50)]
    assert own_postgres.query(count) == [(1,)]
    transport_of(channel).backend.ping()
    assert own_postgres.query(count) == [(2,)]
    assert len(subscriptions) == 50
    channel.close()
    eventually(lambda: own_postgres.query(count) == [(0,)])


def test_a_role_that_may_only_read_reads(own_postgres: Postgres) -> None:
    """With SELECT alone a process reads; whatever else it may not do is told."""
    owner = bridge.connect(own_postgres.url())
    owner.topic("orders").publish(b"one")
    for role in ("reading", "nobody"):
        own_postgres.query(f"CREATE ROLE {role} LOGIN")
    own_postgres.query("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reading")
    with bridge.connect(own_postgres.url("reading"), timeout=2) as channel:
        with channel.topic("orders").subscribe(after=bridge.BEGINNING) as subscription:
            owner.topic("orders").publish(b"two")
            assert [subscription.receive(timeout=5) for _ in range(2)] == [b"one", b"two"]
        with pytest.raises(bridge.PublishError, match="permission denied for table bridge_topic"):
            channel.topic("orders").publish(b"three")
    with (
        bridge.connect(own_postgres.url("nobody"), timeout=2) as channel,
        pytest.raises(bridge.ConnectionLost, match="permission denied for table bridge_schema"),
    ):
        channel.topic("orders").subscribe()
    tables.METADATA.drop_all(engine := engine_of(own_postgres.url()))
    engine.dispose()
    with (
        bridge.connect(own_postgres.url("nobody"), timeout=2) as channel,
        pytest.raises(bridge.ConfigurationError, match="bridge migrate"),
    ):
        channel.topic("orders").publish(b"one")
    owner.close()


def test_a_file_that_may_only_be_read_says_so(tmp_path: Path) -> None:
    """Without the right to write, publishing is a PublishError with the file and the reason."""
    file = tmp_path / "bridge.db"
    with bridge.connect(f"sqlite:///{file}") as channel:
        channel.topic("orders").publish(b"one")
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    tmp_path.chmod(0o555)
    for path in tmp_path.iterdir():
        path.chmod(0o444)
    program = f"""
import os, bridge
topic = bridge.connect("sqlite:///{file}").topic("orders")
if os.geteuid() == 0:  # whom no mode keeps from writing
    os.setuid(65534)
try:
    topic.publish(b"two")
except bridge.PublishError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    tmp_path.chmod(0o755)
    assert str(file) in done.stdout, done.stderr
    assert "readonly" in done.stdout or "unable to open" in done.stdout


def test_publishers_of_one_file_take_turns(tmp_path: Path) -> None:
    """Four processes of four threads publish 100 messages each: none fails, none is lost, each in order."""
    url = f"sqlite:///{tmp_path}/bridge.db"
    program = f"""
import bridge, sys, threading
topic = bridge.connect({url!r}).topic("orders")
def publish(name):
    for number in range(100):
        topic.publish(b"%s %d %d" % (sys.argv[1].encode(), name, number))
threads = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    with bridge.connect(url) as channel, channel.topic("orders").subscribe() as subscription:
        processes = [subprocess.Popen([sys.executable, "-c", program, str(n)]) for n in range(4)]
        found: dict[bytes, list[int]] = {}
        for _ in range(1600):
            message = subscription.receive(timeout=30)
            assert message is not None
            name, _, number = message.rpartition(b" ")
            found.setdefault(name, []).append(int(number))
        assert [process.wait(30) for process in processes] == [0] * 4
    assert list(found.values()) == [list(range(100))] * 16


@sql
def test_a_change_is_one_step(connect: Connect, database: Engine) -> None:
    """If the feed cannot be written, neither is the task's topic, its state nor its number."""
    channel: Any = connect(timeout=1)
    task = bridge.task_topic("t1")
    transport_of(channel).publish(events.make("log", "t1", level="info", message="1"))
    failing = threading.Event()

    def fail(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("INSERT INTO bridge_member"):
            failing.set()
            raise RuntimeError("the power went out")

    engine = transport_of(channel).backend._database.engine
    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError, match="power"):
        transport_of(channel).publish(events.make("log", "t1", level="info", message="2"))
    assert failing.is_set()
    event.remove(engine, "before_cursor_execute", fail)
    third = transport_of(channel).publish(events.make("log", "t1", level="info", message="3"))
    assert third.split("-")[1] == "2"
    entries = [events.decode(entry)["message"] for entry in transport_of(channel).states(task)[0].entries]
    assert entries == ["1", "3"]
    assert len(transport_of(channel).backend.history(bridge.FEED, 10)) == 2


@sql
def test_entries_beyond_the_limit_are_counted(connect: Connect, namespace: str, database: Engine) -> None:
    """Of 1,100 log lines the last 1,000 are in the state, the others counted, and their rows deleted."""
    channel: Any = connect(namespace=namespace, retention_messages=10)
    task = bridge.task_topic("t1")
    for number in range(1100):
        transport_of(channel).publish(events.make("log", "t1", level="info", message=str(number)))
    (found,) = transport_of(channel).states(task)
    assert (len(found.entries), found.omitted) == (1000, 100)
    assert events.decode(found.entries[0])["message"] == "100"  # type: ignore[index]
    assert rows(database, tables.ENTRIES, task, namespace) < 1100
