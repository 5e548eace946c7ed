"""What errors say of a URL: what is wrong and what to write, and never a part of a password."""

import subprocess
import sys
import traceback
from itertools import product

import pytest

import bridge
from bridge.celery import canvas_id
from bridge.channel.transport import transport_of
from tests.servers import Valkey, free_port

REDIS = ("redis", "rediss", "redis+pubsub", "redis+sharded", "redis+cluster", "redis+sentinel")
DATABASES = ("postgresql", "postgresql+psycopg", "sql+postgresql+psycopg", "sqlite")
OTHERS = ("memory", "postgres", "amqp", "kafka", "mysql", "nosuch")
SIGNS = (
    *"#/?%[]@:\\ &=^|<>\"'{},;+~",
    "%zz",
    "%2",
    "[x]",
    "//",
    "/@",
    "?@",
    "#@",
    "@@",
    "::",
    "\n",
    "\t",
    "é",
    "a?b=",
)
FORMS = (
    ":{}@host:6379/0",
    "user:{}@host/0",
    "user:{}@host",
    ":{}@[::1]:6379/0",
    ":{}@host:port/0",
    "user:{}@host:6379/mymaster/0",
    "user:{}@host:6379,other:6379/mymaster/0?socket_timeout=1",
    "user:{}@/0",
    "user:{}@host/zero",
    "user:{}@host/0?colour=red",
    "host:6379/0?password={}",
    "host:6379/0?colour=red&password={}",
)


def everything_said(error: BaseException) -> str:
    """The text and the repr of an error and of all that led to it, and the traceback as Python prints it."""
    said = ["".join(traceback.format_exception(error))]
    known: list[BaseException] = []
    waiting = [error]
    while waiting:
        error = waiting.pop()
        known.append(error)
        said += [str(error), repr(error)]
        waiting += [e for e in (error.__cause__, error.__context__) if e is not None and e not in known]
    return "\n".join(said)


@pytest.mark.parametrize("scheme", [*REDIS, *DATABASES, *OTHERS])
def test_a_password_that_is_not_escaped_is_never_told(scheme: str) -> None:
    """Whatever sign is in it: no error, nothing the error came from and no address has a part of it."""
    for form, sign in product(FORMS, SIGNS):
        url = f"{scheme}://{form.format(f'SecretOne{sign}SecretTwo')}"
        try:
            channel = bridge.connect(url)
        except bridge.ConfigurationError as error:
            said = everything_said(error)
        else:
            location, backend = transport_of(channel).location, transport_of(channel).backend
            said = f"{channel!r} {location} {backend!r} {getattr(backend, '_servers', None)!r}"
            for part in ("_servers", "_database"):
                said += str(getattr(getattr(backend, part, None), "address", ""))
            channel.close()
        assert "SecretOne" not in said, form + sign
        assert "SecretTwo" not in said, form + sign


def test_a_password_is_not_told_when_connecting_fails() -> None:
    """Nor is it when the server cannot be reached, or refuses it."""
    closed = free_port()
    with Valkey(requirepass="right") as server:
        urls = [f"{scheme}://user:Secret%23One@127.0.0.1:{closed}" for scheme in REDIS]
        urls += [
            f"redis://:Secret@One@127.0.0.1:{server.port}",
            f"redis://127.0.0.1:{server.port}?password=SecretOne",
        ]
        urls += [
            f"{scheme}://user:Secret@127.0.0.1:{closed}/db"
            for scheme in ("postgresql", "sql+postgresql+psycopg")
        ]
        for url in urls:
            path = "/mymaster/0" if "sentinel" in url else ""
            with bridge.connect(url + path, timeout=0.5) as channel:
                with pytest.raises(bridge.PublishError) as unpublished:
                    channel.topic("orders").publish(b"one")
                with pytest.raises(bridge.ConnectionLost) as unread:
                    channel.topic("orders").subscribe()
                assert "Secret" not in everything_said(unpublished.value) + everything_said(unread.value)


