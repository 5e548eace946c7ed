"""Taking a connection over from the web server, so that a stream needs no thread of its own.

Each module knows one kind of server interface and no framework. Start with `wsgi.py`.
"""
