"""The channel for coroutines: the same views, and no call that blocks the event loop.

It adds no backend and no thread per subscription. Start with `subscription.py`. `executor.py` has the threads
in which calls wait for the backend, `loop_waker.py` wakes the coroutines of an event loop.
"""

from bridge.aio.subscription import AsyncSubscription, history, publish, subscribe

__all__ = ["AsyncSubscription", "history", "publish", "subscribe"]
