"""The bridge: what a Celery task has to say, live in the browser."""

from bridge.channel import BroadcastChannel, Gap, Message, Producer, Subscriber, Subscription, Topic
from bridge.connect import connect
from bridge.errors import (
    BridgeError,
    ConfigurationError,
    ConnectionLost,
    PositionLost,
    PublishError,
    SlowConsumer,
    SubscriptionClosed,
)
from bridge.events import FEED, task_topic
from bridge.position import BEGINNING

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
