"""Streams in a Flask application: the extension `Bridge`.

`extension.py` turns a request into calls of `bridge.streams`; open it first. `errors.py` has the HTTP errors
of a request that is refused. Who may read, cursors and limits are decided in `bridge.streams`.
"""

from bridge.flask.errors import BadTopic, InsufficientScope, TokenNeeded
from bridge.flask.extension import Bridge

__all__ = ["BadTopic", "Bridge", "InsufficientScope", "TokenNeeded"]
