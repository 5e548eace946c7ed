"""Topics on any backend: the public channel, and the transport behind it.

`contract.py` has the promises: read it first. `channel.py` has the public classes, `transport.py` what
they and the other packages share. `hub.py` is the thread that reads the backend, and `sequencer.py` decides
which reader gets which message next. This package knows no backend by name, and not the meaning of a message.
"""
