"""PgBouncer in front of a PostgreSQL server, as users configure it; gone when the test is."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psycopg

from tests.servers import Postgres, eventually, free_port, postgres_user

PROGRAM = shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))

CONFIG = """
[databases]
session = host=127.0.0.1 port=$SERVER dbname=postgres pool_mode=session
transaction = host=127.0.0.1 port=$SERVER dbname=postgres pool_mode=transaction
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $PORT
unix_socket_dir =
auth_type = trust
auth_file = $FOLDER/users
ignore_startup_parameters = options
default_pool_size = 4
"""


class PgBouncer:
    """A pooler with the databases `session` and `transaction`, which are named after their modes."""

    def __init__(self, server: Postgres) -> None:
        self.port = free_port()
        self._folder = tempfile.mkdtemp(prefix="pgbouncer-")
        folder = Path(self._folder)
        folder.joinpath("users").write_text('"postgres" ""\n')
        text = CONFIG.replace("$SERVER", str(server.port)).replace("$PORT", str(self.port))
        folder.joinpath("pgbouncer.ini").write_text(text.replace("$FOLDER", self._folder))
        folder.chmod(0o755)

    def url(self, mode: str, scheme: str = "postgresql") -> str:
        return f"{scheme}://postgres@127.0.0.1:{self.port}/{mode}"

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        command = [PROGRAM, "-q", f"{self._folder}/pgbouncer.ini"]
        with Path(self._folder, "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **postgres_user())
        eventually(self._answers, 20, "PgBouncer did not start")
        return self

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("session"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)
