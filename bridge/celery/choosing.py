"""Which channel `install(app)` takes if no URL is given: that of the configuration, else Celery's broker."""

import re

# `Any` in this module: the settings of Celery hold any value.
from typing import Any

from celery import Celery

from bridge.channel.default_url import ChosenUrl
from bridge.errors import ConfigurationError
from bridge.support.environment import URL_VARIABLE, read_variable

_HOW = 'set app.conf.bridge_url, or call install(app, "redis://localhost:6379/0")'


def choose_url(app: Celery) -> ChosenUrl:
    """Return the URL for the channel of `app`, and where it comes from. Raises `ConfigurationError`."""
    configured = app.conf.get("bridge_url")
    if configured:
        return ChosenUrl(configured, "app.conf.bridge_url")
    found = read_variable(URL_VARIABLE)
    if found is not None:
        return ChosenUrl(found, f"the variable {URL_VARIABLE}")
    return ChosenUrl(_of_broker(app), "Celery's broker; app.conf.bridge_url names another")


def _of_broker(app: Celery) -> str:
    """Return the URL of the server that is Celery's broker. Raises `ConfigurationError`."""
    given: Any = app.conf.broker_write_url or app.conf.broker_url
    if not given:
        raise ConfigurationError(f"install(app) needs a URL, and this app has no broker yet: {_HOW}")
    urls = [each.strip() for each in (given.split(";") if isinstance(given, str) else given)]
    scheme = urls[0].partition("://")[0].lower() if "://" in urls[0] else urls[0]
    if scheme in ("redis", "rediss"):
        if app.conf.broker_use_ssl:
            raise ConfigurationError(
                f"install(app) does not take over broker_use_ssl of the broker: {_HOW} with rediss:// instead"
            )
        return urls[0]
    if scheme == "sentinel":
        return _of_sentinel(urls, app.conf.broker_transport_options or {})
    if re.match(r"(sqla|sqlalchemy)\+", scheme):
        return _of_database(urls[0].partition("+")[2])
    shown = f"{scheme}://" if re.fullmatch(r"[\w+.-]+", scheme, re.ASCII) else "this URL"
    raise ConfigurationError(
        f"install(app) needs a URL: the broker of this app ({shown}) cannot carry the bridge, which needs "
        f"Redis or a database. Celery may keep it; {_HOW}"
    )


def _of_sentinel(urls: list[str], options: Any) -> str:
    """Return the URL for the Sentinels of kombu, each of which has a URL of its own."""
    service = options.get("master_name")
    if not service:
        raise ConfigurationError(
            f"install(app) needs a URL: broker_transport_options has no master_name. Add it, or {_HOW}"
        )
    places = [re.split("[/?]", url.partition("://")[2], maxsplit=1)[0] for url in urls]
    credentials, at, _ = places[0].rpartition("@")
    hosts = ",".join(place.rpartition("@")[2] for place in places)
    # kombu reads the database of the first URL.
    database = re.search(r"://[^/]*/(\d+)", urls[0])
    return f"redis+sentinel://{credentials}{at}{hosts}/{service}/{database[1] if database else 0}"


def _of_database(url: str) -> str:
    """Return the URL of the bridge for one of SQLAlchemy."""
    dialect, _, rest = url.partition("://")
    if dialect.partition("+")[0] == "sqlite":
        return f"sqlite://{rest}"
    if dialect.partition("+")[0] in ("postgresql", "postgres"):
        return f"postgresql://{rest}"
    return f"sql+{url}"
