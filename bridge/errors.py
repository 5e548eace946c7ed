"""The errors of the bridge.

    BridgeError
    ├── ConfigurationError      a URL, an option or a missing extra; raised before anything is opened
    ├── PublishError            a message could not be handed to the backend
    └── SubscriptionClosed      the subscription was closed by its owner
        ├── SlowConsumer        its reader fell too far behind
        ├── PositionLost        its position is no longer kept by the backend
        └── ConnectionLost      the backend cannot be reached

A bad argument (a topic name, a payload) is a plain `ValueError`.
"""


class BridgeError(Exception):
    """The root of every error the bridge raises by itself."""


class ConfigurationError(BridgeError):
    """A URL, an option or the installation is wrong; the message says which and what to do."""


class PublishError(BridgeError):
    """A message was not accepted by the backend, or the bridge cannot know that it was."""


class SubscriptionClosed(BridgeError):
    """The subscription is closed; nothing more can be received from it."""


class SlowConsumer(SubscriptionClosed):
    """The reader's bounded queue was full, so the subscription was closed rather than thinned out."""


class PositionLost(SubscriptionClosed):
    """The backend no longer keeps the messages that follow the reader's position."""


class ConnectionLost(SubscriptionClosed):
    """The backend could not be reached, or the hub that read it has ended."""
