"""nginx and HAProxy on this machine's loopback, without Kubernetes; ab and its report."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_COUNTS = re.compile(r"\(Connect: (\d+), Receive: (\d+), Length: (\d+), Exceptions: (\d+)\)")

NGINX_CONF = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_timeout 300; keepalive_requests 1000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} backlog=4096 reuseport; root {folder}; }} }}
"""

HAPROXY_CFG = """global
  maxconn 4096
defaults
  mode http
  retries 3
  option redispatch
  option http-server-close
  timeout connect 5s
  timeout client 50s
  timeout server 50s
listen app
  bind 127.0.0.1:{port}
  server app 127.0.0.1:{backend}
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """A client that has ended: what it printed, its own CPU and how long it took. [s]"""

    out: str
    cpu_s: float
    wall_s: float


def run_client(argv: Sequence[str], *, stderr: int | None = None) -> Ran:
    """Run *argv* to its end; what it printed is read meanwhile."""
    begun_s = time.monotonic()
    client = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert client.stdout is not None
    out = client.stdout.read()
    _, _, usage = os.wait4(client.pid, 0)
    client.returncode = 0
    return Ran(out, usage.ru_utime + usage.ru_stime, time.monotonic() - begun_s)


@dataclass(frozen=True, slots=True)
class Server:
    process: "subprocess.Popen[bytes]"
    port: int

    @property
    def pids(self) -> tuple[int, ...]:
        """The master and its children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return (self.process.pid, *map(int, children))

    @property
    def worker(self) -> int:
        return self.pids[1]

    def cpu_s(self) -> float:
        """CPU used by all of its processes, kernel work included. [s]"""
        return sum(cpu_s(pid) for pid in self.pids)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)


def cpu_s(pid: int) -> float:
    """User and system time of a process from its scheduler statistics. [s]"""
    return sum(
        int((task / "schedstat").read_text().split()[0]) / 1e9 for task in Path(f"/proc/{pid}/task").iterdir()
    )


def _wait_for_port(port: int) -> None:
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port} after 5 s")


@contextmanager
def nginx(port: int) -> Iterator[Server]:
    """One nginx with one worker; several may share a port (SO_REUSEPORT)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "index.html").write_text("<h1>red</h1>\n")
        Path(folder, "nginx.conf").write_text(NGINX_CONF.format(folder=folder, port=port))
        server = Server(
            subprocess.Popen(["nginx", "-c", f"{folder}/nginx.conf"], stderr=subprocess.DEVNULL), port
        )
        try:
            deadline_s = time.monotonic() + 5
            while len(server.pids) < 2 and time.monotonic() < deadline_s:
                time.sleep(0.005)
            _wait_for_port(port)
            yield server
        finally:
            server.stop()


@contextmanager
def haproxy(port: int, backend: int) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "haproxy.cfg").write_text(HAPROXY_CFG.format(port=port, backend=backend))
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        server = Server(process, port)
        try:
            _wait_for_port(port)
            yield server
        finally:
            server.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class AbReport:
    complete: int
    failed: int
    connect: int
    receive: int
    length: int
    exceptions: int
    rate_per_s: float


def parse_ab(text: str) -> AbReport:
    """ab's report; its four reasons apart."""

    def number(label: str) -> float:
        found = re.search(rf"{label}:\s+([\d.]+)", text)
        return float(found[1]) if found else 0.0

    reasons = _COUNTS.search(text)
    connect, receive, length, exceptions = map(int, reasons.groups()) if reasons else (0, 0, 0, 0)
    return AbReport(
        complete=int(number("Complete requests")),
        failed=int(number("Failed requests")),
        connect=connect,
        receive=receive,
        length=length,
        exceptions=exceptions,
        rate_per_s=number("Requests per second"),
    )
