"""`connect`: a URL becomes a broadcast channel, its backend and its hub behind it."""

import re
from typing import Any

from bridge.backends.registry import open_backend
from bridge.channel.channel import Channel
from bridge.errors import ConfigurationError
from bridge.model.state import Retention
from bridge.support.validate import check_name, check_positive


def connect(
    url: str,
    *,
    namespace: str = "bridge",
    max_payload: int = 1024 * 1024,
    queue_size: int = 10_000,
    timeout: float = 5.0,
    retention_seconds: float = 86_400.0,
    retention_messages: int = 10_000,
    **options: Any,
) -> Channel:
    """Return the broadcast channel that `url` names; nothing is opened until its first use.

    `namespace` prefixes every key, so that several bridges can share a server. `max_payload` is in bytes,
    `queue_size` in messages that one subscription may fall behind, `timeout` in seconds that opening a
    connection, one publish or one subscribe may take. A backend that replays keeps the last
    `retention_messages` of each topic for `retention_seconds`, and a task's state as long after its end; a
    task that has not ended stays known for 7 days after its last event, or as long as a worker has it.
    `options` are those of one backend. Raises `ConfigurationError` for a URL, an option or an extra
    that will not do.
    """
    check_positive(
        max_payload=max_payload,
        queue_size=queue_size,
        timeout=timeout,
        retention_seconds=retention_seconds,
        retention_messages=retention_messages,
    )
    try:
        check_name(namespace, "a namespace")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    try:
        retention = Retention(retention_seconds, retention_messages)
        backend = open_backend(
            url, {"namespace": namespace, "timeout": timeout, "retention": retention, **options}
        )
    except TypeError as error:
        unknown = ", ".join(options)
        raise ConfigurationError(f"this backend does not take the options {unknown}: {error}") from error
    channel = Channel(
        backend, max_payload=max_payload, queue_size=queue_size, timeout=timeout, retention=retention
    )
    channel.where = f"{_redacted(url)}, namespace {namespace!r}"
    return channel


def _redacted(url: str) -> str:
    """Return where `url` points, for people: without user and password, and without parameters."""
    scheme, _, rest = url.partition("://")
    place = re.split("[?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(place) :]:
        place = "…"  # a password that is badly escaped, or a parameter: nobody can tell
    return f"{scheme}://{place.rpartition('@')[2]}"
