"""SQLSpec's event channels as a backend, for applications that use SQLSpec already.

It broadcasts live messages only: it keeps no messages and no state of tasks. Start with `backend.py`.
`event_channel.py` calls SQLSpec from threads, and `event_loops.py` chooses the loop of an asynchronous one.
"""

from bridge.sqlspec.backend import connect

__all__ = ["connect"]
