"""The browser of the tests that need one."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium(*arguments: str, without: Sequence[str] = ()) -> Iterator[Browser]:
    """A Chromium or Chrome, or the test is skipped. `without` names arguments that Playwright would give."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = [*filter(None, map(shutil.which, (*BROWSERS, MAC))), *([own] if Path(own).exists() else [])]
        if not found:
            pytest.skip("no Chromium or Chrome here; on Debian: apt-get install chromium")
        browser = playwright.chromium.launch(
            executable_path=found[0], args=[*ARGUMENTS, *arguments], ignore_default_args=list(without)
        )
        yield browser
        browser.close()
