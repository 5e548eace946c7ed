"""A pytest plugin for Celery's own tests: notes which pass, and installs the bridge in every app if asked to.

PASSED names the file that gets the ids of the tests that pass; BRIDGE_URL, where set, the bridge's backend.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

BRIDGE_URL = os.environ.get("BRIDGE_URL")

_outcomes: dict[str, bool] = {}

if BRIDGE_URL:
    from bridge.celery import install

    _init = Celery.__init__

    def _init_and_install(self: Celery, *args: Any, **kwargs: Any) -> None:
        _init(self, *args, **kwargs)
        install(self, str(BRIDGE_URL))

    # Every app passes through it; Celery has no hook for that.
    Celery.__init__ = _init_and_install  # type: ignore[method-assign, assignment]

    _enumerate = threading.enumerate

    def _without_the_bridge() -> list[threading.Thread]:
        return [thread for thread in _enumerate() if not thread.name.startswith("bridge-")]

    # Celery's tests look for threads that a test leaves. The bridge has one in the background by design.
    threading.enumerate = _without_the_bridge


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "setup":
        _outcomes[report.nodeid] = report.passed
    else:
        _outcomes[report.nodeid] = report.passed and _outcomes.get(report.nodeid, False)


def pytest_sessionfinish() -> None:
    passed = sorted(test for test, well in _outcomes.items() if well)
    Path(os.environ["PASSED"]).write_text(json.dumps(passed))
