"""What task events mean: their types, their JSON, snapshots, progress and the background publisher.

This package knows neither Celery nor HTTP. Start with `event_types.py` for the events and their fields, and
`events.py` for their JSON. `changes.py` has the changes of an event in the state of its task, `snapshot.py`
reads that state, `publisher.py` sends events, and `liveness.py` finds tasks whose worker has vanished.
"""
