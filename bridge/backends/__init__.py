"""What carries messages: memory, Redis and SQL databases.

A backend knows topics, payloads and state fields, not what they mean. Read `base.py` before you write one:
it says all that the channel asks of a backend. `registry.py` maps a URL to its backend.
"""
