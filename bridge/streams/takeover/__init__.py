"""Takes a connection over from the web server, so that a stream needs no thread of its own.

Each module knows one kind of server interface and no framework. Start with `wsgi.py`; `connection.py` is
what it returns, and `gevent_server.py` has what is special about gevent.
"""
