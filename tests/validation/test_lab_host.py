"""What the lab needs of its host, and what it says when that is missing."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from rich.console import Console
from typer.testing import CliRunner

from validation.lab import host, images, registry
from validation.lab.cli import app
from validation.lab.commands import CommandFailed, LabError, run, wait_until
from validation.lab.steps import Steps


def test_the_missing_bit_is_named():
    """CapBnd without bit 24 lacks CAP_SYS_RESOURCE and nothing else."""
    status = "Name:\tbash\nCapEff:\t0000000000000000\nCapBnd:\t000001fffeffffff\n"
    assert host.lacking_capabilities(status) == ["CAP_SYS_RESOURCE"]


def test_a_full_bounding_set_lacks_nothing():
    """All 41 capabilities of linux/capability.h are bits 0 to 40."""
    assert host.lacking_capabilities("CapBnd:\t000001ffffffffff\n") == []


@pytest.mark.skipif(shutil.which("jq") is None, reason="the runtime needs jq")
def test_the_runtime_asks_for_no_capability_that_the_host_lacks(tmp_path):
    """config.json (run) and the process file (exec) lose what is lacking and keep the rest, then runc runs."""
    script = (host.IMAGES / "runc-bounded").read_text(encoding="utf-8")
    runtime = tmp_path / "runtime"
    runtime.write_text(script.replace("@LACKING@", '["CAP_B"]').replace("@RUNC@", "echo"), encoding="utf-8")
    asked = {"capabilities": {"bounding": ["CAP_A", "CAP_B"], "effective": ["CAP_B"]}}
    (tmp_path / "config.json").write_text(json.dumps({"process": asked}), encoding="utf-8")
    (tmp_path / "process.json").write_text(json.dumps(asked), encoding="utf-8")
    command = [
        "bash",
        str(runtime),
        "--bundle",
        str(tmp_path),
        "--process",
        str(tmp_path / "process.json"),
        "x",
    ]
    assert run(command).split()[-1] == "x"
    bounded = {"capabilities": {"bounding": ["CAP_A"], "effective": []}}
    assert json.loads((tmp_path / "config.json").read_text()) == {"process": bounded}
    assert json.loads((tmp_path / "process.json").read_text()) == bounded


def test_too_little_space_is_told_with_both_figures(tmp_path):
    """More than any disk has: one line with the folder, what is free and what is needed."""
    with pytest.raises(LabError, match=r"deep/not-there: [\d.]+ GB free, the lab needs 1000000000\.0 GB"):
        host.require_free(tmp_path / "deep" / "not-there", 10**18)


def test_without_docker_up_says_what_to_install(monkeypatch, tmp_path):
    """No docker in PATH: one line, exit code 1."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ROLLSIM_CACHE", str(tmp_path / "cache"))
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "rollsim lab: no docker on this host; on Debian: apt-get install docker.io containerd runc"
    ]


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    """A cache below a file: one line with its path and the variable that moves it."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROLLSIM_CACHE", str(tmp_path / "file" / "cache"))
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 1
    assert "file/cache: Not a directory; set ROLLSIM_CACHE" in result.stderr


def test_a_broken_step_says_which_with_its_log_and_last_lines(tmp_path):
    """The error of a step holds its title, the log's path and the end of the log."""
    steps = Steps(Console(quiet=True), tmp_path)

    def break_it():
        with steps.step("bake the cake") as log:
            run(["sh", "-c", "seq 100; exit 3"], log=log)

    with pytest.raises(LabError) as broken:
        break_it()
    text = str(broken.value)
    assert "step 'bake the cake' failed" in text
    assert "exit code 3" in text
    assert f"log: {tmp_path / 'bake-the-cake.log'}" in text
    assert text.splitlines()[-1].strip() == "100"


def test_a_step_that_works_leaves_its_log(tmp_path):
    """The log is begun anew by each run of the step."""
    for word in ("first", "second"):
        with Steps(Console(quiet=True), tmp_path).step("Say it") as log:
            run(["echo", word], log=log)
    assert (tmp_path / "say-it.log").read_text().splitlines() == ["$ echo second", "second"]


def test_a_command_that_is_not_there_is_named():
    """Not found is a CommandFailed, no FileNotFoundError."""
    with pytest.raises(CommandFailed, match="no-such-command: not found"):
        run(["no-such-command"])


def test_a_wait_ends_at_its_deadline():
    """What was waited for stands in the error."""
    with pytest.raises(CommandFailed, match=r"the moon is blue: not so after 0\.05 s"):
        wait_until("the moon is blue", lambda: False, timeout_s=0.05, every_s=0.01)


class Registry(BaseHTTPRequestHandler):
    """A registry that wants a token, as Docker Hub does."""

    def do_HEAD(self):
        self.send_response(401 if self.path == "/v2/" else 500)
        self.end_headers()

    def log_message(self, *args):
        pass


def test_a_registry_that_wants_a_token_can_be_reached():
    """401 to HEAD /v2/ is an answer."""
    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.handle_request).start()
        assert registry.reachable(f"127.0.0.1:{server.server_port}")


def test_a_closed_port_is_no_registry():
    """Refused is not reachable."""
    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        port = server.server_port
    assert not registry.reachable(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("image", "expected"), [("kindest/node:v1", None), ("127.0.0.1:5000/kindest/node:v1", "127.0.0.1:5000")]
)
def test_the_registry_of_a_running_node_is_read_from_its_image(image, expected):
    """The prefix before kind's own name."""
    assert registry.registry_of(image) == expected


def test_another_release_comes_from_the_same_sources(monkeypatch, tmp_path):
    """Every suite of the host's release, security and updates too, becomes that of the wanted release."""
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    (tmp_path / "sources").write_text("URIs: http://mirror.example\nSuites: bookworm bookworm-updates\n")
    monkeypatch.setattr(images, "OS_RELEASE", tmp_path / "os-release")
    monkeypatch.setattr(images, "APT_SOURCES", (tmp_path / "not-there", tmp_path / "sources"))
    assert images.debian_sources("trixie").splitlines()[1] == "Suites: trixie trixie-updates"


def test_a_host_that_is_no_debian_is_refused(monkeypatch, tmp_path):
    """The air-gapped lab is made of Debian's packages."""
    (tmp_path / "os-release").write_text("ID=fedora\n")
    monkeypatch.setattr(images, "OS_RELEASE", tmp_path / "os-release")
    with pytest.raises(LabError, match="needs a Debian host"):
        images.debian_sources("trixie")
