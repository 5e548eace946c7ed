"""The names of Litestar's channels as topics."""

import hashlib

from bridge.support.validate import LONGEST_TOPIC, is_control


def topic_name(prefix: str, channel: str) -> str:
    """Return the topic of a Litestar channel. It is the same in every process, and each channel has its own.

    The topic is the prefix, a full stop and the name of the channel. If a topic cannot have that name, it is
    the prefix, a number sign and the SHA-256 of the name. No prefix contains either sign.
    """
    name = f"{prefix}.{channel}"
    if channel and len(name) <= LONGEST_TOPIC and not any(map(is_control, channel)):
        return name
    return f"{prefix}#{hashlib.sha256(channel.encode('utf-8', 'surrogatepass')).hexdigest()}"
