"""Server-Sent Events for any web framework: cursors, encoding, viewers and the loop that serves them.

This package knows no framework: the adapters (`bridge/flask.py`) translate requests and responses. Start with
`service.py` for how a stream is opened, then `loop.py` for the thread that sends to all viewers.
"""
