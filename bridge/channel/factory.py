"""`connect`: open a channel by its URL."""

import inspect

# `Any` in this module: each backend checks the types of its own options.
from typing import Any

from bridge.backends.registry import open_backend
from bridge.channel.channel import Channel
from bridge.channel.transport import Transport
from bridge.errors import ConfigurationError
from bridge.logs import log_as_json
from bridge.model.state import Retention
from bridge.support.urls import without_secrets
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
    retention_bytes: int = 64 * 1024 * 1024,
    memory: int | None = None,
    json_logs: bool = False,
    **options: Any,
) -> Channel:
    """Return the broadcast channel that `url` names. It opens nothing until its first use.

    `namespace` prefixes every key, so that several bridges can share a server. `max_payload` is the largest
    payload in bytes. `queue_size` is the number of messages that one subscription may fall behind before it
    is closed. `timeout` is the number of seconds that opening a connection, one publish or one subscribe may
    take.

    A backend that replays keeps the last `retention_messages` of each topic for `retention_seconds`, but at
    most `retention_bytes` of their payloads, about a sixteenth more in a database. The newest message is kept
    whatever its size. The state of a task is kept for `retention_seconds` after the end of the task. The
    state of a task that has not ended is kept for 7 days after its last event, and for as long as a worker
    has the task.

    `memory` is the number of bytes that may wait in this process, for all its channels together: for viewers
    and subscriptions, to be published, and kept for readers that catch up. The default is a quarter of the
    memory of the container, or else of the machine. The smallest number that a channel of the process names
    holds. Over it the slowest viewers and subscriptions are closed. The buffers of the kernel are not in it.

    With `json_logs` the bridge writes the lines of its log as JSON to standard error, in the whole process:
    see `bridge.logs`.

    `options` are passed to the backend. Raises `ConfigurationError` if the URL or an option is wrong, or if
    the extra that the backend needs is not installed.
    """
    check_positive(
        max_payload=max_payload,
        queue_size=queue_size,
        timeout=timeout,
        retention_seconds=retention_seconds,
        retention_messages=retention_messages,
    )
    check_positive(unit="bytes", whole=True, retention_bytes=retention_bytes)
    if memory is not None:
        check_positive(unit="bytes", whole=True, memory=memory)
    if "retention" in options:
        raise ConfigurationError(
            "connect() does not take the options retention: write retention_seconds, retention_messages or "
            "retention_bytes"
        )
    try:
        check_name(namespace, "a namespace")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    try:
        retention = Retention(retention_seconds, retention_messages, retention_bytes)
        backend = open_backend(
            url, {"namespace": namespace, "timeout": timeout, "retention": retention, **options}
        )
    except TypeError as error:
        unknown = ", ".join(options)
        known = ", ".join(
            name for name in inspect.signature(connect).parameters if name not in ("url", "options")
        )
        raise ConfigurationError(
            f"this backend does not take the options {unknown}: {error}; those of every backend are {known}"
        ) from error
    if not isinstance(json_logs, bool):
        raise ConfigurationError(f"json_logs (BRIDGE_JSON_LOGS) must be True or False, not {json_logs!r}")
    if json_logs:
        log_as_json()
    return Channel(
        Transport(
            backend,
            max_payload=max_payload,
            queue_size=queue_size,
            timeout=timeout,
            retention=retention,
            memory=memory,
            location=f"{without_secrets(url)}, namespace {namespace!r}",
        )
    )
