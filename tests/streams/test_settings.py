"""The options of the streams, from whatever mapping they come."""

from typing import Any

import pytest

from bridge.errors import ConfigurationError
from bridge.streams.settings import Settings, read_settings
from tests.tokens import SECRET


def read(options: dict[str, Any], prefix: str = "BRIDGE_") -> Settings:
    return read_settings(options, prefix=prefix, url_setting="settings.BRIDGE['URL']")


def test_options_have_defaults() -> None:
    """Only the URL is needed; options without the prefix are not looked at."""
    assert read({"BRIDGE_URL": "memory://", "DEBUG": True}) == Settings(
        url="memory://",
        origin="settings.BRIDGE['URL']",
        public=False,
        heartbeat=15.0,
        viewer_backlog=1024 * 1024,
        max_viewers=None,
        max_viewers_per_address=None,
        max_viewers_per_key=None,
        viewer_key=None,
        max_topics=100,
        max_stream_seconds=None,
        tokens=None,
        channel_options={},
    )


def test_options_of_a_mapping_without_a_prefix() -> None:
    """A framework may keep the options in a mapping of their own; those of the channel go to `connect`."""
    settings = read({"URL": "memory://", "MAX_VIEWERS": 7, "HEARTBEAT": 2, "NAMESPACE": "shop"}, prefix="")
    assert (settings.max_viewers, settings.heartbeat) == (7, 2)
    assert settings.channel_options == {"namespace": "shop"}
    with pytest.raises(ConfigurationError, match="unknown configuration DEBUG; known are URL, PUBLIC,"):
        read({"URL": "memory://", "DEBUG": True}, prefix="")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"set settings.BRIDGE\['URL'\], for example to redis://"),
        ({"HARTBEAT": 1}, "unknown configuration BRIDGE_HARTBEAT; known are BRIDGE_URL"),
        ({"HEARTBEAT": "15"}, "BRIDGE_HEARTBEAT must be seconds above zero, not '15'"),
        ({"VIEWER_BACKLOG": 0.5}, "BRIDGE_VIEWER_BACKLOG must be bytes above zero, not 0.5"),
        ({"MAX_VIEWERS": 0}, "BRIDGE_MAX_VIEWERS must be viewers above zero, not 0"),
        ({"MAX_VIEWERS_PER_ADDRESS": -1}, "BRIDGE_MAX_VIEWERS_PER_ADDRESS must be viewers above zero"),
        ({"MAX_TOPICS": True}, "BRIDGE_MAX_TOPICS must be topics above zero, not True"),
        ({"MAX_STREAM_SECONDS": 0}, "BRIDGE_MAX_STREAM_SECONDS must be seconds above zero, not 0"),
        ({"VIEWER_KEY": "user"}, "BRIDGE_VIEWER_KEY must be a function of the request, not str"),
        ({"MAX_VIEWERS_PER_KEY": 1}, "BRIDGE_MAX_VIEWERS_PER_KEY needs BRIDGE_VIEWER_KEY, a function"),
        ({"TOKEN_KEYS": "short"}, r"BRIDGE_TOKEN_KEYS\[0\] must have at least 32 bytes, this one has 5"),
        ({"TOKEN_JWKS_URL": "http://idp"}, "BRIDGE_TOKEN_JWKS_URL must be a URL that begins with https"),
        ({"TOKEN_AUDIENCE": "a"}, "BRIDGE_TOKEN_AUDIENCE needs BRIDGE_TOKEN_KEYS or BRIDGE_TOKEN_JWKS_URL"),
        ({"TOKEN_KEYS": SECRET, "TOKEN_ISSUER": ""}, "BRIDGE_TOKEN_ISSUER must be a str that is not empty"),
        ({"TOKEN_KEYS": SECRET, "TOKEN_COOKIE": "token"}, "BRIDGE_TOKEN_COOKIE must begin with __Host-"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], says: str) -> None:
    """The error says which option is wrong, as the application spells it."""
    url = {"URL": "memory://"} if options else {}
    with pytest.raises(ConfigurationError, match=says):
        read({f"BRIDGE_{key}": value for key, value in {**url, **options}.items()})


def test_tokens_are_for_this_namespace() -> None:
    """Their audience tells applications and namespaces apart; the other options have defaults."""
    tokens = read(
        {"BRIDGE_URL": "memory://", "BRIDGE_TOKEN_KEYS": [SECRET], "BRIDGE_NAMESPACE": "shop"}
    ).tokens
    assert tokens is not None
    assert (tokens.audience, tokens.issuer) == ("celery-event-bridge:shop", None)
    assert (tokens.cookie, tokens.in_query, tokens.jwks_url) == ("__Host-bridge_token", False, None)
    given = {"TOKEN_AUDIENCE": "us", "TOKEN_IN_QUERY": "yes", "TOKEN_COOKIE": "__Host-t"}
    tokens = read({"URL": "memory://", "TOKEN_JWKS_URL": "https://idp/keys", **given}, prefix="").tokens
    assert tokens is not None
    assert (tokens.audience, tokens.in_query, tokens.cookie) == ("us", False, "__Host-t")


def test_no_secret_is_in_a_repr() -> None:
    """Settings may stand in logs; neither keys nor the password of a URL are shown."""
    options = {"URL": "redis://:hunter2@localhost", "TOKEN_KEYS": ["hunter2" * 5], "NAMESPACE": "shop"}
    assert "hunter2" not in repr(read(options, prefix=""))
