"""docker-compose.yml and the Dockerfile, held to what they name; no Docker engine is needed."""

import ast
import importlib
import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def variables_read(path: Path) -> set[str]:
    """The keys that a config file looks up in `environ`: `environ["NAME"]` or `environ.get("NAME")`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="environ"), attr="get"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(name)
            case ast.Subscript(value=ast.Name(id="environ"), slice=ast.Constant(value=str(name))):
                names.add(name)
    return names


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.MULTILINE)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def check_python_command(command: list[str]) -> None:
    """It runs a module that exists, on an application that exists."""
    assert command[:2] == ["python", "-m"]
    assert importlib.util.find_spec(command[2])
    if command[2] == "celery":
        assert importlib.import_module(option(command, "-A")).app.main
    else:
        application = re.fullmatch(r"([\w.]+):(\w+)\(\)", command[-1])
        assert application
        assert callable(getattr(importlib.import_module(application[1]), application[2]))


def test_services() -> None:
    """The file brings up the broker, the worker and the API, and nothing else."""
    assert set(SERVICES) == {"valkey", "worker", "api"}


@pytest.mark.parametrize("name", ["worker", "api"])
def test_service_runs_a_command_that_exists(name: str) -> None:
    """What each container runs is a program or module that the image has."""
    check_python_command(SERVICES[name]["command"])


def test_image_runs_the_api_by_default() -> None:
    """Without a command the image serves the API."""
    (command,) = instructions("CMD")
    assert json.loads(command) == SERVICES["api"]["command"]


def test_worker_is_asked_for_a_ping_under_its_own_name() -> None:
    """The worker's health check asks this container's worker, not any."""
    kind, line = SERVICES["worker"]["healthcheck"]["test"]
    command = shlex.split(line)
    assert kind == "CMD-SHELL"
    check_python_command(command)
    assert command[5:7] == ["inspect", "ping"]
    # Celery's own default name; Compose turns $$ into $.
    assert option(command, "--destination") == "celery@$$HOSTNAME"
    assert "--hostname" not in SERVICES["worker"]["command"]


def test_api_is_asked_for_a_route_that_exists() -> None:
    """The API's health check asks a route that the application has."""
    kind, program, flag, code = SERVICES["api"]["healthcheck"]["test"]
    assert (kind, program, flag) == ("CMD", "python", "-c")
    compile(code, "healthcheck", "exec")
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", code)
    assert asked
    port, path = asked.groups()
    assert port == option(SERVICES["api"]["command"], "--bind").rpartition(":")[2]
    app = importlib.import_module("api.app").create_app()
    assert app.test_client().get(path).status_code == 200


def test_ports_agree() -> None:
    """The port that gunicorn binds is the one published, exposed and checked."""
    bound = option(SERVICES["api"]["command"], "--bind")
    (published,) = SERVICES["api"]["ports"]
    assert bound.rpartition(":")[2] == published.rpartition(":")[2] == instructions("EXPOSE")[0]
    assert bound.startswith("0.0.0.0:")
    assert published.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", ["worker", "api"])
def test_environment_is_what_config_reads(name: str) -> None:
    """Each variable that is set is one that the configuration reads."""
    read = variables_read(ROOT / "worker" / "config.py")
    assert read >= {"CELERY_BROKER_URL", "BRIDGE_URL", "DATA_DIR"}
    if name == "api":
        read |= variables_read(ROOT / "api" / "config.py")
    environment = SERVICES[name]["environment"]
    assert set(environment) <= read
    for variable in ("CELERY_BROKER_URL", "BRIDGE_URL"):
        assert "//valkey:6379/" in environment[variable]


def test_worker_and_api_share_the_data_directory_and_the_services() -> None:
    """An upload that the API saves is where the worker looks for it."""
    common = SERVICES["worker"]["environment"]
    assert common.items() <= SERVICES["api"]["environment"].items()
    volume = f"app-data:{common['DATA_DIR']}"
    assert volume in SERVICES["worker"]["volumes"]
    assert volume in SERVICES["api"]["volumes"]
    assert f" {common['DATA_DIR']}" in next(line for line in instructions("RUN") if "install -d" in line)


def test_every_service_has_a_health_check_and_waits_for_the_broker() -> None:
    """Worker and API start when the broker is healthy, and tell when they are."""
    assert all(service["healthcheck"]["test"] for service in SERVICES.values())
    for name in ("worker", "api"):
        assert SERVICES[name]["depends_on"] == {"valkey": {"condition": "service_healthy"}}


def test_volumes_are_declared() -> None:
    """Each volume that a service mounts is declared."""
    named = {volume.partition(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert named == set(COMPOSE["volumes"])


def test_image_copies_what_exists_and_is_let_through() -> None:
    """What the Dockerfile copies exists and is not kept out by .dockerignore."""
    let_through = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    copied = [source for line in instructions("COPY") for source in line.split()[:-1]]
    assert {"bridge/", "worker/", "api/", "constraints.txt"} <= set(copied)
    assert set(copied) == set(let_through)
    for source in copied:
        assert (ROOT / source).exists(), source


def test_image_does_not_run_as_root() -> None:
    """The image runs as a user of its own."""
    (user,) = instructions("USER")
    assert user != "root"
    assert DOCKERFILE.index("USER ") > DOCKERFILE.rindex("RUN ")
