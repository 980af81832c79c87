"""Hook commands: what sh would do in time, held against sh itself where it can be."""

import shutil
import subprocess

import pytest

from sim.errors import UnsupportedInput
from sim.scenario.shell import FOREVER_S, ContainerFiles, read_command

FILES = ContainerFiles(
    read_only=("/etc/conf",),
    empty=("/tmp/work",),
    asked_for=frozenset({"/www/healthy.html", "/tmp/work/ready"}),
)


def read(line, files=FILES):
    return read_command(["/bin/sh", "-c", line], files)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("sleep 5", 5),
        ("sleep 1.5", 1.5),
        ("sleep 1m", 60),
        ("sleep 1 2", 3),
        ("sleep 2; sleep 3", 5),
        ("sleep 2 && sleep 3", 5),
        ("true && sleep 3", 3),
        ("false && sleep 3", 0),
        ("false || sleep 3", 3),
        ("true || sleep 3", 0),
        ("false && sleep 1 || sleep 2", 2),
        ("true || sleep 1 && sleep 2", 2),
        ("false; sleep 4", 4),
        ("sleep 1\nsleep 2\n", 3),
        ("exit 0; sleep 9", 0),
        ("exec sleep 4; sleep 1", 4),
        ("sleep 2 # sleep 9", 2),
        ("echo 'a; sleep 9' && sleep 1", 1),
        ("sleep 3 > /dev/null 2>&1", 3),
        ("echo bye >/proc/1/fd/1; sleep 1", 1),
        ('sleep "5"', 5),
        (":; /bin/sleep 2", 2),
        ("sleep infinity", FOREVER_S),
        ("echo $HOME; sleep 1", 1),
    ],
)
def test_how_long_a_line_takes(line, seconds):
    """Sleeps add up along the way that the exit statuses choose."""
    assert read(line).duration_s == pytest.approx(seconds)


@pytest.mark.skipif(not shutil.which("sh"), reason="needs a shell")
@pytest.mark.parametrize(
    "line",
    [
        "false && sleep 1 || sleep 2",
        "true || sleep 1 && sleep 2",
        "false || false && sleep 1; sleep 4",
        "true && false || true && sleep 8",
        "echo 'x && sleep 9'; sleep 1",
        "sleep 1;sleep 2&&sleep 4",
        "exit 1 || sleep 3",
        "true && sleep 1\nfalse || sleep 2\n",
        "sleep 1 # no; sleep 2",
        "false;true&&sleep 2||sleep 4",
        'echo "a#b" && sleep 1',
        "rm -f /nonexistent/x && sleep 2",
        "echo a\\;b; sleep 1",
    ],
)
def test_reads_as_a_real_shell_does(line, tmp_path):
    """The sleeps that sh runs, counted by a `sleep` of our own, are the ones that are read."""
    fake = tmp_path / "sleep"
    fake.write_text('#!/bin/sh\necho "$1" >> "$SLEEPS"\n')
    fake.chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLEEPS": str(log)}
    done = subprocess.run(["sh", "-c", line], env=environment, check=False, stdout=subprocess.DEVNULL)
    effects = read(line)
    assert effects.duration_s == sum(float(number) for number in log.read_text().split())
    assert effects.status == done.returncode


def test_the_probes_file_and_the_sleep_behind_it():
    """The tutorial's hook: the file goes first, then the wait."""
    effects = read("rm /www/healthy.html && sleep 10")
    assert (effects.removes, effects.duration_s, effects.warnings) == ([(0.0, "/www/healthy.html")], 10.0, [])


def test_a_relative_path_is_the_probes():
    """Without a known working directory, only the file that a probe asks for can be meant."""
    assert read("sleep 1; rm healthy.html").removes == [(1.0, "/www/healthy.html")]
    with pytest.raises(UnsupportedInput, match="depends on the image's working directory"):
        read("rm other.html")
    assert read("rm other.html", ContainerFiles(working_dir="/srv")).removes == [(0.0, "/srv/other.html")]


