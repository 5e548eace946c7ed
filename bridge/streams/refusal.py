"""Refusal: the answer to a request that gets no stream, without a framework."""

import random

COME_BACK_AFTER = (5, 15)
"""Seconds, drawn between these, after which a viewer for whom there was no room may ask again."""


class Refusal(Exception):
    """A request is answered with an error status.

    `status` is the HTTP status (403, 404, 429 or 503), `detail` a sentence for the client, `retry_after` the
    seconds for the `Retry-After` header, if any. With `close_connection` the server closes the connection
    after the answer.
    """

    def __init__(
        self, status: int, detail: str, *, retry_after: int | None = None, close_connection: bool = False
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.close_connection = close_connection


def come_back_after() -> int:
    """Return the seconds after which a refused viewer may ask again, at random so that not all do at once."""
    return random.randint(*COME_BACK_AFTER)
