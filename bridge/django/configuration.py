"""`settings.BRIDGE`: the options, the function that decides who may read, and the service made of them."""

import inspect
import threading
from collections.abc import Callable, Mapping

# `Any` in this module: Django has no types.
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from bridge.channel.channel import Channel
from bridge.errors import ConfigurationError
from bridge.monitor.monitor import Monitor
from bridge.monitor.monitor import Options as MonitorOptions
from bridge.streams.access.authorization import HowToAllow
from bridge.streams.service import StreamService
from bridge.streams.settings import Settings, read_settings
from bridge.support.fork import reset_in_child

_DECIDING = ("AUTHORIZE", "AUTHORIZE_CANCEL")
_OF_MONITOR = ("MONITOR_CELERY", "MONITOR_RUN_AGAIN", "MONITOR_TITLE")

Authorize = Callable[[Any, str], object]
"""Decides whether a topic may be read, or a task cancelled: takes the request, and the topic or the id."""

HOW_TO_ALLOW = HowToAllow(
    reading='Set BRIDGE["AUTHORIZE"] to the dotted path of a function that takes the request and a topic, '
    'or BRIDGE["PUBLIC"] = True to let everyone read every topic',
    cancelling='Set BRIDGE["AUTHORIZE_CANCEL"] to the dotted path of a function that takes the request and '
    "the id of a task",
)


class Configured(NamedTuple):
    """What `settings.BRIDGE` says, ready for use."""

    service: StreamService
    authorize: Authorize | None
    authorize_cancel: Authorize | None
    monitor: Monitor


def read_options() -> Mapping[str, Any]:
    """Return `settings.BRIDGE`. Raises `ConfigurationError` if it is missing, or no dict of options."""
    try:
        options = getattr(settings, "BRIDGE", None)
    except ImproperlyConfigured as error:
        raise ConfigurationError(f"bridge.django works in a Django project only: {error}") from None
    if options is None:
        raise ConfigurationError('set BRIDGE in the settings, for example to {"URL": "redis://localhost/0"}')
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        what = "with other keys than names" if isinstance(options, Mapping) else type(options).__name__
        raise ConfigurationError(
            f'settings.BRIDGE must be a dict such as {{"URL": "redis://localhost"}}, not {what}'
        )
    return options


def stream_settings(options: Mapping[str, Any]) -> Settings:
    """Return the settings of the streams. Raises `ConfigurationError`."""
    if options.get("VIEWER_KEY") is not None:
        options = {**options, "VIEWER_KEY": _load(options["VIEWER_KEY"], "VIEWER_KEY")}
    return read_settings(options, prefix="", url_setting='BRIDGE["URL"]', also=(*_DECIDING, *_OF_MONITOR))


def _load(given: Any, option: str) -> Any:
    """Return the function that an option names. Raises `ConfigurationError`."""
    try:
        function = import_string(given) if isinstance(given, str) else given
    except ImportError as error:
        raise ConfigurationError(f"{option} cannot be imported: {error}") from error
    if not callable(function):
        raise ConfigurationError(f"{option} must be the dotted path of a function, not {given!r}")
    return function


def load_authorize(options: Mapping[str, Any], option: str = "AUTHORIZE") -> Authorize | None:
    """Return the function that `option` names, `None` without one. Raises `ConfigurationError`."""
    if options.get(option) is None:
        return None
    authorize = _load(options[option], option)
    try:
        inspect.signature(authorize).bind(None, "")
    except TypeError as error:
        what = "the id of a task" if option == "AUTHORIZE_CANCEL" else "a topic"
        raise ConfigurationError(f"{option} must take a request and {what}: {error}") from None
    except ValueError:  # a function of C without a signature
        pass
    loaded: Authorize = authorize
    return loaded


def monitor_options(options: Mapping[str, Any]) -> MonitorOptions:
    """Return the options of the monitor. Raises `ConfigurationError`."""
    celery = options.get("MONITOR_CELERY")
    if isinstance(celery, str):
        try:
            celery = import_string(celery)
        except ImportError as error:
            raise ConfigurationError(f"MONITOR_CELERY cannot be imported: {error}") from error
    return MonitorOptions(
        title=options.get("MONITOR_TITLE", "Tasks"),
        celery=celery,
        run_again=options.get("MONITOR_RUN_AGAIN") is True,
    )


class _Process:
    """What this process serves the streams with. It is made at the first use."""

    def __init__(self) -> None:
        self._configured: Configured | None = None
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """The service resets itself, but another thread may have held the lock."""
        self._lock = threading.Lock()  # Guards the making of `_configured`.

    def configured(self) -> Configured:
        if self._configured is None:
            with self._lock:
                if self._configured is None:
                    options = read_options()
                    service = StreamService(stream_settings(options), how_to_allow=HOW_TO_ALLOW)
                    self._configured = Configured(
                        service,
                        load_authorize(options),
                        load_authorize(options, "AUTHORIZE_CANCEL"),
                        Monitor(service, monitor_options(options)),
                    )
        return self._configured

    def in_use(self) -> Configured | None:
        return self._configured

    def forget(self) -> None:
        """End all streams, and read the settings again at the next use."""
        with self._lock:
            configured, self._configured = self._configured, None
        if configured is not None:
            configured.service.channel.close()


_process = _Process()


def configured() -> Configured:
    """Return what this process serves the streams with. Raises `ConfigurationError`."""
    return _process.configured()


def in_use() -> Configured | None:
    """Return what this process serves the streams with, `None` if it has not served any."""
    return _process.in_use()


def services() -> list[StreamService]:
    """Return what serves the streams of this process, if any are served already, for `bridge.prometheus`."""
    found = in_use()
    return [] if found is None else [found.service]


def channel() -> Channel:
    """Return the broadcast channel of this process. Raises `ConfigurationError`."""
    return configured().service.channel


def _forget_settings(*, setting: str, **_: Any) -> None:
    """Called when a test overrides a setting."""
    if setting == "BRIDGE":
        _process.forget()


setting_changed.connect(_forget_settings)
