"""The bridge: what a Celery task has to say, live in the browser."""

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
from bridge.tasks.events import FEED, task_topic

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
    "task_topic",
]
