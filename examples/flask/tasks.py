import time

from celery import Celery

from bridge.celery import install, track

app = Celery("tasks", broker="redis://localhost:6379/0")
install(app, "redis://localhost:6379/0")


@app.task
def resize(count: int) -> None:
    for _ in track(range(count), message="resizing images"):
        time.sleep(0.1)
