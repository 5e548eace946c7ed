"""Litestar's channels on a bridge channel: every instance of an application receives every message.

    backend = BridgeChannelsBackend(bridge.connect("redis://localhost:6379/0"))
    app = Litestar([...], plugins=[ChannelsPlugin(backend, channels=["news"])])

A Litestar channel is a topic: `news` is `litestar.news`, to which whoever has the bridge may publish too.
"""

from bridge.errors import needs_extra

with needs_extra("bridge.litestar", "litestar"):
    from bridge.litestar.backend import BridgeChannelsBackend

__all__ = ["BridgeChannelsBackend"]
