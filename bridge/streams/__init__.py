"""Server-Sent Events for any web framework: who may read, cursors, encoding, and one thread for all viewers.

This package knows no framework: an adapter such as `bridge/flask/` translates requests and responses. Start
with `service.py`, which decides about a request. Then `opening.py` and `wsgi.py` open the stream, `loop.py`
serves its viewer, and `connections.py` sends. `encoder.py` is what viewers see. `access/` decides who may
read, and `grants.py` ends the streams that may not go on.
"""
