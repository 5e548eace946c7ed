"""The errors that the bridge raises.

    BridgeError
    ├── ConfigurationError      a URL, an option or the installation is wrong; nothing was opened
    ├── PublishError            the backend did not accept a message
    │   └── MessageRefused      the backend accepts other messages, but none of this topic
    └── SubscriptionClosed      the subscription was closed by its owner
        ├── SlowConsumer        its reader was too far behind
        ├── PositionLost        the backend no longer keeps the messages at its position
        └── ConnectionLost      the backend cannot be reached

A bad argument, such as a topic name or a payload, is a plain `ValueError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

PERCENT_ENCODE = (
    "percent-encode every character of the user name and the password but letters, digits and -._~, "
    "as urllib.parse.quote(password, safe='') does"
)
"""What to do if a URL cannot be parsed. No error quotes the URL, because a part of it may be a password."""


class BridgeError(Exception):
    """The base class of all errors of the bridge."""


class ConfigurationError(BridgeError):
    """A URL, an option or the installation is wrong. The message says which one, and what to do."""


class MissingExtra(ConfigurationError, ModuleNotFoundError):
    """A package is not installed. The message names the extra that installs it."""


@contextmanager
def needs_extra(module: str, extra: str) -> Iterator[None]:
    """Run imports that need the packages of `extra`. Raises `MissingExtra` if one is not installed."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "bridge":
            raise
        raise MissingExtra(
            f"{module} needs a package that is not installed ({error.name or error}): "
            f"pip install 'celery-event-bridge[{extra}]'",
            name=error.name,
        ) from error


class PublishError(BridgeError):
    """The backend did not accept a message, or the bridge cannot know whether it did."""


class MessageRefused(PublishError):
    """The backend refuses messages of this topic. Trying again does not help until its settings change."""


class SubscriptionClosed(BridgeError):
    """The subscription is closed, and no more messages can be received from it."""


class SlowConsumer(SubscriptionClosed):
    """The reader's bounded queue was full. The subscription was closed, because it may skip no message."""


class PositionLost(SubscriptionClosed):
    """The backend no longer keeps the messages after the reader's position."""


class ConnectionLost(SubscriptionClosed):
    """The backend cannot be reached, or the thread that reads it has ended."""
