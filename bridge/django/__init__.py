"""Django serves the streams, under WSGI and under ASGI: `stream` is the response of a view.

The settings are `settings.BRIDGE`. With "bridge.django" in INSTALLED_APPS, Django's system checks check them.
Under ASGI, serve what `wrap` returns. This package translates requests and responses, and decides nothing
itself: the streams are in `bridge.streams`. Open `views.py` first, and `configuration.py` for the settings.
"""

from bridge.errors import needs_extra

with needs_extra("bridge.django", "django"):
    from bridge.django.configuration import channel
    from bridge.django.configuration import services as _services  # noqa: F401  # for bridge.prometheus
    from bridge.django.views import (
        Refused,
        acheck_cancel,
        aping,
        arevoke,
        atask,
        atasks,
        check_cancel,
        ping,
        revoke,
        stats,
        stream,
        task,
        tasks,
        token,
        why_plain,
        wrap,
    )

__all__ = [
    "Refused",
    "acheck_cancel",
    "aping",
    "arevoke",
    "atask",
    "atasks",
    "channel",
    "check_cancel",
    "ping",
    "revoke",
    "stats",
    "stream",
    "task",
    "tasks",
    "token",
    "why_plain",
    "wrap",
]
