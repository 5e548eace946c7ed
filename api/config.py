"""The API's settings: the worker's and its own. Only this file of `api` reads the environment, once."""

import os
from collections.abc import Mapping
from typing import Any

from worker.config import settings

MIB = 1024 * 1024
TRUE = {"1", "true", "yes", "on"}
LOCAL = ["localhost", "127.0.0.1"]
"""What a browser on the same machine calls it. Another name may be one whose owner lets it lead here."""


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Flask configuration from environment variables; an empty one counts as not set.

    `TRUSTED_HOSTS` are the names, with commas between, under which browsers reach this application from
    other machines; `.example.com` stands for all under it.
    """
    hosts = environ.get("TRUSTED_HOSTS") or ""
    return {
        "BRIDGE_URL": settings.bridge_url,
        "TRUSTED_HOSTS": [*LOCAL, *filter(None, map(str.strip, hosts.split(",")))],
        "BRIDGE_PUBLIC": environ.get("BRIDGE_PUBLIC", "").lower() in TRUE,
        "MAX_UPLOAD_BYTES": int(environ.get("MAX_UPLOAD_BYTES") or 16 * MIB),
    }


defaults = read(os.environ)