@pytest.mark.parametrize(
    ("password", "written"),
    [("p@ss", "p@ss"), ("p#s/s?", "p%23s%2Fs%3F"), ("[x]", "%5Bx%5D"), ("100%", "100%25")],
)
def test_a_password_works_as_the_error_says_to_write_it(password: str, written: str) -> None:
    """Percent-encoded, or with a second @, it opens the server."""
    with (
        Valkey(requirepass=password) as server,
        bridge.connect(f"redis://:{written}@127.0.0.1:{server.port}/0") as channel,
    ):
        assert channel.topic("orders").publish(b"one")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://user:SecretOne@host/db", "postgresql://"),
        ("postgresql+psycopg2://host/db", "postgresql://"),
        ("mysql://host/db", "sql+mysql+pymysql://"),
        ("localhost:6379", "redis://localhost:6379/0"),
        ("localhost", "redis://localhost:6379/0"),
        ("redis.example.com:6380/2", "redis://redis.example.com:6380/2"),
        ("127.0.0.1", "redis://127.0.0.1:6379/0"),
        ("user:SecretOne@host:6379", "redis://localhost:6379/0"),
        ("redis:/localhost", "redis://localhost:6379/0"),
        ("amqp://guest:SecretOne@host//", "broker"),
        ("pyamqp://host", "broker"),
        ("valkey://host", "redis://"),
        ("sentinel://host", "redis+sentinel://"),
        ("sqlite3://file", "sqlite:///"),
        ("", "redis://localhost:6379/0, not an empty one"),
        (None, "redis://localhost:6379/0, not NoneType"),
        (b"redis://host", "redis://localhost:6379/0, not bytes"),
        ("redis://host/0?colour=red&db=1", "no parameter colour"),
        ("redis+sentinel://host/mymaster/0?colour=red", "no parameter colour"),
        ("redis+cluster://host?colour=red", "no parameter colour"),
        ("redis://host/0?socket_timeout=long", "socket_timeout"),
        ("redis://user:p#ss@host/0", "percent-encode"),
        ("redis://user:pa/ss@host/0", "percent-encode"),
        ("postgresql://user:p@ss@host/db", "percent-encode"),
        ("redis://host:port/0", "port"),
    ],
)
def test_an_error_says_what_to_write(url: str, says: str) -> None:
    """A URL that another program takes is refused with the one to write here."""
    with pytest.raises(bridge.ConfigurationError) as error:
        bridge.connect(url)
    assert says in str(error.value)
    assert "SecretOne" not in everything_said(error.value)


@pytest.mark.parametrize(
    "query", ["max_connections=5", "client_name=me", "socket_timeout=2", "db=3", "health_check_interval=0"]
)
def test_parameters_of_redis_py_are_taken(own_valkey: Valkey, query: str) -> None:
    """What redis-py knows is not refused."""
    with bridge.connect(f"redis://127.0.0.1:{own_valkey.port}?{query}") as channel:
        assert channel.topic("orders").publish(b"one")


@pytest.mark.parametrize("scheme", ["REDIS", "Memory"])
def test_a_scheme_may_be_in_capitals(scheme: str) -> None:
    """As in any URL."""
    bridge.connect(f"{scheme}://localhost").close()


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("bridge.celery", "celery", "celery"),
        ("bridge.celery.task_api", "celery", "celery"),
        ("bridge.celery", "kombu", "celery"),
        ("bridge.flask", "flask", "flask"),
        ("bridge.flask", "werkzeug", "flask"),
        ("bridge.litestar", "litestar", "litestar"),
        ("bridge.sqlspec", "sqlspec", "sqlspec"),
    ],
)
def test_a_missing_extra_is_named_at_import(module: str, missing: str, extra: str) -> None:
    """Importing a module whose packages are not installed says what to install, as both kinds of error."""
    program = f"""
import sys
sys.modules[{missing!r}] = None
import bridge
try:
    import {module}
except bridge.ConfigurationError as error:
    assert isinstance(error, ModuleNotFoundError)
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"pip install 'celery-event-bridge[{extra}]'" in done.stdout
    assert missing in done.stdout


def test_an_error_within_the_bridge_is_no_missing_extra() -> None:
    """A module of the bridge that cannot be imported is told as it is."""
    program = "import sys\nsys.modules['bridge.celery.canvas.tree'] = None\nimport bridge.celery"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: import of bridge.celery.canvas.tree halted" in done.stderr


@pytest.mark.parametrize(
    ("payload", "says"), [("text", "payload.encode()"), ({"a": 1}, "json.dumps(payload).encode()")]
)
def test_a_payload_that_is_no_bytes_says_how_to_make_it(payload: object, says: str) -> None:
    """The error names the type that was given and how to encode it."""
    with (
        bridge.connect("memory://payload") as channel,
        pytest.raises(ValueError, match="must be bytes, not") as error,
    ):
        channel.topic("orders").publish(payload)  # type: ignore[arg-type]  # wrong on purpose
    assert says in str(error.value)
    assert type(payload).__name__ in str(error.value)


@pytest.mark.parametrize("given", ["8f14e45f", None, 7, b"id"])
def test_canvas_id_of_no_result_says_what_it_takes(given: object) -> None:
    """The id of a task is not what starting a canvas returned."""
    with pytest.raises(TypeError, match=r"apply_async\(\).*not " + type(given).__name__):
        canvas_id(given)
