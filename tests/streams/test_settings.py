"""The options of the streams, from whatever mapping they come."""

from typing import Any

import pytest

from bridge.errors import ConfigurationError
from bridge.streams.settings import Settings, read_settings


def read(options: dict[str, Any], prefix: str = "BRIDGE_") -> Settings:
    return read_settings(options, prefix=prefix, url_setting="settings.BRIDGE['URL']")


def test_options_have_defaults() -> None:
    """Only the URL is needed; options without the prefix are not looked at."""
    assert read({"BRIDGE_URL": "memory://", "DEBUG": True}) == Settings(
        url="memory://",
        public=False,
        heartbeat=15.0,
        viewer_backlog=1024 * 1024,
        max_viewers=None,
        max_viewers_per_address=None,
        max_topics=100,
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
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], says: str) -> None:
    """The error says which option is wrong, as the application spells it."""
    url = {"URL": "memory://"} if options else {}
    with pytest.raises(ConfigurationError, match=says):
        read({f"BRIDGE_{key}": value for key, value in {**url, **options}.items()})
