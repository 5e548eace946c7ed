import os

import tasks
from flask import Flask, request, send_file, session

import bridge
from bridge.flask import Bridge

app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
app.config["BRIDGE_URL"] = "redis://localhost:6379/0"
streams = Bridge(app)


@streams.authorize
def may_read(topic):
    return topic in session.get("topics", [])


@app.get("/")
def page():
    return send_file("index.html")


@app.post("/jobs")
def start():
    job = tasks.resize.delay(200)
    session["topics"] = [*session.get("topics", [])[-19:], bridge.task_topic(job.id)]
    return {"id": job.id}, 202


@app.get("/events")
def events():
    return streams.stream(*request.args.getlist("topic"))
