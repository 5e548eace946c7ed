import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bridge
from tests.servers import Valkey

BACKENDS = ("memory", "redis+pubsub", "redis+sharded")


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


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest) -> str:
    """The URL of each backend in turn."""
    scheme: str = request.param
    if scheme == "memory":
        return f"memory://{uuid.uuid4().hex}"
    server: Valkey = request.getfixturevalue("valkey")
    return server.url(scheme)


Connect = Callable[..., bridge.BroadcastChannel]


@pytest.fixture
def connect(url: str) -> Iterator[Connect]:
    """Makes channels on one backend and one namespace, and closes them at the end."""
    namespace = uuid.uuid4().hex
    channels = []

    def connect(**options: Any) -> bridge.BroadcastChannel:
        channel = bridge.connect(url, **{"namespace": namespace, **options})
        channels.append(channel)
        return channel

    yield connect
    for channel in channels:
        channel.close()


@pytest.fixture
def channel(connect: Connect) -> bridge.BroadcastChannel:
    return connect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CI"):
        for item in items:
            assert not list(item.iter_markers("skip")), f"{item.nodeid}: nothing is skipped in CI"
