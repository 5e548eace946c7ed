"""Runs pytest under gevent's monkey-patching: `python -m tests.gevent_run FILE ...`."""

from gevent import monkey

monkey.patch_all()

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["-p", "no:cacheprovider", *sys.argv[1:]]))
