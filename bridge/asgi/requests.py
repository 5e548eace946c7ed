"""Decides about requests of an ASGI application, by its functions and by tokens."""

import asyncio
from collections.abc import Callable
from functools import partial

# `Any` in this module: a request is of any framework.
from typing import Any

from bridge.asgi.application import current_scope
from bridge.asgi.deciding import decide, remembered
from bridge.asgi.response import http_error
from bridge.errors import ConfigurationError
from bridge.streams.access.authorization import Permission, check_cancel_decision, check_decision, soonest
from bridge.streams.access.jwks import MustWait
from bridge.streams.access.tokens import Claims
from bridge.streams.asgi import read_connection, read_request
from bridge.streams.refusal import Refusal
from bridge.streams.request import StreamRequest
from bridge.streams.service import Answer, StreamService
from bridge.streams.takeover.asgi import Scope
from bridge.tasks.events import FEED, task_topic

Authorize = Callable[[Any, str], object]
"""Decides whether a topic may be read, or a task cancelled: takes the request (without Starlette, the scope),
and the topic or the id of the task."""


class Requests:
    """Decides about the requests of one application. The methods of one event loop may run at once."""

    def __init__(self, service: StreamService) -> None:
        self._service = service
        self.authorize: Authorize | None = None
        """Decides who may read, `None` where the settings do."""
        self.authorize_cancel: Authorize | None = None
        """Decides who may cancel, `None` for nobody."""

    async def answer(self, topics: tuple[str, ...], after: str | None, scope: Scope) -> Answer:
        """Return the answer to a request for a stream of `topics`. Raises `Refusal`."""
        asked = read_request(scope)
        topics = self._service.check_topics(topics)
        return await self._answer(topics, asked, await self.permit(topics, asked, scope), scope, after=after)

    async def answer_permitted(
        self, topics: tuple[str, ...], permission: Permission, scope: Scope, decided: tuple[str, ...]
    ) -> Answer:
        """Return the answer to a request for a stream of `topics`, which the permission to read `decided`
        allows. Raises `Refusal`.
        """
        topics = self._service.check_topics(topics)
        return await self._answer(topics, read_request(scope), permission, scope, decided=decided)

    async def _answer(
        self,
        topics: tuple[str, ...],
        asked: StreamRequest,
        permission: Permission,
        scope: Scope,
        *,
        after: str | None = None,
        decided: tuple[str, ...] | None = None,
    ) -> Answer:
        find_key, authorize = self._service.viewer_key, self.authorize
        return self._service.answer(
            topics,
            asked,
            permission,
            key=None if find_key is None else await decide(find_key, scope),
            remember=None if authorize is None else partial(remembered, authorize, scope),
            after=after,
            decided=decided,
        )

    async def check_current(self, topic: str) -> None:
        """Raise an HTTP error unless the request that is handled may read `topic`."""
        scope = current_scope.get()
        asked = None if scope is None else read_connection(scope)
        try:
            await self.permit((topic,), asked, scope)
        except Refusal as refusal:
            raise http_error(refusal) from None

    async def permit_feed(self, scope: Scope) -> Permission:
        """Return what allows a request to read the feed of all tasks. Raises `Refusal`."""
        return await self.permit((FEED,), read_request(scope), scope)

    async def permit(
        self, topics: tuple[str, ...], asked: StreamRequest | None, scope: Scope | None
    ) -> Permission:
        """Return what allows a request to read `topics`. Raises `Refusal`."""
        authorizer = self._service.authorizer
        claims = None if asked is None else await self._claims(asked)
        if claims is not None:
            return authorizer.permit_by_token(claims, topics)
        if self.authorize is None:
            return Permission(ask_after=authorizer.ask(topics, None))
        ask_after = None
        for topic in topics:
            self._service.check_name(topic)
            decision = await decide(self.authorize, _known(scope), topic)
            ask_after = soonest(ask_after, check_decision(decision))
        return Permission(ask_after=ask_after)

    async def check_current_cancel(self, task_id: str) -> None:
        """Raise an HTTP error unless the request that is handled may cancel a task."""
        scope = _known(current_scope.get())
        try:
            claims = await self._claims(read_connection(scope))
            await self.check_cancel(task_id, claims, scope)
        except Refusal as refusal:
            raise http_error(refusal) from None

    async def check_cancel(self, task_id: str, claims: Claims | None, scope: Scope) -> None:
        """Raise `Refusal` unless a request, whose token says `claims`, may cancel a task."""
        if claims is not None or self.authorize_cancel is None:
            self._service.authorizer.check_cancel(task_id, claims, None)
            return
        self._service.check_name(task_topic(task_id))
        check_cancel_decision(await decide(self.authorize_cancel, scope, task_id))

    async def _claims(self, asked: StreamRequest) -> Claims | None:
        """Return what the token of a request says. Its keys are fetched in a thread."""
        authorizer = self._service.authorizer
        try:
            return authorizer.claims(asked, may_wait=False)
        except MustWait:
            return await asyncio.to_thread(authorizer.claims, asked)


def _known(scope: Scope | None) -> Scope:
    """Return the scope of the request that is handled. Raises `ConfigurationError` outside of one."""
    if scope is None:
        raise ConfigurationError(
            "nobody knows which request this is for: call install(app), or serve wrap(app)"
        )
    return scope
