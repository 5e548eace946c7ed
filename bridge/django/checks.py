"""System checks of `settings.BRIDGE`. They open no connection.

- bridge.E001: `BRIDGE` is missing, or is not a dict.
- bridge.E002: an option is unknown or has a wrong value.
- bridge.E003: `AUTHORIZE` or `AUTHORIZE_CANCEL` cannot be imported, or takes other arguments.
- bridge.W001: nothing decides who may read.
"""

from collections.abc import Mapping

# `Any` in this module: Django has no types.
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004

from bridge.channel.factory import connect
from bridge.django.configuration import (
    HOW_TO_ALLOW,
    load_authorize,
    monitor_options,
    read_options,
    stream_settings,
)
from bridge.errors import ConfigurationError


def check_settings(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with `settings.BRIDGE`."""
    try:
        options = read_options()
    except ConfigurationError as error:
        return [Error(str(error), id="bridge.E001")]
    found = []
    try:
        _check_options(options)
    except (ConfigurationError, ValueError) as error:
        found.append(Error(f"settings.BRIDGE: {error}", id="bridge.E002"))
    try:
        load_authorize(options)
        load_authorize(options, "AUTHORIZE_CANCEL")
    except ConfigurationError as error:
        found.append(Error(f"settings.BRIDGE: {error}", id="bridge.E003"))
    decides = ("AUTHORIZE", "TOKEN_KEYS", "TOKEN_JWKS_URL")
    if all(options.get(name) is None for name in decides) and options.get("PUBLIC") is not True:
        found.append(Warning("nobody may read a topic", hint=f"{HOW_TO_ALLOW.reading}.", id="bridge.W001"))
    return found


def _check_options(options: Mapping[str, Any]) -> None:
    settings = stream_settings(options)
    connect(settings.url, **settings.channel_options).close()
    monitor_options(options)
