"""The errors of the bridge.

    BridgeError
    ├── ConfigurationError      a URL, an option or a missing extra; raised before anything is opened
    ├── PublishError            a message could not be handed to the backend
    │   └── MessageRefused      the backend takes others, but not of this topic
    └── SubscriptionClosed      the subscription was closed by its owner
        ├── SlowConsumer        its reader fell too far behind
        ├── PositionLost        its position is no longer kept by the backend
        └── ConnectionLost      the backend cannot be reached

A bad argument (a topic name, a payload) is a plain `ValueError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

PERCENT_ENCODE = (
    "percent-encode every character of the user name and the password but letters, digits and -._~, "
    "as urllib.parse.quote(password, safe='') does"
)
"""What to do if a URL cannot be read. The URL itself is not quoted: a part of it may be a password."""


class BridgeError(Exception):
    """The root of every error the bridge raises by itself."""


class ConfigurationError(BridgeError):
    """A URL, an option or the installation is wrong; the message says which and what to do."""


class MissingExtra(ConfigurationError, ModuleNotFoundError):
    """A package is not installed; the message says which extra brings it."""


@contextmanager
def needs_extra(module: str, extra: str) -> Iterator[None]:
    """Import what `extra` brings. Raises `MissingExtra` if a package is not installed."""
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
    """A message was not accepted by the backend, or the bridge cannot know that it was."""


class MessageRefused(PublishError):
    """The backend does not take messages of this topic, and will not until somebody changes its settings."""


class SubscriptionClosed(BridgeError):
    """The subscription is closed; nothing more can be received from it."""


class SlowConsumer(SubscriptionClosed):
    """The reader's bounded queue was full, so the subscription was closed rather than thinned out."""


class PositionLost(SubscriptionClosed):
    """The backend no longer keeps the messages that follow the reader's position."""


class ConnectionLost(SubscriptionClosed):
    """The backend could not be reached, or the hub that read it has ended."""
