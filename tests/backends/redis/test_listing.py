"""Listing topics with SCAN: how far it goes."""

import uuid

import pytest

import bridge
from bridge.backends.base import Listing
from bridge.backends.redis import listing, servers
from bridge.channel.transport import transport_of
from tests.servers import Valkey


def test_a_search_ends_after_so_many_calls(own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many keys for one search the list says that it is not complete."""
    monkeypatch.setattr(servers, "SCANNED_AT_ONCE", 1)
    name = uuid.uuid4().hex
    with bridge.connect(own_valkey.url("redis"), namespace=name) as channel:
        for number in range(50):
            channel.topic(f"orders {number}").publish(b"1")
        backend = transport_of(channel).backend
        assert isinstance(backend, Listing)
        assert backend.topics(1000).complete
        monkeypatch.setattr(listing, "MOST_CALLS", 2)
        found = backend.topics(1000)
    assert not found.complete
    assert len(found.names) < 50
