"""The settings of the web application. No other module of `api` reads the environment."""

import os
from collections.abc import Mapping

# `Any` in this module: the settings of Flask have values of several types.
from typing import Any

from worker.config import settings

MIB = 1024 * 1024
TRUE = {"1", "true", "yes", "on"}
LOCAL = ["localhost", "127.0.0.1"]
"""Host names of browsers on the same machine. Other names are refused unless they are configured, because
anyone can let a name of their own point to this machine (DNS rebinding)."""


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the Flask configuration from environment variables. An empty variable counts as not set.

    `TRUSTED_HOSTS` is a comma-separated list of the host names that browsers on other machines use;
    `.example.com` includes all subdomains.
    """
    hosts = environ.get("TRUSTED_HOSTS") or ""
    return {
        "BRIDGE_URL": settings.bridge_url,
        "TRUSTED_HOSTS": [*LOCAL, *filter(None, map(str.strip, hosts.split(",")))],
        "BRIDGE_PUBLIC": environ.get("BRIDGE_PUBLIC", "").lower() in TRUE,
        "MAX_UPLOAD_BYTES": int(environ.get("MAX_UPLOAD_BYTES") or 16 * MIB),
    }


defaults = read(os.environ)
