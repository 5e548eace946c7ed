"""The URL of an application that names none: that of the environment, else that of the Celery app.

`bridge.celery.install` notes here where the tasks of an app publish, and the streams read it. The two do not
know each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

# `Any` in this module: the options of `bridge.connect` have several types.
from typing import Any
from weakref import WeakKeyDictionary

from bridge.errors import ConfigurationError
from bridge.support.environment import URL_VARIABLE, read_variable


@dataclass(frozen=True, slots=True)
class ChosenUrl:
    """A URL that was chosen, and the reason."""

    url: str = field(repr=False)
    """As for `bridge.connect`. It may contain a password."""
    origin: str
    """Where it comes from, in words."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The other arguments of `bridge.connect`."""


# Changed by `install` only, one entry in one step: no lock is needed.
_installed: "WeakKeyDictionary[object, ChosenUrl]" = WeakKeyDictionary()


def note_installed(app: object, chosen: ChosenUrl) -> None:
    """Note where the tasks of a Celery app publish."""
    _installed[app] = chosen


def default_url() -> ChosenUrl | None:
    """Return the URL for the streams of an application that names none, `None` if nothing names one.

    Raises `ConfigurationError` if the Celery apps of this process have different ones.
    """
    found = read_variable(URL_VARIABLE)
    if found is not None:
        return ChosenUrl(found, f"the variable {URL_VARIABLE}")
    chosen = list(_installed.values())
    if not chosen:
        return None
    if any((each.url, each.options) != (chosen[0].url, chosen[0].options) for each in chosen):
        raise ConfigurationError(
            "several Celery apps of this process have the bridge, with different URLs or options: say which "
            f"one the streams read, by their own URL or by {URL_VARIABLE}"
        )
    return ChosenUrl(chosen[0].url, "install() of the Celery app", chosen[0].options)
