"""Refusal: the answer to a request that gets no stream, without a framework."""

import random
from collections.abc import Mapping

COME_BACK_AFTER = (5, 15)
"""Seconds, drawn between these, after which a viewer for whom there was no room may ask again."""

_REALM = 'Bearer realm="celery-event-bridge"'

_REASONS = {401: "token", 403: "forbidden", 404: "name", 429: "topics", 431: "headers", 503: "unavailable"}


def reason_of_status(status: object) -> str:
    """Return one word for why a request was refused, for metrics, from the HTTP status of the answer."""
    return _REASONS.get(status, "error") if isinstance(status, int) else "error"


class Refusal(Exception):
    """A request is answered with an error status.

    `status` is the HTTP status (401, 403, 404, 429, 431 or 503), `detail` a sentence for the client,
    `retry_after` the seconds for the `Retry-After` header, if any. `challenge` is the `WWW-Authenticate`
    header, if any (RFC 6750). With `close_connection` the server closes the connection after the answer.
    `reason` is one word for metrics, by default that of the status.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after: int | None = None,
        challenge: str | None = None,
        close_connection: bool = False,
        reason: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason or reason_of_status(status)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.challenge = challenge
        self.close_connection = close_connection

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the answer, beside those of its body."""
        found = {}
        if self.retry_after is not None:
            found["Retry-After"] = str(self.retry_after)
        if self.challenge is not None:
            found["WWW-Authenticate"] = self.challenge
        return found


def token_needed(cookie: str, *, in_query: bool) -> Refusal:
    """Return the answer to a request without a token where only a token allows it (401): where to send one,
    with the name of the cookie, and with `in_query` also in the query.
    """
    places = f"in the header Authorization: Bearer TOKEN, or in the cookie {cookie}"
    query = ", or in the URL as ?token=TOKEN" if in_query else "; a token in the URL is not accepted"
    return Refusal(401, f"this needs a token: send it {places}{query}", challenge=_REALM)


def token_invalid(why: str) -> Refusal:
    """Return the answer to a token that does not count (401). `why` must not quote it."""
    challenge = f'{_REALM}, error="invalid_token", error_description="{why}"'
    return Refusal(401, why, challenge=challenge)


def token_too_narrow(detail: str) -> Refusal:
    """Return the answer to a token that counts, but not for this (403)."""
    return Refusal(403, detail, challenge=f'{_REALM}, error="insufficient_scope"')


def come_back_after() -> int:
    """Return the seconds after which a refused viewer may ask again, at random so that not all do at once."""
    return random.randint(*COME_BACK_AFTER)
