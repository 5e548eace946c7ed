"""Random tokens that identify messages."""

import os


def new_token() -> bytes:
    """Return hexadecimal digits that identify a message. No other message has the same."""
    return os.urandom(8).hex().encode()
