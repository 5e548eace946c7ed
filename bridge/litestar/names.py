"""The names of Litestar's channels as topics."""

import hashlib

from bridge.support.validate import LONGEST_TOPIC, is_control


def topic_name(prefix: str, channel: str) -> str:
    """Return the topic that stands for a Litestar channel: the same in every process, another for each.

    A name that a topic can have is left as it is, after the prefix and a full stop; for any other stands
    its SHA-256, after the prefix and a number sign. No prefix holds either sign.
    """
    name = f"{prefix}.{channel}"
    if channel and len(name) <= LONGEST_TOPIC and not any(map(is_control, channel)):
        return name
    return f"{prefix}#{hashlib.sha256(channel.encode('utf-8', 'surrogatepass')).hexdigest()}"
