"""Settings: the `BRIDGE_*` options of an application, checked, whatever mapping they come from."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

# `Any` in this module: an option may have any value until it is checked.
from typing import Any

from bridge.channel.default_url import ChosenUrl, default_url
from bridge.errors import ConfigurationError
from bridge.streams.access.credentials import DEFAULT_COOKIE
from bridge.streams.access.jwks import check_jwks_url
from bridge.streams.access.keys import Key, read_keys
from bridge.streams.access.tokens import LONGEST_LIFE
from bridge.support.validate import check_positive

CHANNEL_OPTIONS = (
    "NAMESPACE",
    "MAX_PAYLOAD",
    "QUEUE_SIZE",
    "TIMEOUT",
    "RETENTION_SECONDS",
    "RETENTION_MESSAGES",
    "RETENTION_BYTES",
    "POLL_INTERVAL",
    "MEMORY",
    "JSON_LOGS",
)
"""The options of `bridge.connect`, which checks them."""

STREAM_OPTIONS = (
    "URL",
    "PUBLIC",
    "HEARTBEAT",
    "VIEWER_BACKLOG",
    "MAX_VIEWERS",
    "MAX_VIEWERS_PER_ADDRESS",
    "MAX_VIEWERS_PER_KEY",
    "VIEWER_KEY",
    "MAX_TOPICS",
    "MAX_STREAM_SECONDS",
)
"""The options of the streams themselves."""

TOKEN_OPTIONS = (
    "TOKEN_KEYS",
    "TOKEN_JWKS_URL",
    "TOKEN_AUDIENCE",
    "TOKEN_ISSUER",
    "TOKEN_COOKIE",
    "TOKEN_IN_QUERY",
    "TOKEN_MAX_SECONDS",
)
"""The options of the tokens."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """The options of the tokens of one application."""

    keys: Sequence[Key]
    """The first signs, all verify."""
    jwks_url: str | None
    """Where the keys of another issuer are."""
    audience: str
    """The claim `aud` of every token."""
    issuer: str | None
    """The claim `iss` of every token, `None` for any."""
    cookie: str
    """The name of the cookie that may carry a token."""
    in_query: bool
    """Whether the query of a URL may carry a token."""
    lifetime: float = LONGEST_LIFE
    """The longest time that a token counts after it was issued, in seconds."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the streams of one application."""

    url: str = field(repr=False)
    """Where the messages are, as for `bridge.connect`. It may contain a password."""
    origin: str
    """Where the URL comes from, in words."""
    public: bool
    """Whether everyone may read every topic where no function decides."""
    heartbeat: float
    """Seconds of silence before a comment is sent."""
    viewer_backlog: int
    """Bytes of live events that may wait for a viewer."""
    max_viewers: int | None
    """Viewers of this process, `None` for as many as it has descriptors for, less a tenth."""
    max_viewers_per_address: int | None
    """Viewers of one client address, `None` for no limit."""
    max_viewers_per_key: int | None
    """Viewers for which `viewer_key` returns the same text, or whose tokens have the same subject."""
    viewer_key: Callable[[Any], object] | None
    """Returns the key of a request of the framework, `None` to take the subject of the token."""
    max_topics: int
    """Topics of one stream."""
    max_stream_seconds: float | None
    """The longest time that a stream stays open, `None` for no limit."""
    tokens: TokenSettings | None
    """`None` if no token counts."""
    channel_options: Mapping[str, Any] = field(repr=False)
    """The other arguments of `bridge.connect`."""


def read_settings(
    options: Mapping[str, Any], *, prefix: str, url_setting: str, also: Sequence[str] = ()
) -> Settings:
    """Check the options whose names begin with `prefix` and return them, with defaults for the others.

    `url_setting` is how an application sets the URL, for messages. Without it the URL is the default one, see
    `bridge.channel.default_url`. `also` names the options without
    the prefix that the caller reads itself. Raises `ConfigurationError` for
    an unknown option, a missing URL, a number that is not above zero, or a key that is not one.
    """
    given = {key.removeprefix(prefix): options[key] for key in options if key.startswith(prefix)}
    unknown = sorted(set(given).difference(STREAM_OPTIONS, TOKEN_OPTIONS, CHANNEL_OPTIONS, also))
    if unknown:
        names = (*STREAM_OPTIONS, *also, *TOKEN_OPTIONS, *CHANNEL_OPTIONS)
        known = ", ".join(f"{prefix}{key}" for key in names)
        raise ConfigurationError(f"unknown configuration {prefix}{unknown[0]}; known are {known}")
    options_of_connect = {key.lower(): given[key] for key in CHANNEL_OPTIONS if key in given}
    chosen = ChosenUrl(given["URL"], url_setting) if given.get("URL") else default_url()
    if chosen is None:
        raise ConfigurationError(
            f"set {url_setting}, for example to redis://localhost:6379/0; or set the variable BRIDGE_URL, or "
            "call bridge.celery.install(app) of the Celery app before"
        )

    return Settings(
        url=chosen.url,
        origin=chosen.origin,
        public=given.get("PUBLIC") is True,
        heartbeat=_number(given, "HEARTBEAT", prefix, "seconds", whole=False) or 15.0,
        viewer_backlog=_number(given, "VIEWER_BACKLOG", prefix, "bytes") or 1024 * 1024,
        max_viewers=_number(given, "MAX_VIEWERS", prefix, "viewers"),
        max_viewers_per_address=_number(given, "MAX_VIEWERS_PER_ADDRESS", prefix, "viewers"),
        max_viewers_per_key=_number(given, "MAX_VIEWERS_PER_KEY", prefix, "viewers"),
        viewer_key=_viewer_key(given, prefix),
        max_topics=_number(given, "MAX_TOPICS", prefix, "topics") or 100,
        max_stream_seconds=_number(given, "MAX_STREAM_SECONDS", prefix, "seconds", whole=False),
        tokens=_token_settings(given, prefix),
        channel_options={**chosen.options, **options_of_connect},
    )


