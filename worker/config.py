"""The settings of the worker. No other module of `worker` reads the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# `Any` in this module: the options of a broker have values of several types.
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    broker_url: str
    result_backend: str | None
    bridge_url: str
    data_dir: Path
    digest_root: Path

    @property
    def uploads(self) -> Path:
        return self.data_dir / "uploads"

    @property
    def broker_options(self) -> dict[str, Any]:
        """The transport options of the broker: `filesystem://` keeps its messages in `data_dir`."""
        if not self.broker_url.startswith("filesystem:"):
            return {}
        messages = str(self.data_dir / "broker" / "messages")
        control = str(self.data_dir / "broker" / "control")
        folders = {"data_folder_in": messages, "data_folder_out": messages, "control_folder": control}
        return {**folders, "polling_interval": 0.1}

    @property
    def database(self) -> Path:
        return self.data_dir / "imports.sqlite3"


def read(environ: Mapping[str, str]) -> Settings:
    """Return the settings from environment variables. An empty variable counts as not set."""
    return Settings(
        broker_url=environ.get("CELERY_BROKER_URL") or "redis://localhost:6379/0",
        result_backend=environ.get("CELERY_RESULT_BACKEND") or None,
        bridge_url=environ.get("BRIDGE_URL") or "redis://localhost:6379/0",
        data_dir=Path(environ.get("DATA_DIR") or "var").resolve(),
        digest_root=Path(environ.get("DIGEST_ROOT") or SOURCE).resolve(),
    )


settings = read(os.environ)
