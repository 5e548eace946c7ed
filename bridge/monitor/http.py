"""Requests and answers of the monitor, whatever framework carries them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

# `Any` in this module: the members of a JSON object.
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from bridge.streams.refusal import Refusal

NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""The headers of answers that are about now."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for something below the path of the monitor."""

    method: str
    path: str
    """What follows the path of the monitor, with the slash; empty for the path itself. It is decoded."""
    query_string: str
    header: Callable[[str], str | None] = field(repr=False)
    """Returns the header with a name, `None` without one."""

    @property
    def query(self) -> Mapping[str, list[str]]:
        """Return the parameters of the query."""
        return parse_qs(self.query_string, keep_blank_values=True)


class Answer(NamedTuple):
    """An answer with its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Problem(Exception):
    """A request that cannot be answered as asked: `detail` is a sentence for people."""

    def __init__(self, status: int, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.members = members


def json_answer(body: object, status: int = 200) -> Answer:
    """Return an answer with a JSON body."""
    # ASCII: lone surrogates, which a name of a task may have, cannot be encoded otherwise.
    return Answer(status, {**NO_STORE, "Content-Type": "application/json"}, json.dumps(body).encode())


def problem_answer(problem: Problem | Refusal) -> Answer:
    """Return the answer that says what is wrong, as `application/problem+json` (RFC 9457)."""
    members = problem.members if isinstance(problem, Problem) else {}
    headers = {**NO_STORE, "Content-Type": "application/problem+json"}
    if isinstance(problem, Refusal):
        headers |= problem.headers
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **members,
    }
    return Answer(problem.status, headers, json.dumps(body).encode())
