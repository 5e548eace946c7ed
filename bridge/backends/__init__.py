"""Backends carry messages: memory, Redis and SQL databases.

A backend knows topics, payloads and state fields, not what they mean. Read `base.py` before you write one:
it contains everything that a backend must do. `registry.py` maps a URL to its backend.
"""
