import os
from pathlib import Path
from typing import Annotated

import tasks
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse
from starlette.middleware.sessions import SessionMiddleware

import bridge
from bridge.asgi import RESPONSES, Bridge, StreamResponse

app = FastAPI()
app.add_middleware(SessionMiddleware, secret_key=os.environ["SECRET_KEY"])
streams = Bridge("redis://localhost:6379/0")
streams.install(app)


@streams.authorize
async def may_read(request: Request, topic: str) -> bool:
    return topic in request.session.get("topics", [])


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))


@app.post("/jobs", status_code=202)
def start(request: Request) -> dict[str, str]:
    job = tasks.resize.delay(200)
    topics = request.session.get("topics", [])
    request.session["topics"] = [*topics[-19:], bridge.task_topic(job.id)]
    return {"id": job.id}


@app.get("/events", response_class=StreamResponse, responses=RESPONSES)
async def events(topic: Annotated[list[str], Query()]) -> StreamResponse:
    return streams.stream(*topic)
