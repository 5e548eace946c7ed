"""The API's settings: the worker's and its own. Only this file of `api` reads the environment, once."""

import os
from collections.abc import Mapping
from typing import Any

from worker.config import settings

MIB = 1024 * 1024
TRUE = {"1", "true", "yes", "on"}


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Flask configuration from environment variables; an empty one counts as not set."""
    return {
        "BRIDGE_URL": settings.bridge_url,
        "BRIDGE_PUBLIC": environ.get("BRIDGE_PUBLIC", "").lower() in TRUE,
        "MAX_UPLOAD_BYTES": int(environ.get("MAX_UPLOAD_BYTES") or 16 * MIB),
    }


defaults = read(os.environ)
