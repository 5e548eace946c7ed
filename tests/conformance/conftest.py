"""One server for all tests of a kind, and the browser that the tests of a framework share."""

import shutil
import uuid
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite(
    "tests.conformance.answers", "tests.conformance.reading", "tests.conformance.viewers"
)

from tests.chromium import chromium  # noqa: E402
from tests.markdown import block  # noqa: E402
from tests.nginx import PROGRAM  # noqa: E402
from tests.servers import Valkey  # noqa: E402
from tests.sites import KINDS, Kind, Site, site  # noqa: E402
from tests.sse_clients import Clients  # noqa: E402

GUIDE = "nginx as in the guide"
_SNIPPET = block("docs/guide.md", "location / {\n")

# What a user may have written in `server {}` of nginx, before whom the server is at port 8000.
CONFIGS = {
    GUIDE: _SNIPPET,
    "nginx, all defaults": "location / { proxy_pass http://127.0.0.1:8000; }",
    "nginx, HTTP/1.0": "proxy_http_version 1.0; location / { proxy_pass http://127.0.0.1:8000; }",
    "nginx, not chunked": "chunked_transfer_encoding off;" + _SNIPPET,
    "nginx, compressing": "gzip_types text/event-stream;" + _SNIPPET,
}
# One server has each nginx before it, others of those whose HTTP is not of one hand have that of the guide.
BEHIND_NGINX = {
    "flask, gunicorn sync": (GUIDE, "nginx, HTTP/1.0"),
    "fastapi, uvicorn --http httptools --loop uvloop": tuple(CONFIGS),
    **dict.fromkeys(("flask, pywsgi", "starlette, hypercorn", "starlette, granian"), (GUIDE,)),
    **dict.fromkeys(("django, gunicorn sync", "django, uvicorn asgi", "django, daphne asgi"), (GUIDE,)),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module under each server of its `FRAMEWORK`."""
    kinds = [kind for kind in KINDS if kind.framework == metafunc.module.FRAMEWORK]
    metafunc.parametrize("served", kinds, indirect=True, ids=str, scope="module")


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    if PROGRAM is None or shutil.which("curl") is None:
        pytest.skip("no nginx or no curl here; on Debian: apt-get install nginx-light curl")


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with chromium() as browser:
        clients = Clients(browser)
        yield clients
        clients.close()


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Site]:
    """The application under one server, which the tests of that server share."""
    kind: Kind = request.param
    with site(kind, valkey, {name: CONFIGS[name] for name in BEHIND_NGINX.get(str(kind), ())}) as served:
        yield served


@pytest.fixture
def topic() -> str:
    return uuid.uuid4().hex
