"""One module a command, with the name of the command.

Django lists the modules of this package, and imports the one that is called.
Open `bridge.py` first; it is the only one.
"""
