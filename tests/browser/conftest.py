from collections.abc import Iterator

# `Any` in this module: a browser of either kind.
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.app import Served, served
from tests.browser.tabs import SECONDS, Tabs, browser_named

# A busy machine needs more than the 5 seconds that are the default.
expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def each_browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    with browser_named(request.param) as browser:
        yield browser


@pytest.fixture
def tabs(each_browser: Any) -> Iterator[Tabs]:
    """Tabs in each browser in turn. All of them are closed at the end."""
    tabs = Tabs(each_browser)
    yield tabs
    tabs.close_all()


@pytest.fixture(scope="module")
def chromium_alone() -> Iterator[Any]:
    with browser_named("chromium") as browser:
        yield browser


@pytest.fixture
def chromium_tabs(chromium_alone: Any) -> Iterator[Tabs]:
    """Tabs in Chromium, for what only its protocol can do."""
    tabs = Tabs(chromium_alone)
    yield tabs
    tabs.close_all()


@pytest.fixture
def app() -> Iterator[Served]:
    with served() as app:
        yield app
