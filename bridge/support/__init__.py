"""Helpers without a domain: forks, backoff, tokens, wakers, URLs, checks of arguments, the server.

Nothing here knows a message, a topic or a task. Every other package may import these modules. Start with
`validate.py` for the checks of public arguments and `fork.py` for what happens in a forked child.
"""
