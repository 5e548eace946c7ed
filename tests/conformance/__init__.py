"""Every client reads the same from a stream, in every framework, under every server, behind every nginx.

`reading.py`, `answers.py` and `viewers.py` have the tests; a `test_` module for each framework runs all of
them under its servers, so that two processes share the work. `conftest.py` starts the servers.
"""
