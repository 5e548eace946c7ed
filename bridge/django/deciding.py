"""Calls the functions of a project that decide about a request."""

import copy
import io
from collections.abc import Awaitable

# `Any` in this module: Django has no types.
from typing import Any

from asgiref.sync import async_to_sync
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.utils.functional import SimpleLazyObject

from bridge.django.configuration import Authorize
from bridge.django.responses import close_connections
from bridge.streams.access.authorization import Decide
from bridge.streams.kept_request import kept_environ, kept_scope, not_allowed_any_more


def deciding(function: Authorize | None, request: Any, *, awaits: bool) -> Decide | None:
    """Return the decision about `request`. Only with `awaits` it may be a coroutine function's."""
    if function is None:
        return None

    def decide(about: str) -> object:
        try:
            decision = function(request, about)
        except StopIteration as error:  # no future takes it: the event loop would wait for ever
            raise RuntimeError("AUTHORIZE raised StopIteration") from error
        if awaits and isinstance(decision, Awaitable):
            return async_to_sync(_result)(decision)
        return decision

    return decide


async def _result(decision: Awaitable[object]) -> object:
    return await decision


def remembered(authorize: Authorize, request: Any) -> Decide:
    """Keep a request; return a function that asks `authorize` about it again, in any thread.

    The session and the user of the session are read again, everything else is as it was. What Django answers
    with an error of the client becomes the `Refusal` that ends the stream.
    """
    kept = _kept(request)
    has_user = _is_user_of_session(request)

    def ask_again(topic: str) -> object:
        asked = _with_new_session(kept, has_user=has_user)
        decide = deciding(authorize, asked, awaits=True)
        try:
            return decide is not None and decide(topic)
        except (PermissionDenied, Http404, SuspiciousOperation):
            raise not_allowed_any_more() from None
        finally:
            close_connections()

    return ask_again


def _kept(request: Any) -> Any:
    """Return a copy of a request without the body, and without what the server put into it."""
    kept = copy.copy(request)
    kept.resolver_match = request.resolver_match
    kept._stream = io.BytesIO()
    if hasattr(request, "scope"):
        kept.scope = kept_scope(request.scope)
    else:
        kept.environ = kept.META = kept_environ(request.META)
    return kept


def _is_user_of_session(request: Any) -> bool:
    """Return whether AuthenticationMiddleware has found the user by the session."""
    from django.contrib.auth import SESSION_KEY

    session, user = getattr(request, "session", None), getattr(request, "user", None)
    return session is not None and isinstance(user, SimpleLazyObject) and SESSION_KEY in session


def _with_new_session(kept: Any, *, has_user: bool) -> Any:
    asked = copy.copy(kept)
    asked.resolver_match = kept.resolver_match
    for name in ("scope", "environ", "META"):
        if hasattr(kept, name):
            setattr(asked, name, getattr(kept, name))
    session = getattr(kept, "session", None)
    if session is not None:
        asked.session = type(session)(session.session_key)
    if has_user:
        from django.contrib.auth import get_user

        asked.user = SimpleLazyObject(lambda: get_user(asked))
    return asked
