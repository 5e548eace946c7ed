"""The arguments of a task as its events store them, where `install(arguments=True)` asks for it.

They are JSON, bounded, and without what looks like a secret. An event says whether they are those of the
task, because only then the task can be run again with them.
"""

import json
import re
from collections.abc import Mapping, Sequence

# `Any` in this module: arguments and headers of a task hold any value.
from typing import Any

from celery.utils.saferepr import saferepr

from bridge.tasks.encoding import in_words

LARGEST = 16 * 1024
"""Characters of JSON that the arguments of a task may have to be stored."""

HIDDEN = "********"
"""Stands for a value whose name says that it is a secret."""

_SECRET = re.compile(
    r"pass(word|wd|phrase|code)?$|passw|secret|token|api_?key|private_?key|access_?key|credential|authori[sz]"
    r"|cookie|session|signature",
    re.IGNORECASE,
)

_CHANGED = {"arguments_changed": True}

_REPR_MAXSIZE = 1024
"""Characters of Celery's own text for the arguments of a task."""


def fields_of(headers: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the event that a task is queued, or has started.

    Who gives `apply_async` a text of their own in place of the arguments (`argsrepr`, `kwargsrepr`) hides
    them: then they are not stored.
    """
    for name, value in (("argsrepr", args), ("kwargsrepr", kwargs)):
        text = headers.get(name)
        if text is not None and text != saferepr(value, _REPR_MAXSIZE):
            return _CHANGED
    given = [list(args), dict(kwargs)]
    encoded = _bounded_json(given)
    if encoded is None:
        return _CHANGED
    found = json.loads(encoded)
    shown = _without_secrets(found)
    fields = {"args": shown[0], "kwargs": shown[1]}
    # Celery's JSON turns tuples and keys into other values too, but other serializers do not.
    return fields if shown == given else fields | _CHANGED


def fields_of_request(request: Any) -> dict[str, Any]:
    """Return the fields of the event that a task has started.

    A worker may start a task before the event that it is queued arrives, which is then refused.
    """
    texts = {name: getattr(request, name, None) for name in ("argsrepr", "kwargsrepr")}
    return fields_of(texts, tuple(request.args or ()), request.kwargs or {})


def _bounded_json(value: Any) -> str | None:
    """Return the JSON of `value`, `None` if it is larger than `LARGEST` or cannot be made.

    It is made piece by piece, so that arguments of many megabytes cost little.
    """
    pieces: list[str] = []
    size = 0
    try:
        for piece in json.JSONEncoder(default=in_words, allow_nan=False).iterencode(value):
            size += len(piece)
            if size > LARGEST:
                return None
            pieces.append(piece)
    except Exception:  # a value's own methods may raise anything
        return None
    return "".join(pieces)


def _without_secrets(value: Any) -> Any:
    """Return a copy of decoded JSON in which secrets are hidden."""
    if isinstance(value, dict):
        return {
            name: HIDDEN if _SECRET.search(name) and held is not None else _without_secrets(held)
            for name, held in value.items()
        }
    return [_without_secrets(held) for held in value] if isinstance(value, list) else value
