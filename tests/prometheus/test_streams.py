"""`collector`: what a registry gets, from each framework, as docs/metrics.md shows it."""

import subprocess
import sys
import uuid

import pytest
from flask import Flask, abort
from prometheus_client import CollectorRegistry

from bridge.flask import Bridge
from bridge.prometheus import collector
from tests.markdown import ROOT, block


@pytest.fixture
def app() -> Flask:
    """An application that lets nobody read `secret`."""
    app = Flask(__name__)
    app.config.update(BRIDGE_URL=f"memory://{uuid.uuid4().hex}", BRIDGE_MAX_VIEWERS_PER_ADDRESS=1)
    streams = app.extensions["streams"] = Bridge(app)

    @streams.authorize
    def may_read(topic: str) -> bool:
        return topic != "secret" or abort(401)

    app.add_url_rule("/stream/<path:topic>", view_func=lambda topic: streams.stream(topic), endpoint="stream")
    return app


def number(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_the_numbers_are_those_of_the_viewers(app: Flask) -> None:
    """An open stream, one that ended, and requests that were refused are counted by reason."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector(app.extensions["streams"]))
    client = app.test_client()
    response = client.get("/stream/orders")
    assert next(response.iter_encoded()).startswith(b"retry:")
    assert number(registry, "bridge_viewers") == 1
    assert client.get("/stream/orders").status_code == 429
    assert client.get("/stream/secret").status_code == 401
    assert client.get("/stream/" + "x" * 1000).status_code == 404
    assert client.get("/stream/task:1", headers={"Last-Event-ID": "end"}).status_code == 204
    response.close()
    assert number(registry, "bridge_viewers") == 0
    assert number(registry, "bridge_viewers_opened_total") == 1
    for reason in ("address", "token", "name"):
        assert number(registry, "bridge_viewers_refused_total", reason=reason) == 1
    assert number(registry, "bridge_viewers_refused_total", reason="error") == 0
    assert number(registry, "bridge_replays_total", result="ended") == 1
    assert number(registry, "bridge_backend_up") == 1


def test_an_app_that_is_prepared_later_counts() -> None:
    """The collector may be made before `init_app`. It sums up the apps, and in a request has those of one."""
    streams = Bridge()
    registry = CollectorRegistry()
    registry.register(collector(streams))
    assert number(registry, "bridge_viewers") == 0
    opened = []
    for _ in range(2):
        app = Flask(__name__)
        app.config.update(BRIDGE_URL="memory://", BRIDGE_PUBLIC=True)
        streams.init_app(app)
        app.add_url_rule("/orders", view_func=lambda: streams.stream("orders"), endpoint="orders")
        opened.append(app.test_client().get("/orders"))
        next(opened[-1].iter_encoded())
    assert number(registry, "bridge_viewers") == 2
    with app.app_context():
        assert number(registry, "bridge_viewers") == 1
    for response in opened:
        response.close()


def test_it_takes_streams_only() -> None:
    """Something else is refused at once, with what it takes."""
    with pytest.raises(TypeError, match="not str"):
        collector("redis://localhost")  # type: ignore[arg-type]  # that is the mistake


def test_the_flask_example_serves_the_metrics() -> None:
    """The first example of docs/metrics.md, in a process of its own: it uses the registry of all."""
    example = block(
        "docs/metrics.md", "from flask import Response\nfrom prometheus_client import CONTENT_TYPE_LATEST, R"
    )
    run(
        "from flask import Flask\nfrom bridge.flask import Bridge\napp = Flask('shop')\n"
        "app.config.update(BRIDGE_URL='memory://', BRIDGE_PUBLIC=True)\nstreams = Bridge(app)\n"
        f"{example}\n"
        "found = app.test_client().get('/metrics')\n"
        "assert 'bridge_viewers 0.0' in found.text and found.mimetype == 'text/plain'\n"
    )


def test_the_asgi_example_serves_the_metrics() -> None:
    """The example mounts the application of prometheus_client in FastAPI."""
    example = block("docs/metrics.md", "from prometheus_client import REGISTRY, make_asgi_app\n")
    run(
        "from fastapi import FastAPI\nfrom fastapi.testclient import TestClient\n"
        "from bridge.asgi import Bridge\n"
        "app = FastAPI()\nstreams = Bridge('memory://', public=True)\nstreams.install(app)\n"
        f"{example}\n"
        "assert 'bridge_viewers 0.0' in TestClient(app).get('/metrics/').text\n"
    )


def test_the_django_example_serves_the_metrics() -> None:
    """The example's route shows the metrics, also before the first stream."""
    example = block("docs/metrics.md", "import bridge.django\n")
    run(
        "from django.conf import settings\n"
        "settings.configure(ALLOWED_HOSTS=['*'], BRIDGE={'URL': 'memory://', 'PUBLIC': True}, "
        "ROOT_URLCONF='__main__')\nimport django\ndjango.setup()\n"
        f"{example}\n"
        "from django.test import Client\nfrom bridge.django import stream\n"
        "urlpatterns.append(path('orders', lambda request: stream(request, 'orders')))\n"
        "assert 'bridge_viewers 0.0' in Client().get('/metrics').content.decode()\n"
        "response = Client().get('/orders')\nnext(iter(response.streaming_content))\n"
        "assert 'bridge_viewers 1.0' in Client().get('/metrics').content.decode()\nresponse.close()\n"
    )


def test_importing_the_package_does_not_need_celery() -> None:
    """A web application without Celery has the collector; an unknown name is an `AttributeError`."""
    run(
        "import sys\nimport bridge.prometheus\n"
        "assert not {'celery', 'kombu'} & set(sys.modules)\n"
        "assert not hasattr(bridge.prometheus, 'something')\n"
    )


def run(script: str) -> None:
    """Run a script in a process of its own."""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
