"""The bridge of a web application, for the commands."""

from bridge.cli.target import Target
from bridge.streams.service import StreamService


def target_of(service: StreamService) -> Target:
    """Return what the streams of an application read."""
    settings = service.settings
    return Target(settings.url, settings.origin, settings.channel_options, tokens=service.authorizer.tokens)
