"""Calls the functions of an application that decide about a request: plain ones and coroutine functions."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

# Any: a request is of any framework.
from typing import Any, cast

from bridge.asgi.response import http_status
from bridge.streams.access.authorization import Decide
from bridge.streams.grants import ANSWER_WITHIN
from bridge.streams.kept_request import ends_stream, kept_scope, not_allowed_any_more
from bridge.streams.takeover.asgi import Scope

try:
    from starlette.requests import HTTPConnection, Request
except ImportError:  # another framework
    HTTPConnection = Request = None  # type: ignore[assignment, misc]  # checked before they are used

Function = Callable[..., object]
"""Takes the request (without Starlette, the scope), and what it decides about."""


async def decide(function: Function, scope: Scope, *about: str) -> object:
    """Return what `function` decides, a plain function in a thread."""
    request = _request_of(scope)
    if inspect.iscoroutinefunction(function):
        return await cast(Awaitable[object], function(request, *about))  # it is a coroutine function
    decision = await asyncio.to_thread(_call, function, request, *about)
    # An object whose `__call__` is a coroutine function, or a function that returns a coroutine.
    return await decision if isinstance(decision, Awaitable) else decision


def remembered(authorize: Function, scope: Scope) -> Decide:
    """Keep a request; return a function that asks `authorize` about it again, in any thread.

    A coroutine runs in this event loop, or, once it is closed, in one of its own. An HTTP error of the client
    becomes the `Refusal` that ends the stream.
    """
    request, loop = _request_of(kept_scope(scope)), asyncio.get_running_loop()

    def ask_again(topic: str) -> object:
        try:
            decision = authorize(request, topic)
            return _wait(decision, loop) if isinstance(decision, Awaitable) else decision
        except Exception as error:
            if ends_stream(http_status(error) or 0):
                raise not_allowed_any_more() from None
            raise

    return ask_again


def _wait(decision: Awaitable[object], loop: asyncio.AbstractEventLoop) -> object:
    async def result() -> object:
        return await decision

    if not loop.is_running():
        return asyncio.run(result())
    future = asyncio.run_coroutine_threadsafe(result(), loop)
    try:
        return future.result(ANSWER_WITHIN)
    finally:
        future.cancel()


def _request_of(scope: Scope) -> Any:
    """Return what a function gets: Starlette's request, without Starlette the scope."""
    if Request is None:
        return scope
    return Request(scope) if scope["type"] == "http" else HTTPConnection(scope)


def _call(function: Function, request: Any, *about: str) -> object:
    try:
        return function(request, *about)
    except StopIteration as error:  # no future takes it: who waits for the thread would wait for ever
        raise RuntimeError("authorize raised StopIteration") from error