@pytest.mark.parametrize("option", ["", "-f "])
def test_a_file_on_a_read_only_mount_stays(option):
    """rm fails there, with -f too, so that && skips the sleep; and the reader says so."""
    effects = read(f"rm {option}/etc/conf/healthy.html && sleep 10")
    assert (effects.removes, effects.duration_s, effects.status) == ([], 0.0, 1)
    assert "read-only" in effects.warnings[0]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("rm /www/healthy.html; rm /www/healthy.html && sleep 5", 0),
        ("rm /www/healthy.html; rm -f /www/healthy.html && sleep 5", 5),
        ("rm /tmp/work/nothing && sleep 5", 0),
        ("rm -f /tmp/work/nothing && sleep 5", 5),
        ("rm /tmp/work/ready && sleep 5", 5),
    ],
)
def test_a_missing_file(line, seconds):
    """rm fails on what is gone, or never was in an emptyDir; -f forgives that."""
    assert read(line).duration_s == seconds


def test_a_file_that_nobody_asks_for():
    """Taken to exist, because the image decides; said, because the sleep hangs on it."""
    effects = read("rm /run/flag && sleep 5")
    assert effects.duration_s == 5
    assert "taken to exist" in effects.warnings[0]


@pytest.mark.parametrize(
    ("line", "signals"),
    [
        ("nginx -s quit", [(0, "SIGQUIT")]),
        ("/usr/sbin/nginx -s stop", [(0, "SIGTERM")]),
        ("sleep 5; nginx -s quit; sleep 3", [(5, "SIGQUIT")]),
        ("kill -QUIT 1", [(0, "SIGQUIT")]),
        ("kill -SIGUSR1 1", [(0, "SIGUSR1")]),
        ("kill -s TERM 1", [(0, "SIGTERM")]),
        ("kill -3 1", [(0, "SIGQUIT")]),
        ("kill 1", [(0, "SIGTERM")]),
        ("kill -QUIT $(cat /run/nginx.pid)", [(0, "SIGQUIT")]),
        ("kill -USR1 `pidof haproxy`", [(0, "SIGUSR1")]),
        ("killall -QUIT nginx", [(0, "SIGQUIT")]),
    ],
)
def test_signals(line, signals):
    """Signals to the server, with their time in the hook."""
    assert read(line).signals == signals


@pytest.mark.parametrize(
    "line",
    [
        "sleep 5 &",
        "while true; do sleep 1; done",
        "curl localhost/drain",
        "sleep $WAIT",
        "(sleep 1)",
        "a=1; sleep 1",
        "sleep 1 | cat",
        "echo $(curl x); sleep 1",
        "rm /www/*.html",
        "nginx -s reload",
        "kill -QUIT 7",
        "sleep soon",
        "sleep 1 > /www/log",
        "if true; then sleep 1; fi",
        "echo 'unclosed",
        "rm $FILE && sleep 1",
        "for i in 1 2; do sleep 1; done",
    ],
)
def test_what_cannot_be_read(line):
    """Anything that could do more is refused, with the part that is in the way."""
    with pytest.raises(UnsupportedInput) as caught:
        read(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "argv", [["sleep", "5"], ["/bin/sleep", "5"], ["bash", "-ec", "sleep 5"], ["sh", "-e", "-c", "sleep 5"]]
)
def test_without_a_shell(argv):
    """A command can stand without a shell, or with the shell's own options."""
    assert read_command(argv, FILES).duration_s == 5


@pytest.mark.parametrize("argv", [["/opt/stop.sh"], ["sh", "/opt/stop.sh"], ["sh"]])
def test_a_script_is_somebody_elses_file(argv):
    """What a script does is not in the manifests."""
    with pytest.raises(UnsupportedInput):
        read_command(argv, FILES)


def test_stop_on_failure():
    """With `-e` the line ends at the first command that fails."""
    assert read_command(["sh", "-ec", "false; sleep 5"], FILES).duration_s == 0
