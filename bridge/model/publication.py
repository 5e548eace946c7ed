"""A message on its way to the backend."""

from dataclasses import dataclass, field

from bridge.model.state import Change
from bridge.support.tokens import new_token


@dataclass(slots=True)
class Publication:
    """A message to publish, with what it changes in the state of its topic."""

    topic: str
    payload: bytes
    kind: str | None = None
    """The type of the task event in `payload`; `None` for other messages."""
    change: Change | None = None
    token: bytes = field(default_factory=new_token)
    """Tells the message from all others. A message is published once per token, where messages are kept."""
    repeated: bool = False
    """Whether a message with this token may have been published already."""
