"""Stream the progress of Celery tasks to browsers, and messages of any kind between processes.

This package exports the public names of the channel: `connect` opens one, `task_topic`, `tag_topic` and
`FEED` name topics of tasks, and the errors derive from `BridgeError`. Importing it loads no framework and
opens no connection.

Adapters are imported by name: `bridge.celery` publishes the events of tasks, `bridge.flask` and
`bridge.django` stream them, `bridge.aio` and `bridge.litestar` serve coroutines. To read the code, open
`channel/contract.py` first, and docs/architecture.md for the path of an event.
"""

from bridge.channel.contract import BroadcastChannel, Producer, Subscriber, Subscription, Topic
from bridge.channel.factory import connect
from bridge.errors import (
    BridgeError,
    ConfigurationError,
    ConnectionLost,
    PositionLost,
    PublishError,
    SlowConsumer,
    SubscriptionClosed,
)
from bridge.model.message import Gap, Message
from bridge.model.position import BEGINNING
from bridge.tasks.events import FEED, tag_topic, task_topic

__version__ = "0.1.0"

__all__ = [
    "BEGINNING",
    "FEED",
    "BridgeError",
    "BroadcastChannel",
    "ConfigurationError",
    "ConnectionLost",
    "Gap",
    "Message",
    "PositionLost",
    "Producer",
    "PublishError",
    "SlowConsumer",
    "Subscriber",
    "Subscription",
    "SubscriptionClosed",
    "Topic",
    "connect",
    "tag_topic",
    "task_topic",
]
