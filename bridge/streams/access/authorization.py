"""Authorizer: decides whether a request may read topics, or cancel a task.

A request with a token is decided by the token alone. Without one, the function of the application decides,
and without that the settings do. The right to read never includes the right to cancel.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable
from typing import NamedTuple

from bridge.errors import ConfigurationError
from bridge.streams.access.credentials import find_token, has_token_in_query
from bridge.streams.access.jwks import KeySet, KeysUnavailable, MustWait
from bridge.streams.access.revocations import Revocations
from bridge.streams.access.signatures import InvalidToken
from bridge.streams.access.tokens import CANCEL, READ, Claims, Tokens, make_scope
from bridge.streams.refusal import Refusal, come_back_after, token_invalid, token_needed, token_too_narrow
from bridge.streams.request import StreamRequest
from bridge.streams.settings import Settings, TokenSettings
from bridge.tasks.events import task_topic

logger = logging.getLogger("bridge.streams.service")

Decide = Callable[[str], object]
"""Decides whether a topic may be read, or a task cancelled: true or false. For a topic, a number of seconds
above zero allows it and asks again after that time."""


class Permission(NamedTuple):
    """What allows a request to read."""

    claims: Claims | None = None
    """Those of its token, if it has one."""
    ask_after: float | None = None
    """Seconds after which the function that decided is to be asked again, `None` for never."""


class HowToAllow(NamedTuple):
    """Tells an operator how to allow something, for the log."""

    reading: str
    cancelling: str


class Authorizer:
    """Decides about the requests of one application. Threads and greenlets may share it."""

    def __init__(
        self,
        settings: Settings,
        check_name: Callable[[str], None],
        *,
        how_to_allow: HowToAllow,
        revocations: Revocations,
    ) -> None:
        """`check_name` raises `Refusal` for a bad topic name."""
        self._revocations = revocations
        self._settings = settings
        self._check_name = check_name
        self._how_to_allow = how_to_allow
        self._is_query_logged = False
        self.tokens = None if settings.tokens is None else _tokens(settings.tokens)
        """Makes and verifies tokens, `None` if no token counts."""

    # By a token.

    def make_token(
        self,
        topics: Iterable[str],
        *,
        prefix: str | Iterable[str] | None = None,
        tag: str | Iterable[str] | None = None,
        expires: float = 900,
        subject: str | None = None,
        may: str | Iterable[str] = (READ,),
    ) -> str:
        """Return a token, as the `token` of each adapter does."""
        if self.tokens is None:
            raise ConfigurationError(
                "set BRIDGE_TOKEN_KEYS to make tokens, for example to the result of secrets.token_urlsafe(32)"
            )
        return self.tokens.sign(make_scope(topics, prefix, tag, may), expires=expires, subject=subject)

    def claims(self, request: StreamRequest, *, may_wait: bool = True) -> Claims | None:
        """Return what the token of `request` says, `None` if it has none or no token counts.

        Waits a moment for the backend if it is not known yet what was revoked. A stream that opens before it
        is known is checked later. Raises `Refusal` (401 for a token that is not valid or was revoked, 503 if
        its key cannot be fetched), and without `may_wait`, `MustWait` if it would wait.
        """
        settings = self._settings.tokens
        if settings is None or self.tokens is None:
            return None
        token = find_token(
            authorization=request.authorization,
            cookies=request.cookies,
            query=request.query_string,
            cookie=settings.cookie,
            in_query=settings.in_query,
        )
        if token is None:
            if not settings.in_query and has_token_in_query(request.query_string):
                self._log_token_in_query()
            return None
        try:
            claims = self.tokens.verify(token, may_wait=may_wait)
        except InvalidToken as error:
            raise token_invalid(str(error)) from None
        except KeysUnavailable:
            detail = "the keys that verify tokens cannot be fetched; try again later"
            raise Refusal(503, detail, retry_after=come_back_after()) from None
        if self._revocations.worth_waiting():
            if not may_wait:
                raise MustWait
            self._revocations.wait()
        self._check_revoked(claims)
        return claims

    def _log_token_in_query(self) -> None:
        """Say once that a token was sent where none counts."""
        if not self._is_query_logged:
            self._is_query_logged = True
            logger.warning(
                "a request has a token in its query, where it does not count, because URLs are kept in logs: "
                "send it in the header Authorization or in the cookie, or set BRIDGE_TOKEN_IN_QUERY = True. "
                "Further ones are not logged",
                extra={"event": "token_in_query"},
            )

    def may_wait(self) -> bool:
        """Return whether `claims` may wait for the keys of another issuer or for the backend."""
        settings = self._settings.tokens
        return settings is not None and (settings.jwks_url is not None or self._revocations.worth_waiting())

    def _check_revoked(self, claims: Claims, topics: Iterable[str] = ()) -> None:
        """Raise `Refusal` (401) if a token was revoked, or one of `topics` since it was issued."""
        if self._revocations.refuses(claims.subject, claims.token_id, claims.issued_at, topics):
            raise token_invalid("the token has been revoked")

    def permit_by_token(self, claims: Claims, topics: Iterable[str]) -> Permission:
        """Raise `Refusal` (404 for a bad name, 403, 401) unless a token allows to read `topics`."""
        topics = tuple(topics)
        for topic in topics:
            self._check_name(topic)
            if READ not in claims.scope.may or not claims.scope.covers(topic):
                raise token_too_narrow("the token is valid, but not for reading this topic")
        self._check_revoked(claims, topics)
        return Permission(claims)

    # Reading.

    def permit(self, topics: Iterable[str], request: StreamRequest, may_read: Decide | None) -> Permission:
        """Return what allows `request` to read `topics`; without a token and `may_read` the settings decide.

        Raises `Refusal` (401, 403, 503, and 404 for a bad name), `ValueError` for a topic that is no `str`,
        and what `may_read` raises. An adapter that awaits its decisions calls `claims`, `permit_by_token`,
        `check_decision` and `soonest` itself.
        """
        claims = self.claims(request)
        if claims is not None:
            return self.permit_by_token(claims, topics)
        return Permission(ask_after=self.ask(topics, may_read))

    def ask(self, topics: Iterable[str], may_read: Decide | None) -> float | None:
        """Ask about each topic; return the seconds after which to ask again. Raises as `permit` does."""
        decide = may_read if may_read is not None else self.allows
        ask_after = None
        for topic in topics:
            self._check_name(topic)
            ask_after = soonest(ask_after, check_decision(decide(topic)))
        return ask_after

    def allows(self, topic: str) -> bool:
        """Return `True` if the settings let everyone read, else raise `Refusal`; may log how to allow it."""
        if not self._settings.public:
            self._nothing_allows("read", topic, self._how_to_allow.reading)
        return True

    # Cancelling.

    def check_cancel(self, task_id: str, claims: Claims | None, may_cancel: Decide | None) -> None:
        """Raise `Refusal` (401, 403 or 503, 404 for a bad id) unless a request may cancel a task.

        `claims` are those of its token. Without a token `may_cancel` decides, and without it nobody may.
        """
        topic = task_topic(task_id)
        self._check_name(topic)
        if claims is None:
            decide = may_cancel if may_cancel is not None else self._allows_cancel
            check_cancel_decision(decide(task_id))
        elif CANCEL not in claims.scope.may or not claims.scope.covers(topic):
            raise token_too_narrow("the token is valid, but not for cancelling this task")
        elif self._revocations.missing:
            detail = "it is not known yet whether the token was revoked; try again later"
            raise Refusal(503, detail, retry_after=come_back_after())
        else:
            self._check_revoked(claims, [topic])

    @staticmethod
    def may_cancel_some(claims: Claims | None, may_cancel: object) -> bool:
        """Return whether a request may have the right to cancel tasks: `check_cancel` decides about one.

        `may_cancel` is the function of the application, if any.
        """
        return may_cancel is not None if claims is None else CANCEL in claims.scope.may

    def _allows_cancel(self, task_id: str) -> bool:
        self._nothing_allows("cancel", task_id, self._how_to_allow.cancelling)
        return False

    def _nothing_allows(self, what: str, name: str, how: str) -> None:
        """Raise `Refusal`. With tokens it is usual that a request comes without one, so nothing is logged."""
        tokens = self._settings.tokens
        if tokens is not None:
            raise token_needed(tokens.cookie, in_query=tokens.in_query)
        logger.error(
            "refused to %s %r: nothing decides who may %s. %s",
            what,
            name,
            what,
            how,
            extra={"event": "no_decision", "right": what, "target": name},
        )
        raise Refusal(403, f"nothing decides who may {what} this; the server's log says how to allow it")


def _tokens(settings: TokenSettings) -> Tokens:
    key_set = None if settings.jwks_url is None else KeySet(settings.jwks_url)
    return Tokens(
        settings.keys, key_set, audience=settings.audience, issuer=settings.issuer, lifetime=settings.lifetime
    )


def check_decision(allowed: object) -> float | None:
    """Return the seconds after which to ask again, `None` for never.

    `allowed` is the result of a `Decide` for a topic. Raises `Refusal` (403) unless it is true, and as
    `_refuse_coroutine` does.
    """
    if allowed is True:
        return None
    _refuse_coroutine(allowed)
    if isinstance(allowed, int | float) and not isinstance(allowed, bool):
        if not allowed > 0:
            raise Refusal(403, "you may not read this topic")
        return float(allowed)
    if not allowed:
        raise Refusal(403, "you may not read this topic")
    return None


def check_cancel_decision(allowed: object) -> None:
    """Raise `Refusal` (403) unless `allowed`, the result of a `Decide` for a task, is true."""
    _refuse_coroutine(allowed)
    if not allowed:
        raise Refusal(403, "you may not cancel this task")


def soonest(one: float | None, other: float | None) -> float | None:
    """Return the smaller number of seconds, where `None` stands for never."""
    return other if one is None else one if other is None else min(one, other)


def _refuse_coroutine(allowed: object) -> None:
    """Raise `ConfigurationError` for a coroutine or a generator: it is true, but nothing has decided."""
    if isinstance(allowed, Generator | AsyncGenerator):
        raise ConfigurationError(
            "the function that decides is a generator: it has a `yield`; return the decision"
        )
    if isinstance(allowed, Awaitable):
        if isinstance(allowed, Coroutine):
            allowed.close()  # otherwise Python warns that nothing awaited it
        raise ConfigurationError(
            "the function that decides is a coroutine function, which this framework does not await; use a "
            "plain function"
        )
