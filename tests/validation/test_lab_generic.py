"""The lab's generic server: what it does on a signal to listener, idle, unused and busy connections."""

import json
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing

import pytest
from rich.console import Console

from validation.lab.commands import wait_until
from validation.lab.steps import Steps
from validation.lab.workload import server_binary

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="the server is built with Go")

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GRACEFUL = {"listener": "close", "idle": "close", "busy": "finish", "unused": "keep", "exit": "drained"}
IGNORED = {"listener": "keep", "idle": "keep", "busy": "finish", "unused": "keep", "exit": "never"}


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("ROLLSIM_CACHE", str(cache))
        yield server_binary(Steps(Console(quiet=True), cache / "logs"))


@pytest.fixture
def serve(binary, tmp_path):
    """Start the server with these settings; it is gone after the test."""
    running = []

    def start(**settings):
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (tmp_path / "healthy.html").write_text("ok")
        config = tmp_path / "server.json"
        config.write_text(json.dumps({"port": port, "root": str(tmp_path), "body": "red"} | settings))
        server = Server(subprocess.Popen([binary, config]), port)
        running.append(server)
        wait_until("the server listens", server.listens, timeout_s=5, every_s=0.01)
        return server

    yield start
    for server in running:
        server.end()


class Server:
    def __init__(self, process, port):
        self.process, self.port = process, port
        self.sockets = []

    def connect(self):
        self.sockets.append(socket.create_connection(("127.0.0.1", self.port), timeout=5))
        return self.sockets[-1]

    def end(self):
        self.process.kill()
        self.process.wait()
        for each in self.sockets:
            each.close()

    def listens(self):
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True

    def ended(self):
        return self.process.poll() is not None

    def stop(self, name="SIGTERM"):
        self.process.send_signal(getattr(signal, name))


def answer(client):
    """All that comes until the body is complete, the connection ends or it is reset."""
    text = b""
    try:
        while b"red" not in text.partition(b"\r\n\r\n")[2] and (part := client.recv(4096)):
            text += part
    except ConnectionResetError:
        return "reset"
    return text.decode()


def idle(server):
    """A connection with one answered request behind it."""
    client = server.connect()
    client.sendall(ASK)
    assert "200 OK" in answer(client)
    return client


def test_a_signal_that_is_not_described_ends_it_at_once(serve):
    """Whatever the connections do; process 1 too."""
    server = serve(onStop={}, serviceTime={"kind": "Constant", "value_s": 5})
    client = server.connect()
    client.sendall(ASK)
    server.stop("SIGUSR2")
    wait_until("the server has ended", server.ended, timeout_s=2)
    assert answer(client) in {"", "reset"}


def test_a_graceful_stop_refuses_new_and_ends_idle_connections(serve):
    """The listener is gone and an idle client reads the end."""
    server = serve(onStop={"SIGTERM": GRACEFUL}, serviceTime={"kind": "Constant", "value_s": 0.3})
    client, busy = idle(server), server.connect()
    busy.sendall(ASK)
    time.sleep(0.1)
    server.stop()
    assert client.recv(10) == b""
    assert not server.listens()


def test_a_graceful_stop_completes_the_answer_and_says_close(serve):
    """Its header leaves after the signal, so it can; the process ends when the last connection has."""
    server = serve(onStop={"SIGTERM": GRACEFUL}, serviceTime={"kind": "Constant", "value_s": 0.3})
    busy = server.connect()
    busy.sendall(ASK)
    time.sleep(0.1)
    server.stop()
    assert "Connection: close" in answer(busy)
    assert busy.recv(10) == b""
    wait_until("the server has ended", server.ended, timeout_s=2)


def test_a_kept_unused_connection_is_served_once_and_holds_the_exit_back(serve):
    """Accepted before the signal, its request comes after it."""
    server = serve(onStop={"SIGTERM": GRACEFUL})
    unused = server.connect()
    time.sleep(0.1)
    server.stop()
    time.sleep(0.2)
    assert not server.ended()
    unused.sendall(ASK)
    assert "Connection: close" in answer(unused)
    wait_until("the server has ended", server.ended, timeout_s=2)


def test_an_unused_connection_holds_the_exit_back_no_longer_than_its_timeout(serve):
    """As nginx' client_header_timeout does."""
    server = serve(onStop={"SIGTERM": GRACEFUL | {"unusedTimeout": 0.3}})
    unused = server.connect()
    time.sleep(0.1)
    server.stop()
    wait_until("the server has ended", server.ended, timeout_s=2)
    assert unused.recv(10) == b""


