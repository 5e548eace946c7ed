"""The floors of docs/architecture.md: imports only go down."""

import ast
import graphlib
import importlib
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bridge", "worker", "api")

# From the ground up. A package holds all its modules; packages of one floor do not import each other.
FLOORS: list[set[str]] = [
    {"bridge.errors", "bridge.logs"},
    {"bridge.support"},
    {"bridge.model"},
    {"bridge.backends"},
    {"bridge.channel"},
    {"bridge.tasks"},
    {"bridge", "bridge.aio", "bridge.streams"},
    {"bridge.celery", "bridge.litestar", "bridge.sqlspec"},
    {"bridge.monitor", "bridge.prometheus"},
    {"bridge.asgi", "bridge.django", "bridge.flask"},
    {"bridge.monitor.standalone"},
    {"bridge.cli", "worker"},
    {"api", "bridge.django.management"},
]

# The packages that may import something from outside the standard library. All others import nothing.
FOREIGN = {
    "bridge.asgi": {"starlette"},
    "bridge.backends.redis": {"hiredis", "redis"},
    "bridge.backends.sql": {"psycopg", "sqlalchemy"},
    "bridge.celery": {"celery"},
    "bridge.cli": {"celery", "click", "flask", "rich"},
    "bridge.django": {"asgiref", "django"},
    "bridge.flask": {"flask", "werkzeug"},
    "bridge.litestar": {"litestar"},
    "bridge.monitor": {"kombu"},
    "bridge.prometheus": {"celery", "prometheus_client"},
    "bridge.monitor.standalone": {"uvicorn"},
    "bridge.sqlspec": {"sqlspec"},
    "bridge.streams.access": {"cryptography", "jwt"},
    "bridge.streams.takeover": {"gevent"},
    "bridge.streams.tracing": {"opentelemetry"},
    "bridge.support.tracing": {"opentelemetry"},
}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
LIBRARY = [module for module in MODULES if module.startswith("bridge")]
LIBRARY_PACKAGES = [module for module in LIBRARY if MODULES[module].name == "__init__.py"]


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
    """The module's own name and those of the packages it is in, the innermost first."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def package_of(module: str) -> tuple[int, str]:
    """Return the floor of a module and the package it is listed by."""
    for name in packages(module):
        for number, names in enumerate(FLOORS):
            if name in names and (name != "bridge" or module == "bridge"):
                return number, name
    raise AssertionError(f"{module} is in no package of FLOORS: add it there and to docs/architecture.md")


def may_import(upper: str, lower: str) -> bool:
    above, below = package_of(upper), package_of(lower)
    return above[0] > below[0] or above == below


def own_imports(module: str) -> set[str]:
    return {name for name in imported(module) if name.partition(".")[0] in PACKAGES} - {module}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """A module imports only from its own package and from lower floors."""
    wrong = {name for name in own_imports(module) if not may_import(module, name)}
    assert not wrong, f"{module} must not import {wrong}: see FLOORS"


def test_no_import_comes_back_to_itself() -> None:
    """There is no circle of imports."""
    graphlib.TopologicalSorter({module: own_imports(module) for module in MODULES}).prepare()


@pytest.mark.parametrize("module", LIBRARY)
def test_only_the_named_packages_import_a_framework_or_driver(module: str) -> None:
    """Only the packages named in FOREIGN import a framework or a driver."""
    outside = {name.partition(".")[0] for name in imported(module)} - sys.stdlib_module_names - set(PACKAGES)
    allowed = next((FOREIGN[name] for name in packages(module) if name in FOREIGN), set[str]())
    assert outside <= allowed


@pytest.mark.parametrize("module", LIBRARY)
def test_library_never_reads_the_environment(module: str) -> None:
    """The library takes its settings from its caller. One module reads variables."""
    if module == "bridge.support.environment":
        return
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv"):
                pytest.fail(f"{MODULES[module].name}:{node.lineno} reads the environment")


def test_modules_are_short() -> None:
    """No module of the library has 300 lines or more, and the median is below 130."""
    lengths = {module: len(MODULES[module].read_text().splitlines()) for module in LIBRARY}
    assert {module: length for module, length in lengths.items() if length >= 300} == {}
    assert statistics.median(lengths.values()) < 130


@pytest.mark.parametrize("package", LIBRARY_PACKAGES)
def test_packages_introduce_themselves(package: str) -> None:
    """The docstring of a package says what it does and which file to open first."""
    docstring = ast.get_docstring(ast.parse(MODULES[package].read_text())) or ""
    assert len(docstring.splitlines()) >= 3
    assert re.search(r"\w+\.(py|lua)\b", docstring), "name the file to open first"


@pytest.mark.parametrize("package", LIBRARY_PACKAGES)
def test_no_module_has_the_name_of_an_exported_function(package: str) -> None:
    """`from package import name` gives either a function or a module, and never hides the other."""
    exported = getattr(importlib.import_module(package), "__all__", ())
    assert {name for name in exported if f"{package}.{name}" in MODULES} == set()


@pytest.mark.parametrize("module", MODULES)
def test_any_has_a_reason(module: str) -> None:
    """A module that imports `Any` says in a comment why no narrower type is used."""
    text = MODULES[module].read_text()
    if re.search(r"^from typing import .*\bAny\b", text, re.MULTILINE):
        assert re.search(r"#.*\bAny\b", text), "write a comment that says what Any stands for"


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
