"""The floors of docs/architecture.md: imports only go down."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bridge", "worker", "api")

# From the ground up; `x.*` is the package x with all in it, which may import itself freely.
FLOORS: list[set[str]] = [
    {
        "bridge.beats",
        "bridge.encoding",
        "bridge.errors",
        "bridge.events",
        "bridge.fork",
        "bridge.pace",
        "bridge.position",
        "bridge.server",
        "bridge.state",
        "bridge.wholes",
    },
    {
        "bridge.backends",
        "bridge.channel",
        "bridge.handover",
        "bridge.line",
        "bridge.script",
        "bridge.seats",
        "bridge.viewer",
        "bridge.ports",
        "bridge.progress",
        "bridge.sse",
        "bridge.subscription",
        "bridge.tail",
    },
    {"bridge.backends.memory", "bridge.backends.redis.*", "bridge.backends.sql.*", "bridge.hub"},
    {"bridge.broadcast"},
    {"bridge.connect", "bridge.outbox", "bridge.silence", "bridge.waiting"},
    {"bridge", "bridge.rendering", "bridge.stalls"},
    {"bridge.loop"},
    {"bridge.cli", "bridge.event_loops", "bridge.threads", "bridge.viewers"},
    {"bridge.aio", "bridge.event_channel"},
    {"bridge.celery.*", "bridge.flask", "bridge.litestar.*", "bridge.sqlspec"},
    {"worker.*"},
    {"api.*"},
]
# Above these two, modules of one floor do not know each other: hub and backends meet only through the ports.
SHARED_FLOORS = 2

# Who may import what from outside the standard library. Not listed: nothing.
FOREIGN = {
    "bridge.backends.redis": {"redis"},
    "bridge.backends.redis.backend": {"redis"},
    "bridge.backends.redis.link": {"hiredis"},
    "bridge.backends.redis.reader": {"hiredis"},
    "bridge.backends.redis.servers": {"redis"},
    "bridge.backends.redis.url": {"redis"},
    "bridge.backends.sql": {"sqlalchemy"},
    "bridge.backends.sql.backend": {"sqlalchemy"},
    "bridge.backends.sql.database": {"sqlalchemy"},
    "bridge.backends.sql.file": {"sqlalchemy"},
    "bridge.backends.sql.log": {"sqlalchemy"},
    "bridge.backends.sql.options": {"sqlalchemy"},
    "bridge.backends.sql.postgres": {"psycopg", "sqlalchemy"},
    "bridge.backends.sql.reader": {"sqlalchemy"},
    "bridge.backends.sql.reading": {"sqlalchemy"},
    "bridge.backends.sql.retention": {"sqlalchemy"},
    "bridge.backends.sql.schema": {"sqlalchemy"},
    "bridge.backends.sql.sqlite": {"sqlalchemy"},
    "bridge.backends.sql.state": {"sqlalchemy"},
    "bridge.backends.sql.tally": {"sqlalchemy"},
    "bridge.backends.sql.tables": {"sqlalchemy"},
    "bridge.celery.cancel": {"celery"},
    "bridge.celery.canvas": {"celery"},
    "bridge.celery.children": {"celery"},
    "bridge.celery.heartbeat": {"celery"},
    "bridge.celery.lifecycle": {"celery"},
    "bridge.celery.marking": {"celery"},
    "bridge.celery.outboxes": {"celery"},
    "bridge.celery.parts": {"celery"},
    "bridge.celery.running": {"celery"},
    "bridge.celery.startup": {"celery"},
    "bridge.celery.tree": {"celery"},
    "bridge.event_channel": {"sqlspec"},
    "bridge.flask": {"flask", "werkzeug"},
    "bridge.handover": {"gevent"},
    "bridge.litestar.backend": {"litestar"},
    "bridge.litestar.publisher": {"litestar"},
    "bridge.sqlspec": {"sqlspec"},
}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(module: str) -> Iterator[str]:
    """Full names of what a module imports, inside functions and type checks too."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield name if name in MODULES else source


def packages(module: str) -> list[str]:
    """The module's own name and those of the packages it is in."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def floor(module: str) -> int:
    for number, names in enumerate(FLOORS):
        if module in names or any(f"{package}.*" in names for package in packages(module)):
            return number
    raise AssertionError(f"{module} has no floor: give it one in FLOORS, and in docs/architecture.md")


def may_import(upper: str, lower: str) -> bool:
    if floor(upper) != floor(lower):
        return floor(upper) > floor(lower)
    shared = {f"{package}.*" for package in packages(upper)} & {f"{package}.*" for package in packages(lower)}
    return floor(upper) < SHARED_FLOORS or bool(shared & FLOORS[floor(upper)])


def own_imports(module: str) -> set[str]:
    return {name for name in imported(module) if name.partition(".")[0] in PACKAGES} - {module}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """A module imports only from its own floor or a lower one, and has a floor."""
    wrong = {name for name in own_imports(module) if not may_import(module, name)}
    assert not wrong, f"{module} (floor {floor(module)}) must not import {wrong}"


def test_no_import_comes_back_to_itself() -> None:
    """There is no circle of imports."""
    graphlib.TopologicalSorter({module: own_imports(module) for module in MODULES}).prepare()


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("bridge")])
def test_only_the_named_modules_import_a_framework_or_driver(module: str) -> None:
    """Frameworks and drivers are known only to the modules named for it."""
    outside = {name.partition(".")[0] for name in imported(module)} - sys.stdlib_module_names - set(PACKAGES)
    assert outside <= FOREIGN.get(module, set())


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("bridge")])
def test_library_never_reads_the_environment(module: str) -> None:
    """The library takes its settings from its caller, never from the environment."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv"):
                pytest.fail(f"{MODULES[module].name}:{node.lineno} reads the environment")


IMPORT_QUIETLY = """
import sys

# Imported beforehand for their own start-up work, which is not the library's.
import asyncio, concurrent.futures, logging, selectors, socket, ssl, threading

forbidden = {"socket.__new__", "socket.connect", "_thread.start_new_thread", "subprocess.Popen", "os.fork"}

def watch(event, arguments):
    if event in forbidden:
        raise RuntimeError(f"importing bridge caused {event}")

sys.addaudithook(watch)
import bridge

frameworks = {"celery", "kombu", "flask", "werkzeug", "redis", "gevent", "sqlalchemy", "psycopg", "litestar"}
assert not frameworks & set(sys.modules), frameworks & set(sys.modules)
assert threading.active_count() == 1
"""


def test_import_bridge_pulls_in_no_framework_and_opens_nothing() -> None:
    """Importing bridge loads no framework, starts no thread and opens no socket."""
    subprocess.run([sys.executable, "-c", IMPORT_QUIETLY], cwd=ROOT, check=True, timeout=30)
