"""What a stopping nginx does to the connections of a saturating and of a paced client (loopback).

ab: ten connections on one nginx, or over three, in full flow; a survivor with SO_REUSEPORT takes the new
connects, so that none is refused. Paced: 20 kept connections, each with its own pauses; the kernel's trace says
when the worker read its last request and how each socket was closed.
"""

import argparse
import contextlib
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from validation.calibration.kernel_trace import TraceEvent, kernel_trace
from validation.calibration.loopback import Server, nginx, parse_ab
from validation.calibration.rows import write_rows

PORT = 18080
THINK_MEAN_S = 0.020
REQUEST = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


def connections_of(server: Server) -> int:
    """Established connections that this nginx's worker holds."""
    listed = subprocess.run(["ss", "-Htnp", "state", "established", f"( sport = :{server.port} )"],
                            capture_output=True, text=True, check=True).stdout  # fmt: skip
    return len(re.findall(rf"pid={server.worker},", listed))


def ab_stop(signal_name: str, servers: int) -> dict[str, Any]:
    """One ab run with one stop in its middle; ab's own counts and how many connections the stopped one held."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(nginx(PORT)) for _ in range(servers)]
        client = subprocess.Popen(
            ["ab", "-q", "-l", "-r", "-k", "-c", "10", "-t", "2", "-n", "5000000",
             f"http://127.0.0.1:{PORT}/index.html"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        time.sleep(0.5 + random.random() * 0.2)
        if servers == 1:
            stack.enter_context(nginx(PORT))
            time.sleep(0.1)
        held = connections_of(running[0])
        os.kill(running[0].process.pid, getattr(signal, signal_name))
        out, _ = client.communicate(timeout=30)
        return {"signal": signal_name, "servers": servers, "held": held, **asdict(parse_ab(out))}


class PacedClient(threading.Thread):
    """20 connections: write, read, pause (exponential). Idle sockets are not looked at. One thread, one selector."""

    def __init__(self, port: int, connections: int = 20) -> None:
        super().__init__(daemon=True)
        self.port, self.connections, self.going, self.sent = port, connections, True, 0
        self.seen: list[tuple[float, str, str]] = []
        self.latencies_s: list[float] = []

    def run(self) -> None:
        ready = selectors.DefaultSelector()
        due = [(time.monotonic() + random.expovariate(1 / THINK_MEAN_S), i) for i in range(self.connections)]
        sockets: list[socket.socket | None] = [None] * self.connections
        written: dict[int, float] = {}
        while self.going:
            now = time.monotonic()
            for at_s, i in [d for d in due if d[0] <= now]:
                due.remove((at_s, i))
                sock = sockets[i]
                phase = "reused" if sock else "new"
                try:
                    if sock is None:
                        sock = sockets[i] = socket.create_connection(("127.0.0.1", self.port), timeout=2)
                    sock.sendall(REQUEST)
                    written[i] = time.monotonic()
                    ready.register(sock, selectors.EVENT_READ, (i, phase))
                    self.sent += 1
                except OSError as error:
                    self._failed(phase, type(error).__name__)
                    if sock:
                        sock.close()
                    sockets[i] = None
                    due.append((now + random.expovariate(1 / THINK_MEAN_S), i))
            wait_s = max(0.0, min((d[0] for d in due), default=now + 0.01) - time.monotonic())
            for key, _ in ready.select(min(wait_s, 0.01)):
                i, phase = key.data
                sock = sockets[i]
                assert sock is not None
                ready.unregister(sock)
                try:
                    answer = sock.recv(65536)
                    seen = "" if answer else "EOF"
                except OSError as error:
                    seen = type(error).__name__
                if seen:
                    self._failed(phase, seen)
                    sock.close()
                    sockets[i] = None
                else:
                    self.latencies_s.append(time.monotonic() - written[i])
                due.append((time.monotonic() + random.expovariate(1 / THINK_MEAN_S), i))
        for sock in sockets:
            if sock:
                sock.close()

    def _failed(self, phase: str, seen: str) -> None:
        self.seen.append((time.monotonic(), phase, seen))


def paced_stop(signal_name: str) -> dict[str, Any]:
    """One stop under the paced client: times from the signal, ends of the sockets by kind, what the client saw."""
    with nginx(PORT) as old, contextlib.ExitStack() as stack:
        client = PacedClient(PORT)
        client.start()
        time.sleep(0.3)
        stack.enter_context(nginx(PORT))
        time.sleep(random.random() * 0.05)
        held = connections_of(old)
        worker = old.worker
        with kernel_trace({
            "signal/signal_deliver": "sig == 15 || sig == 3",
            "sock/inet_sock_set_state": f"sport == {PORT} || dport == {PORT}",
            "syscalls/sys_exit_recvfrom": f"common_pid == {worker}",
            "sched/sched_process_exit": "",
            "tcp/tcp_send_reset": "",
        }) as trace:  # fmt: skip
            time.sleep(0.15)
            sent = client.sent
            at_s = time.monotonic()
            os.kill(old.process.pid, getattr(signal, signal_name))
            time.sleep(0.5)
            events = trace.read()
        client.going = False
        client.join()
        seen = [f"{phase}:{kind}" for t, phase, kind in client.seen if t >= at_s]
        return {
            "signal": signal_name, "held": held, "sent_before": sent, **_fates(events, at_s, worker, old.process.pid),
            "client_failed": len(seen), "client_eof": seen.count("reused:EOF"),
            "client_rst": sum(s in {"reused:ConnectionResetError", "reused:BrokenPipeError"} for s in seen),
            "client_new": sum(s.startswith("new") for s in seen),
            "latency_p50": sorted(client.latencies_s)[len(client.latencies_s) // 2],
            "latency_p95": sorted(client.latencies_s)[int(len(client.latencies_s) * 0.95)],
        }  # fmt: skip


def _fates(events: list[TraceEvent], at_s: float, worker: int, master: int) -> dict[str, Any]:
    def first(where: list[float]) -> float | str:
        return round(min(where) - at_s, 6) if where else ""

    # nginx's master tells its worker through a channel, not with a signal
    delivered = [e.at_s for e in events if e.event == "signal_deliver" and e.pid == master and e.at_s >= at_s]
    reads = [
        e.at_s for e in events
        if e.event == "sys_recvfrom" and e.pid == worker and e.at_s >= at_s
        and not e.text.startswith(("-> 0xff", "-> 0x0"))
    ]  # fmt: skip
    ends = [
        e for e in events
        if e.event == "inet_sock_set_state" and e.pid == worker and e.at_s >= at_s and e.fields["sport"] == str(PORT)
        and e.fields["oldstate"] == "TCP_ESTABLISHED" and e.fields["newstate"] in {"TCP_FIN_WAIT1", "TCP_CLOSE"}
    ]  # fmt: skip
    exits = [e.at_s for e in events if e.event == "sched_process_exit" and e.pid == worker]
    gone = [e.at_s for e in events if e.event == "sched_process_exit" and e.pid == master]
    return {
        "signal_in_master_s": first(delivered),
        "last_read_s": round(max(reads) - at_s, 6) if reads else "",
        "reads_after_signal": sum(t > min(delivered) for t in reads) if delivered else 0,
        "first_close_s": first([e.at_s for e in ends]),
        "last_close_s": round(max(e.at_s for e in ends) - at_s, 6) if ends else "",
        "fin": sum(e.fields["newstate"] == "TCP_FIN_WAIT1" for e in ends),
        "rst": sum(e.fields["newstate"] == "TCP_CLOSE" for e in ends),
        "worker_exit_s": first(exits),
        "master_exit_s": first(gone),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["ab", "paced"])
    parser.add_argument("signal", choices=["SIGTERM", "SIGQUIT"])
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for _ in range(options.runs):
        rows.append(
            ab_stop(options.signal, options.servers) if options.mode == "ab" else paced_stop(options.signal)
        )
        print(rows[-1], file=sys.stderr, flush=True)
    if options.out:
        write_rows(options.out, rows)


if __name__ == "__main__":
    main()
