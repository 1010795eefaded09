"""The reference of the door: nginx that answers each request with 204, when it is installed."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compose.layout import HOST, accepts
from tests.bench.machine import OTHER_CORES, spending
from tests.running import free_port, until

MISSING = "no nginx here (Debian: apt-get install nginx-light wrk)"
_CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 100000000; client_max_body_size 1m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ return 204; }} }}
}}
"""
_SCRIPT = """
wrk.method = "POST"
wrk.path = "/v1/events"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-Write-Key"] = "a key of the bench"
wrk.body = '{{"{padding}":1}}'
"""
_ROUND_IT = 6
"""Bytes of that body beside its padding."""


class Nginx:
    """One worker of nginx, and `wrk` to drive it: a client in Python could not keep it busy."""

    def __init__(self, pid: int, port: int, wrk: str, folder: Path) -> None:
        self.pid = pid
        self._port = port
        self._wrk = wrk
        self._script = folder / "post.lua"

    def per_cpu_second(self, connections: int, seconds: float, body_bytes: int) -> float:
        """Requests with a body of so many bytes a CPU-second of the worker."""
        self._script.write_text(_SCRIPT.format(padding="x" * (body_bytes - _ROUND_IT)))
        core = ",".join(map(str, OTHER_CORES))
        command = ["taskset", "-c", core, self._wrk, "-t1", f"-c{connections}", f"-d{seconds:.0f}s"]
        with spending(nginx=self.pid) as spent:
            answer = subprocess.run(
                [*command, "-s", str(self._script), f"http://{HOST}:{self._port}/"],
                capture_output=True,
                text=True,
                check=True,
            )
        (requests,) = re.findall(r"(\d+) requests in", answer.stdout)
        if "Non-2xx" in answer.stdout:
            raise RuntimeError(answer.stdout)
        return int(requests) / spent.cpu["nginx"]


@contextmanager
def nginx(folder: Path) -> Iterator[Nginx | None]:
    """None where there is no nginx, or no wrk."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    wrk = shutil.which("wrk")
    if program is None or wrk is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port))
    process = subprocess.Popen([program, "-c", str(configuration), "-p", str(folder)])
    try:
        until(lambda: accepts(HOST, port) or process.poll() is not None, 10, "nginx listens")
        if process.poll() is not None:
            raise RuntimeError(f"nginx ended with {process.returncode}")
        yield Nginx(process.pid, port, wrk, folder)
    finally:
        process.terminate()
        process.wait(10)
