"""Loads the Lua scripts and runs them on the servers.

Each script is a file in `lua/`. A file names the files that it needs, as in `-- requires: append, find`.
Their text comes before its own. Names in capitals that no file defines are settings of the backend. Their
values are written into the text, because local variables cost time in each call.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import redis

from bridge.backends.redis.link import Argument
from bridge.backends.redis.servers import Servers

SCRIPTS = (
    "acknowledge", "keep", "publish_any", "publish_batch", "publish_change", "publish_message",
    "publish_to_group", "read_acknowledged", "read_history", "read_last", "read_listed",
    "read_states", "renew",
    "send_change", "send_part",
)  # fmt: skip
"""The files that are run; each other one is required by one of them."""

_REQUIRES = re.compile(r"^-- requires: (.+)$", re.MULTILINE)
_COMMENT_LINES = re.compile(r"^ *--.*\n", re.MULTILINE)


class Scripts:
    """The scripts of one backend. Threads may share it."""

    def __init__(self, servers: Servers, settings: Mapping[str, str | int | float]) -> None:
        self._servers = servers
        self._settings = {name: _literal(value) for name, value in settings.items()}
        self._names = re.compile(rf"\b({'|'.join(settings)})\b")
        # Filled by any thread, without a lock: two threads make the same text.
        self._texts: dict[str, str] = {}
        self._digests: dict[str, str] = {}

    # Any: each script has an answer of its own.
    def run(self, name: str, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """Run a script and return its answer. Raises the errors of the driver.

        The text is sent only if the server does not know it.
        """
        try:
            return self._servers.send("EVALSHA", self._digest(name), len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self._servers.send("EVAL", self.text(name), len(keys), *keys, *args)

    def text(self, name: str) -> str:
        """Return the text that the server runs."""
        text = self._texts.get(name)
        if text is None:
            text = self._names.sub(lambda found: self._settings[found[0]], source(name))
            self._texts[name] = text
        return text

    def _digest(self, name: str) -> str:
        digest = self._digests.get(name)
        if digest is None:
            text = self.text(name).encode()
            digest = self._digests[name] = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        return digest


@cache
def source(name: str) -> str:
    """Return the text of a script after those that it requires, without the lines that are comments."""
    return "".join(_COMMENT_LINES.sub("", text) for text in files_of(name).values())


def files_of(name: str) -> dict[str, str]:
    """Return the texts of a script and of all files that it requires, by name, in the order of the text."""
    text = resources.files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
    texts: dict[str, str] = {}
    for names in _REQUIRES.findall(text):
        for required in names.split(", "):
            texts |= {found: known for found, known in files_of(required).items() if found not in texts}
    return texts | {name: text}


def _literal(value: str | float) -> str:
    return f"'{value}'" if isinstance(value, str) else f"{value}"
