from collections.abc import Iterator

# `Any` in this module: a browser of either kind.
from typing import Any

import pytest

from tests.browser.app import Served, served
from tests.browser.tabs import Tabs, browser_named


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