def _viewer_key(given: Mapping[str, Any], prefix: str) -> Callable[[Any], object] | None:
    """Return the function of the option, `None` without one."""
    value: Any = given.get("VIEWER_KEY")
    if value is not None and not callable(value):
        kind = type(value).__name__
        raise ConfigurationError(f"{prefix}VIEWER_KEY must be a function of the request, not {kind}")
    found: Callable[[Any], object] | None = value
    limited = given.get("MAX_VIEWERS_PER_KEY") is not None
    if limited and found is None and given.get("TOKEN_KEYS") is None and given.get("TOKEN_JWKS_URL") is None:
        raise ConfigurationError(
            f"{prefix}MAX_VIEWERS_PER_KEY needs {prefix}VIEWER_KEY, a function that returns the key of a "
            "request, or tokens, whose subjects are the keys"
        )
    return found


def _token_settings(given: Mapping[str, Any], prefix: str) -> TokenSettings | None:
    """Return the options of the tokens, `None` if there is no key that verifies one."""
    keys, jwks_url = given.get("TOKEN_KEYS"), given.get("TOKEN_JWKS_URL")
    if keys is None and jwks_url is None:
        named = [f"{prefix}{key}" for key in TOKEN_OPTIONS if given.get(key)]
        if named:
            raise ConfigurationError(f"{named[0]} needs {prefix}TOKEN_KEYS or {prefix}TOKEN_JWKS_URL")
        return None
    cookie = _text(given, "TOKEN_COOKIE", prefix) or DEFAULT_COOKIE
    if not re.fullmatch(r"__Host-[\w!#$%&'*+.^`|~-]+", cookie, re.ASCII):
        raise ConfigurationError(
            f"{prefix}TOKEN_COOKIE must begin with __Host-, as in {DEFAULT_COOKIE}: browsers take such a "
            "cookie from this host only and over HTTPS only"
        )
    namespace = given.get("NAMESPACE") or "bridge"
    return TokenSettings(
        keys=() if keys is None else read_keys(keys, f"{prefix}TOKEN_KEYS"),
        jwks_url=None if jwks_url is None else check_jwks_url(jwks_url, f"{prefix}TOKEN_JWKS_URL"),
        audience=_text(given, "TOKEN_AUDIENCE", prefix) or f"celery-event-bridge:{namespace}",
        issuer=_text(given, "TOKEN_ISSUER", prefix),
        cookie=cookie,
        in_query=given.get("TOKEN_IN_QUERY") is True,
        lifetime=_lifetime(given, prefix),
    )


def _lifetime(given: Mapping[str, Any], prefix: str) -> float:
    name = "TOKEN_MAX_SECONDS"
    seconds: float = _number(given, name, prefix, "seconds", whole=False) or LONGEST_LIFE
    if seconds > LONGEST_LIFE:
        raise ConfigurationError(
            f"{prefix}{name} must be at most {LONGEST_LIFE:g} seconds (7 days), as long as revocations are "
            f"kept, not {seconds!r}"
        )
    return seconds


def _text(given: Mapping[str, Any], key: str, prefix: str) -> str | None:
    """Return a text, or `None` if the option is not set."""
    value = given.get(key)
    if value is not None and not (isinstance(value, str) and value):
        raise ConfigurationError(f"{prefix}{key} must be a str that is not empty")
    return value


def _number(given: Mapping[str, Any], key: str, prefix: str, unit: str, *, whole: bool = True) -> Any:
    """Return a number above zero, or `None` if the option is not set."""
    value = given.get(key)
    if value is not None:
        check_positive(unit=unit, whole=whole, **{f"{prefix}{key}": value})
    return value
