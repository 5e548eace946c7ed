"""Settings: the `BRIDGE_*` options of an application, checked, whatever mapping they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# `Any` in this module: an option may have any value until it is checked.
from typing import Any

from bridge.errors import ConfigurationError
from bridge.support.validate import check_positive

CHANNEL_OPTIONS = (
    "NAMESPACE",
    "MAX_PAYLOAD",
    "QUEUE_SIZE",
    "TIMEOUT",
    "RETENTION_SECONDS",
    "RETENTION_MESSAGES",
    "POLL_INTERVAL",
)
"""The options of `bridge.connect`, which checks them."""

STREAM_OPTIONS = (
    "URL",
    "PUBLIC",
    "HEARTBEAT",
    "VIEWER_BACKLOG",
    "MAX_VIEWERS",
    "MAX_VIEWERS_PER_ADDRESS",
    "MAX_TOPICS",
)
"""The options of the streams themselves."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the streams of one application."""

    url: str
    """Where the messages are, as for `bridge.connect`."""
    public: bool
    """Whether everyone may read every topic where no function decides."""
    heartbeat: float
    """Seconds of silence before a comment is sent."""
    viewer_backlog: int
    """Bytes of live events that may wait for a viewer."""
    max_viewers: int | None
    """Viewers of this process, `None` for as many as it has descriptors for, less a tenth."""
    max_viewers_per_address: int | None
    """Viewers of one client address, `None` for no limit."""
    max_topics: int
    """Topics of one stream."""
    channel_options: Mapping[str, Any]
    """The other arguments of `bridge.connect`."""


def read_settings(
    options: Mapping[str, Any], *, prefix: str, url_setting: str, also: Sequence[str] = ()
) -> Settings:
    """Check the options whose names begin with `prefix` and return them, with defaults for the others.

    `url_setting` is how an application sets the URL, for the error message. `also` names the options without
    the prefix that the caller reads itself. Raises `ConfigurationError` for
    an unknown option, a missing URL, or a number that is not above zero.
    """
    given = {key.removeprefix(prefix): options[key] for key in options if key.startswith(prefix)}
    unknown = sorted(set(given).difference(CHANNEL_OPTIONS, STREAM_OPTIONS, also))
    if unknown:
        known = ", ".join(f"{prefix}{key}" for key in (*STREAM_OPTIONS, *also, *CHANNEL_OPTIONS))
        raise ConfigurationError(f"unknown configuration {prefix}{unknown[0]}; known are {known}")
    if not given.get("URL"):
        raise ConfigurationError(f"set {url_setting}, for example to redis://localhost:6379/0")

    return Settings(
        url=given["URL"],
        public=given.get("PUBLIC") is True,
        heartbeat=_number(given, "HEARTBEAT", prefix, "seconds", whole=False) or 15.0,
        viewer_backlog=_number(given, "VIEWER_BACKLOG", prefix, "bytes") or 1024 * 1024,
        max_viewers=_number(given, "MAX_VIEWERS", prefix, "viewers"),
        max_viewers_per_address=_number(given, "MAX_VIEWERS_PER_ADDRESS", prefix, "viewers"),
        max_topics=_number(given, "MAX_TOPICS", prefix, "topics") or 100,
        channel_options={key.lower(): given[key] for key in CHANNEL_OPTIONS if key in given},
    )


def _number(given: Mapping[str, Any], key: str, prefix: str, unit: str, *, whole: bool = True) -> Any:
    """Return a number above zero, or `None` if the option is not set."""
    value = given.get(key)
    if value is not None:
        check_positive(unit=unit, whole=whole, **{f"{prefix}{key}": value})
    return value
