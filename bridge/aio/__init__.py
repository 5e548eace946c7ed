"""The channel for coroutines: the same views, and no call that blocks the event loop.

It adds no backend and no thread per subscription. Start with `subscription.py`; `watching.py` has the typed
events of a task. `executor.py` has the threads in which calls wait for the backend, `waiter.py` and
`loop_waker.py` wake the coroutines of an event loop, and `liveness.py` notices workers that have vanished.
"""

from bridge.aio.subscription import AsyncSubscription, history, publish, subscribe
from bridge.aio.watching import watch
from bridge.tasks.event_types import (
    CancelRequested,
    Custom,
    End,
    Event,
    Log,
    Progress,
    Reset,
    Snapshot,
    State,
    Step,
)
from bridge.tasks.typed import to_json

__all__ = [
    "AsyncSubscription",
    "CancelRequested",
    "Custom",
    "End",
    "Event",
    "Log",
    "Progress",
    "Reset",
    "Snapshot",
    "State",
    "Step",
    "history",
    "publish",
    "subscribe",
    "to_json",
    "watch",
]
