"""Commands of `manage.py`. Django looks for them in this package.

It only hands on what is given on the command line; the commands themselves are in `bridge.cli`.
Open `commands/bridge.py` first.
"""