def test_a_cut_answer_ends_in_the_middle(serve):
    """Header and some of the body, then the end, before the process ends."""
    stop = GRACEFUL | {"busy": "cut", "exit": "after", "exitAfter": 0.5}
    server = serve(
        onStop={"SIGTERM": stop}, streamTime={"kind": "Constant", "value_s": 3}, bodyBytes=3000, body="x"
    )
    client = server.connect()
    client.sendall(ASK)
    time.sleep(0.3)
    server.stop()
    text = answer(client)
    assert "Content-Length: 3000" in text
    assert 0 < len(text.partition("\r\n\r\n")[2]) < 1000
    assert not server.ended()
    wait_until("the server has ended", server.ended, timeout_s=2)


def test_an_ignored_signal_changes_nothing(serve):
    """As process 1 without a handler: it goes on, keep-alive too."""
    server = serve(onStop={"SIGTERM": IGNORED})
    client = idle(server)
    server.stop()
    time.sleep(0.2)
    client.sendall(ASK)
    assert "Connection: keep-alive" in answer(client)
    assert server.listens()


def test_an_idle_connection_may_be_closed_after_one_more_request(serve):
    """`closeAfterNext`: served with `Connection: close`."""
    server = serve(onStop={"SIGTERM": GRACEFUL | {"idle": "closeAfterNext"}})
    client = idle(server)
    server.stop()
    time.sleep(0.1)
    client.sendall(ASK)
    assert "Connection: close" in answer(client)


def test_a_drain_has_its_limit(serve):
    """At `drainTimeout` the process ends with what is under way."""
    server = serve(
        onStop={"SIGTERM": GRACEFUL | {"drainTimeout": 0.3}}, serviceTime={"kind": "Constant", "value_s": 5}
    )
    client = server.connect()
    client.sendall(ASK)
    time.sleep(0.1)
    server.stop()
    wait_until("the server has ended", server.ended, timeout_s=2)
    assert answer(client) in {"", "reset"}


def test_the_header_is_late_and_the_body_slow_as_told(serve):
    """Service time to the first byte, stream time to the last."""
    server = serve(
        serviceTime={"kind": "Constant", "value_s": 0.2},
        streamTime={"kind": "Uniform", "min_s": 0.3, "max_s": 0.3},
        bodyBytes=100,
        body="x",
    )
    begun, client = time.monotonic(), server.connect()
    client.sendall(ASK)
    first = client.recv(4096)
    first_s = time.monotonic() - begun
    while len(first.partition(b"\r\n\r\n")[2]) < 100:
        first += client.recv(4096)
    last_s = time.monotonic() - begun
    assert 0.2 <= first_s < 0.35
    assert 0.5 <= last_s < 0.8


def test_the_probe_fails_once_its_file_is_removed(serve, tmp_path):
    """What a preStop hook with `rm` relies on."""
    server = serve()
    ask = b"GET /healthy.html HTTP/1.1\r\nConnection: close\r\n\r\n"
    for expected in ("200 OK", "404 Not Found"):
        client = server.connect()
        client.sendall(ask)
        assert expected in answer(client)
        (tmp_path / "healthy.html").unlink(missing_ok=True)


def test_without_keep_alive_every_answer_ends_the_connection(serve):
    """As gunicorn's sync worker."""
    server = serve(keepAlive=False)
    client = server.connect()
    client.sendall(ASK)
    assert "Connection: close" in answer(client)
    assert client.recv(10) == b""


def test_an_idle_connection_ends_after_its_timeout(serve):
    """`idleTimeout`, as Node's keepAliveTimeout."""
    client = idle(serve(idleTimeout=0.2))
    begun = time.monotonic()
    assert client.recv(10) == b""
    assert 0.1 < time.monotonic() - begun < 1.0


def test_it_becomes_the_command_after_the_start_up_time(binary, tmp_path):
    """The wrapper of nginx and HAProxy: sleep, then exec."""
    config = tmp_path / "server.json"
    config.write_text(json.dumps({"startup": {"kind": "Constant", "value_s": 0.3, "shift_s": -0.1}}))
    begun = time.monotonic()
    done = subprocess.run([binary, config, "sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    assert time.monotonic() - begun >= 0.2
    assert done.stdout.strip().isdigit()
