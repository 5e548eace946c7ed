"""Random tokens that tell one message from another."""

import os


def new_token() -> bytes:
    """Return hexadecimal digits by which the backend can tell a message from any published before."""
    return os.urandom(8).hex().encode()
