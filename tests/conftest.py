import gc
import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from hypothesis import HealthCheck, settings

import bridge
from bridge.channel import default_url
from bridge.support.memory import BUDGET
from tests.servers import Cluster, Postgres, Replicated, Sentinel, Valkey

REPLAYING = ("memory", "redis", "redis+sentinel", "redis+cluster", "sqlite", "postgresql", "sql+postgresql")
LIVE_ONLY = ("redis+pubsub", "redis+sharded")
BACKENDS = (*REPLAYING, *LIVE_ONLY)

# A shell without job control starts programs in the background with SIGINT ignored. Servers that the tests
# start would inherit that, and could not be stopped with it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_default_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test takes the URL of an app that another test has made, or of the environment."""
    monkeypatch.setattr(default_url, "_installed", WeakKeyDictionary())
    monkeypatch.delenv("BRIDGE_URL", raising=False)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """The server that tests share; each test has a namespace of its own."""
    server = Valkey().start()
    yield server
    server.stop()


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A server that the test may kill."""
    server = Valkey().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def sentinel() -> Iterator[Sentinel]:
    """A primary with a replica and a Sentinel, that tests share."""
    servers = Sentinel().start()
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three primaries that tests share."""
    servers = Cluster().start()
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The database server that tests share."""
    with Postgres() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A database server that the test may kill."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each backend in turn."""
    scheme: str = request.param
    if scheme == "memory":
        return f"memory://{uuid.uuid4().hex}"
    if scheme == "sqlite":
        return f"sqlite:///{tmp_path}/bridge.db"
    if scheme.endswith("postgresql"):
        database: Postgres = request.getfixturevalue("postgres")
        # With the prefix it is polled, as databases are that have no NOTIFY.
        return database.url(scheme="sql+postgresql+psycopg" if scheme.startswith("sql+") else scheme)
    if scheme in ("redis+sentinel", "redis+cluster"):
        replicated: Replicated = request.getfixturevalue(scheme.removeprefix("redis+"))
        return replicated.url()
    server: Valkey = request.getfixturevalue("valkey")
    return server.url(scheme)


# Hypothesis fails a test whose examples are slow. Here that is a busy machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

Connect = Callable[..., bridge.BroadcastChannel]


@pytest.fixture
def connect(url: str) -> Iterator[Connect]:
    """Makes channels on one backend and one namespace, and closes them at the end."""
    namespace = uuid.uuid4().hex
    channels = []

    def connect(**options: Any) -> bridge.BroadcastChannel:
        quickly = {"poll_interval": 0.01} if url.startswith("sql+") else {}
        channel = bridge.connect(url, **{"namespace": namespace, **quickly, **options})
        channels.append(channel)
        return channel

    yield connect
    for channel in channels:
        channel.close()


@pytest.fixture
def channel(connect: Connect) -> bridge.BroadcastChannel:
    return connect()


def pytest_collection_finish() -> None:
    """Keep the collected tests from the garbage collector: a full run of it took 0.2 s of CPU time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that would be skipped fails. What was captured becomes UTF-8, as pytest-xdist needs it."""
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.fixture
def own_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory budget of the process without what other tests have left."""
    monkeypatch.setattr(BUDGET, "_holders", {})
