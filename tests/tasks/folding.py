"""What a backend's state amounts to after some events."""

from typing import Any

from bridge.model.publication import Publication
from bridge.model.state import TopicState
from tests import events

RETRIED = {"error": {"type": "E", "message": "m"}, "reason": "m", "retry_at": 1_800_000_000.5}


def state(now: str, attempt: int, **fields: Any) -> Publication:
    """An event that tells a state of the task."""
    return events.make("state", "t1", attempt=attempt, state=now, **fields)


def fold(*made: Publication) -> dict[str, Any]:
    """Return the snapshot that a backend's state amounts to after these events."""
    state, rank = TopicState("task:t1"), -1
    for event in made:
        change = event.change
        if change is not None and not change.refused_by(rank):
            rank = change.rank
            state.fields.update(change.fields)
            state.entries += [event.payload] if change.entry else []
    return events.snapshot(state, "t1")
