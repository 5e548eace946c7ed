"""What a silent stream gets from time to time: a comment, which browsers ignore and people can read."""

from bridge.streams import sse
from bridge.streams.rendering import Text

HEARTBEAT = Text(sse.HEARTBEAT)

NO_WORKER = Text(
    sse.comment(
        "no worker is heard here, so tasks stay as they are; see the log of the web process, "
        "or run: bridge doctor"
    )
)
"""Instead of the heartbeat, while a watched task waits and no worker publishes where this process listens."""
