"""Topics over any backend: the contract, the channel, the hub and subscriptions.

This package does not know what a message means, and no backend by name. Start with `contract.py` for what is
promised, then `hub.py` for the thread that reads the backend, and `sequencer.py` for the order of messages.
"""
