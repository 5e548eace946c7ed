"""SQLSpec's event channels as a backend, for applications that run SQLSpec already.

It broadcasts live messages only and keeps none. Start with `backend.py`.
"""

from bridge.sqlspec.backend import connect

__all__ = ["connect"]
