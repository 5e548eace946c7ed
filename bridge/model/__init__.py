"""Plain data: messages, positions, the state of a topic, the counts of a canvas.

Nothing here does I/O, takes a lock or knows Celery or HTTP. Start with `message.py` for what a subscription
delivers, `position.py` for ids, and `state.py` for what a backend keeps of a topic.
"""
