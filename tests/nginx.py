"""nginx in front of a server, as users configure it; gone when the test is."""

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Self

import httpx

from tests.servers import Running, eventually, free_port

# Debian puts it where only root's PATH leads.
PROGRAM = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))

CONFIG = Template("""
daemon off;
master_process off;
pid $FOLDER/nginx.pid;
error_log $FOLDER/error.log;
events { worker_connections 1000; }
http {
    access_log off;
    client_body_temp_path $FOLDER/body;
    proxy_temp_path $FOLDER/proxy;
    fastcgi_temp_path $FOLDER/fastcgi;
    uwsgi_temp_path $FOLDER/uwsgi;
    scgi_temp_path $FOLDER/scgi;
    gzip on;
    $SERVERS
}
""")


def check(config: str) -> None:
    """Fail unless nginx accepts `config`, what a user writes in `server {}`."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        server = f"server {{ listen 127.0.0.1:{free_port()}; {config} }}"
        file = Path(folder, "nginx.conf")
        file.write_text(CONFIG.substitute(FOLDER=folder, SERVERS=server))
        words = [PROGRAM, "-t", "-p", folder, "-e", f"{folder}/error.log", "-c", str(file)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr


class Nginx(Running):
    """One nginx process with a port of its own for each text of `configs`, what a user writes in `server {}`.

    It runs as whoever runs the test, and writes to a folder of its own only.
    """

    def __init__(self, *configs: str) -> None:
        self._configs = configs
        self.addresses = [f"http://127.0.0.1:{free_port()}" for _ in configs]
        self._folder = tempfile.TemporaryDirectory(prefix="nginx-")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        assert PROGRAM is not None
        folder = Path(self._folder.name)
        servers = [
            f"server {{ listen {address.removeprefix('http://')}; {config} }}"
            for address, config in zip(self.addresses, self._configs, strict=True)
        ]
        config = folder / "nginx.conf"
        config.write_text(CONFIG.substitute(FOLDER=folder, SERVERS="\n".join(servers)))
        log = folder / "error.log"
        words = [PROGRAM, "-p", str(folder), "-e", str(log), "-c", str(config)]
        self._process = subprocess.Popen(words, start_new_session=True)
        eventually(self._answers, 20, "nginx did not start")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            httpx.get(self.addresses[-1], trust_env=False, verify=False)
            return True
        return False
