"""What task events mean: their fields, their JSON, snapshots, progress and the background publisher.

This package knows neither Celery nor HTTP. Start with `events.py` for the events and their fields, then
`publisher.py` for how they leave the process and `liveness.py` for tasks whose worker has vanished.
"""
