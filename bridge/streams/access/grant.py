"""Grant: what allows one open stream to go on, and until when."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Grant:
    """What allows a stream to go on. Times are those of `time.monotonic`; `inf` stands for never.

    A stream without an end has no grant. After the stream has begun, only the loop's thread uses it.
    """

    subject: str = ""
    """Whose token it was, empty if it had no subject, or no token decided."""
    token_id: str = ""
    """The id of the token, empty without one."""
    issued_at: float | None = None
    """When the token was issued, in seconds since the epoch; `None` if no token decided."""
    expires_at: float = math.inf
    """When the token expires."""
    leave_at: float = math.inf
    """When the stream has lasted as long as a stream may."""
    ask: Callable[[], float | None] | None = field(default=None, repr=False)
    """Asks again whether the stream may go on. Called in a thread. Returns the seconds after which to ask
    again, or `None` for never. Raises `Refusal` if the stream is to end."""
    ask_after: float = math.inf
    """Seconds after which `ask` is called."""
    ask_at: float = math.inf
    """When `ask` is to be called."""
    is_asked: bool = False
    """Whether `ask` was called and has not answered yet."""
    second: int | None = None
    """The second by which the schedule keeps the viewer, `None` if it does not."""

    def next_at(self) -> float:
        """Return when something is to be done next."""
        return min(self.expires_at, self.leave_at, self.ask_at)
