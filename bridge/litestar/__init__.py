"""Litestar's channels on a bridge channel: every instance of an application receives every message.

    backend = BridgeChannelsBackend(bridge.connect("redis://localhost:6379/0"))
    app = Litestar([...], plugins=[ChannelsPlugin(backend, channels=["news"])])

The Litestar channel `news` is the topic `litestar.news`. Any program with the bridge can publish to it too.
The package does not poll and starts no thread. Open `backend.py` first: it has the class that Litestar calls.
`reading.py` has the subscriptions, `publisher.py` sends messages, and `names.py` maps channels to topics.
"""

from bridge.errors import needs_extra

with needs_extra("bridge.litestar", "litestar"):
    from bridge.litestar.backend import BridgeChannelsBackend

__all__ = ["BridgeChannelsBackend"]
