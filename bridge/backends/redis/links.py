"""The connections of a listener: one to each node of the cluster that has a topic, or to the only server."""

import selectors
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from bridge.backends.redis.link import Link
from bridge.backends.redis.servers import Servers
from bridge.errors import ConnectionLost


class Links:
    """A connection to each node, opened when it is needed and registered with a selector."""

    def __init__(self, servers: Servers, selector: selectors.BaseSelector) -> None:
        self._servers = servers
        self._selector = selector
        self._by_node: dict[Hashable, Link] = {}

    def __iter__(self) -> Iterator[Link]:
        return iter(tuple(self._by_node.values()))

    def __contains__(self, link: Link) -> bool:
        return link in self._by_node.values()

    def to(self, key: bytes) -> Link:
        """Return the connection to the node that has `key`. Raises `ConnectionLost`."""
        node = self._servers.locate(key)
        link = self._by_node.get(node)
        if link is None:
            link = self._by_node[node] = self._servers.open_link(node)
            self._selector.register(link.socket, selectors.EVENT_READ, link)
        return link

    def write(self, link: Link) -> None:
        """Write what the socket takes; the selector waits for the rest. Raises `ConnectionLost`."""
        link.write()
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.waits_to_write else 0)
        if self._selector.get_key(link.socket).events != mask:
            self._selector.modify(link.socket, mask, link)

    def close(self) -> None:
        for link in self:
            link.close()


class RetryingLinks(Links):
    """Connections whose unanswered requests are sent once more if a connection is lost."""

    @contextmanager
    def one_more_try(self, link: Link, refuse: Callable[[str, str], None]) -> Iterator[None]:
        """Handle the loss of `link`: send its requests through another connection.

        A connection is lost because of the answer that was to come next. If that happens twice for the same
        request, its topic cannot be read: it is given to `refuse` with the error, and the others go on.
        """
        try:
            yield
        except ConnectionLost as error:
            self._drop(link)
            unanswered = [request for request in link.requests if request.purpose != "PING"]
            for request in unanswered[:1]:
                request.losses += 1
                if request.losses > 1:
                    unanswered.remove(request)
                    refuse(request.topic, f"reading it lost the connection twice: {error}")
            for request in unanswered:
                self.to(request.key).send(request)

    def _drop(self, link: Link) -> None:
        self._selector.unregister(link.socket)
        link.close()
        self._by_node = {node: other for node, other in self._by_node.items() if other is not link}
