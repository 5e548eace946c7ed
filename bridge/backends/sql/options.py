"""What the databases' URLs have in common."""

from bridge.errors import ConfigurationError


def check_interval(poll_interval: object) -> None:
    """Raise `ConfigurationError` unless `poll_interval` is seconds above zero."""
    if not isinstance(poll_interval, int | float) or isinstance(poll_interval, bool) or poll_interval <= 0:
        raise ConfigurationError(f"poll_interval must be seconds above zero, not {poll_interval!r}")
