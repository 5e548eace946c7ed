"""Plain data: messages, positions, the state of a topic, the counts of a canvas.

Nothing here does I/O, takes a lock or knows Celery or HTTP. Start with `message.py` for what a subscription
delivers, `publication.py` for what a backend is given, `position.py` for ids, `state.py` for what a backend
keeps of a topic, and `counts.py` for the parts of a canvas.
"""
