"""Connections to nodes, and requests that are sent once more."""

import selectors
import socket
from collections.abc import Hashable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.backends.redis.link import Link, Request
from bridge.backends.redis.links import Links, RetryingLinks
from bridge.errors import ConnectionLost


class Nodes:
    """Servers of which each node has one key, its name."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def locate(self, key: bytes) -> Hashable:
        return key

    def open_link(self, node: Hashable) -> Link:
        ours, theirs = socket.socketpair()
        self.sockets += [ours, theirs]
        return Link(SimpleNamespace(_sock=ours), timeout=1)


@pytest.fixture
def nodes() -> Iterator[Any]:
    found = Nodes()
    yield found
    for opened in found.sockets:
        opened.close()


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as found:
        yield found


def request(topic: str, key: bytes) -> Request:
    return Request("HISTORY", topic, key, "GET", key)


def fail() -> None:
    raise ConnectionLost("lost")


def lose(links: RetryingLinks, link: Link) -> list[str]:
    """Lose a connection; return the topics that are refused."""
    refused: list[str] = []
    with links.one_more_try(link, lambda topic, _error: refused.append(topic)):
        fail()
    return refused


def test_a_node_has_one_connection(nodes: Any, selector: selectors.BaseSelector) -> None:
    """It is opened when it is needed first, and the selector knows it."""
    links = Links(nodes, selector)
    assert list(links) == []
    link = links.to(b"one")
    assert links.to(b"one") is link
    assert links.to(b"two") is not link
    assert {key.data for key in selector.get_map().values()} == set(links)


def test_unanswered_requests_are_sent_once_more_in_order(
    nodes: Any, selector: selectors.BaseSelector
) -> None:
    """After a loss they wait on a new connection to the node of their key; a probe is not repeated."""
    links = RetryingLinks(nodes, selector)
    link = links.to(b"one")
    sent = [link.send(request(topic, b"one")) for topic in ("first", "second")]
    link.send(Request("PING", "", b"", "PING"))
    assert lose(links, link) == []
    assert link not in links
    assert list(links.to(b"one").requests) == sent


def test_a_request_that_loses_two_connections_is_refused(
    nodes: Any, selector: selectors.BaseSelector
) -> None:
    """Only the request whose answer was to come next is refused; the others are sent again."""
    links = RetryingLinks(nodes, selector)
    first, second = (links.to(b"one").send(request(topic, b"one")) for topic in ("first", "second"))
    assert lose(links, links.to(b"one")) == []
    assert lose(links, links.to(b"one")) == ["first"]
    assert list(links.to(b"one").requests) == [second]
    assert (first.losses, second.losses) == (2, 0)


def test_a_request_goes_to_the_node_of_its_key(nodes: Any, selector: selectors.BaseSelector) -> None:
    """In a cluster the state of a group's member is on another node than the group."""
    links = RetryingLinks(nodes, selector)
    link = links.to(b"member")
    sent = link.send(request("group", b"member"))
    lose(links, link)
    assert list(links.to(b"member").requests) == [sent]
    assert list(links.to(b"group").requests) == []
