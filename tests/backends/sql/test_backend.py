"""The SQL backends: what only a database promises, and what it refuses."""

import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from select import select as select_ready
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, select

import bridge
from bridge.backends.sql import listener as reader
from bridge.backends.sql import reading, reading_states, tables
from bridge.backends.sql.file import File, FileWatch
from bridge.backends.sql.reading import LATEST
from bridge.channel.transport import transport_of
from bridge.model import state
from bridge.tasks import canvas as canvas_events
from tests import events
from tests.backends.sql.tools import database_of, engine_of, rows, sql, sqlite, statements
from tests.channel.test_replay import publish, received
from tests.conftest import Connect
from tests.servers import Postgres, eventually


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
def test_topics_that_nobody_uses_are_forgotten(
    connect: Connect, namespace: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After retention a topic leaves no row behind, unless it is read or has a durable reader."""
    monkeypatch.setattr(state, "UNENDED_SECONDS", 1.0)
    monkeypatch.setattr(reader, "COMPARE_EVERY", 0.1)
    channel: Any = connect(namespace=namespace, retention_seconds=3)  # a busy reader must keep up
    task = bridge.task_topic("t1")
    transport_of(channel).publish(events.make("log", "t1", level="info", message="hello"))
    publish(channel.topic("durable"), 1)
    channel.topic("durable").subscribe(durable="indexer").close()
    publish(channel.topic("read"), *range(300))
    publish(channel.topic("long"), *range(600))
    canvas = bridge.task_topic("canvas:w")
    transport_of(channel).publish(canvas_events.make("canvas:w", 2, "a", "STARTED"))
    of_canvas = (tables.COUNTS, tables.PARTS, tables.ROWS)
    assert [rows(database, table, canvas, namespace) for table in of_canvas] == [1, 1, 1]
    of_topic = (tables.MESSAGES, tables.ENTRIES, tables.FIELDS)
    gone = [(table, name) for name in (task, canvas, "long") for table in (*of_topic, *of_canvas)]
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


@pytest.mark.parametrize(
    ("module", "query"), [(reading, "heads"), (reading, "page"), (reading_states, "states")]
)
def test_a_notification_during_a_query_is_not_overlooked(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch, module: ModuleType, query: str
) -> None:
    """What PostgreSQL says while the reader runs a query is looked at before the reader waits again."""
    channel: Any = bridge.connect(own_postgres.url())
    one, other = channel.topic("one"), channel.topic("other")
    with one.subscribe() as reading_one, other.subscribe() as reading_other:
        run: Callable[..., Any] = getattr(module, query)
        notified: list[bool] = []

        def run_while_notified(connection: Connection, *given: Any) -> Any:
            if threading.current_thread().name == "bridge-hub" and not notified:
                notified.append(True)
                other.publish(b"small")
                driver: Any = connection.connection.dbapi_connection
                assert select_ready([driver], [], [], 10)[0]
            return run(connection, *given)

        monkeypatch.setattr(module, query, run_while_notified)
        if query == "states":
            listener = transport_of(channel).hub._listener
            assert listener is not None
            listener.request_state("one", None)
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
        database: Any = database_of(channel)
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


@sql
def test_an_idle_process_asks_little(connect: Connect, url: str) -> None:
    """With 100 topics read and nothing said, at most 20 statements a second are run."""
    channel: Any = connect(poll_interval=0.1) if url.startswith("sql+") else connect()
    subscriptions = [channel.topic(f"topic {number}").subscribe() for number in range(100)]
    time.sleep(0.2)  # what was read a moment ago is looked at once more
    found = statements(database_of(channel).engine)
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
