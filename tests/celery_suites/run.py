"""Runs Celery's own tests without and with the bridge in every app and compares: `make test-celery`.

Celery's sdist carries its tests. It is downloaded in the version that is installed here and unpacked in
`build/celery`, beside an environment with what the tests need. A test that passes in one run only is run once
more by itself, in both ways: some of Celery's tests depend on the load of the machine.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from importlib.metadata import version
from pathlib import Path

from tests.servers import Valkey

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / "build" / "celery"
SOURCE = BUILD / f"celery-{version('celery')}"
PYTHON = BUILD / "venv" / "bin" / "python"

UNIT = ["t/unit/tasks", "t/unit/worker", "t/unit/app", "t/unit/concurrency"]
INTEGRATION = ["t/integration/test_canvas.py", "t/integration/test_tasks.py"]

# The same versions as here: what is compared is the bridge.
SAME = ["amqp", "billiard", "celery", "hiredis", "kombu", "redis", "vine"]
# Libraries without which Celery's tests are skipped, or do not start.
LIBRARIES = ["cryptography", "fakeredis[lua]", "freezegun", "gevent", "msgpack", "pydantic", "PyYAML"]
LIBRARIES += ["SQLAlchemy", "tblib"]
PLUGINS = ["click", "order", "rerunfailures", "subtests", "timeout"]

# A test that fails by chance without the bridge too: it resets a variable after `delay()` that the worker may
# have set by then. With the bridge `delay()` returns later, as it waits until the task shows as PENDING.
NOT_COMPARED = {"t/integration/test_tasks.py::test_task_replacement::test_replaced_task_nesting_level_0"}

Passes = set[str]


def main() -> int:
    prepare()
    with Valkey() as server:
        missing = compare("unit tests", UNIT, "memory://celery", {})
        where = {"TEST_BROKER": server.url("redis"), "TEST_BACKEND": server.url("redis")}
        where |= {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}
        bridge_url = server.url("redis")[:-1] + "9"
        missing += compare("integration tests", INTEGRATION, bridge_url, where)
    return int(missing > 0)


def prepare() -> None:
    """Download Celery's tests and install what they need, unless that was done before."""
    done = BUILD / "done"
    if done.exists() and done.read_text() == str(SOURCE):
        return
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    celery = f"celery=={version('celery')}"
    run([*pip, "download", "--no-deps", "--no-binary", "celery", "--dest", str(BUILD), celery])
    with tarfile.open(SOURCE.with_name(f"{SOURCE.name}.tar.gz")) as sdist:
        sdist.extractall(BUILD, filter="data")
    venv.create(PYTHON.parent.parent, with_pip=True)
    same = [f"{name}=={version(name)}" for name in SAME]
    plugins = [f"pytest-{name}" for name in PLUGINS]
    pip = [str(PYTHON), *pip[1:]]
    run([*pip, "install", *same, *required("pytest", *plugins), *LIBRARIES])
    done.write_text(str(SOURCE))


def required(*names: str) -> list[str]:
    """Return the versions of `names` that Celery's tests are written for."""
    lines = (SOURCE / "requirements" / "test.txt").read_text().split()
    found = [line for line in lines if line.partition("==")[0] in names]
    return found + [name for name in names if not any(line.startswith(f"{name}==") for line in found)]


def run(command: list[str]) -> None:
    subprocess.run(command, check=True)


def compare(what: str, tests: list[str], bridge_url: str, where: dict[str, str]) -> int:
    """Run `tests` in both ways, print the difference and return how many tests are in it."""
    without, with_ = passes(tests, where), passes(tests, where | {"BRIDGE_URL": bridge_url})
    different = sorted(without ^ with_)
    if different:
        again = passes(different, where), passes(different, where | {"BRIDGE_URL": bridge_url})
        different = sorted(again[0] ^ again[1])
    for test in different:
        print(f"passes only {'without' if test in again[0] else 'with'} the bridge: {test}")
    print(f"Celery's {what}: {len(without)} pass without the bridge, {len(with_)} with it,", end=" ")
    print(f"{len(different)} differ", flush=True)
    return len(different)


def passes(tests: list[str], where: dict[str, str]) -> Passes:
    """Run `tests` and return those that pass."""
    noted = BUILD / "passed.json"
    noted.unlink(missing_ok=True)
    env = {**os.environ, **where, "PASSED": str(noted), "PYTHONPATH": str(ROOT)}
    plugins = ["-p", "celery.contrib.pytest", "-p", "tests.celery_suites.plugin", "-p", "no:cacheprovider"]
    command = [str(PYTHON), "-m", "pytest", "--quiet", "--timeout=60", "--tb=no", *plugins]
    subprocess.run([*command, *tests], cwd=SOURCE, env=env, check=False)
    return set(json.loads(noted.read_text())) - NOT_COMPARED


if __name__ == "__main__":
    sys.exit(main())
