"""`rollsim sweep` killed at random moments: what it said was done is there, and what was half done is not."""

import os
import pty
import random
import re
import select
import subprocess
import time

import pyarrow.parquet as pq
import pytest
from seeds import seed_of
from small_sweep import ROLLSIM, parts_of, processes_of_group, rollsim

POINTS, RUNS = 24, 20
SWEEP = ("-p", f"load.connections=1..{POINTS}", "--runs", str(RUNS), "--processes", "1")
SAID = re.compile(rb"(\d+)/%d" % POINTS)
PATIENCE_S = 1200


class OnTerminal:
    """The command with its progress bar on a terminal of its own, in a process group of its own."""

    def __init__(self, *arguments):
        self.screen, terminal = pty.openpty()
        self.text = b""
        self.process = subprocess.Popen(
            [*ROLLSIM, *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
            start_new_session=True,
        )
        os.close(terminal)

    def read(self, wait_s):
        """Take in what it writes for so long; False once nobody can write there any more."""
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            if select.select([self.screen], [], [], left_s)[0]:
                try:
                    self.text += os.read(self.screen, 65536)
                except OSError:  # the terminal's other side is closed
                    return False
        return True

    @property
    def points_done(self):
        """The last number that the bar has shown."""
        return int(([b"0", *SAID.findall(self.text)])[-1])

    def close(self):
        """Kill it where it runs yet, and wait for its workers, which hold the lock too."""
        self.process.kill()
        self.process.wait()
        deadline_s = time.monotonic() + PATIENCE_S
        while self.read(0.05) and time.monotonic() < deadline_s:
            pass
        while processes_of_group(self.process.pid):
            assert time.monotonic() < deadline_s, "workers outlive their parent"
            time.sleep(0.05)
        os.close(self.screen)


def rows_kept(out):
    """Rows in the parts; each part can be read, and none holds a row of another."""
    tables = [pq.read_table(part, columns=["point", "replication"]) for part in parts_of(out)]
    rows = [row for table in tables for row in zip(*table.to_pydict().values(), strict=True)]
    assert len(set(rows)) == len(rows)
    return len(rows)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "n_kills", [pytest.param(4, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.nightly)]
)
def test_kills_at_random_moments(small, tmp_path, request, n_kills):
    """kill -9, again and again: nothing said to be done is lost, and the file is that of an undisturbed sweep."""
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    rollsim("sweep", small, *SWEEP, "-o", whole)
    draw = random.Random(seed_of(request.node.nodeid))
    killed = kept = 0
    while killed < n_kills:
        sweeping = OnTerminal("sweep", small, *SWEEP, "-o", out)
        enough, then_s = draw.randrange(POINTS + 1), draw.uniform(0, 0.3)
        deadline_s = time.monotonic() + PATIENCE_S
        while sweeping.points_done < enough and sweeping.read(0.02) and sweeping.process.poll() is None:
            assert time.monotonic() < deadline_s, sweeping.text
        sweeping.read(then_s)
        killed += sweeping.process.poll() is None
        sweeping.close()
        if out.exists():
            assert out.read_bytes() == whole.read_bytes()
            rollsim("sweep", small, *SWEEP, "-o", out)  # a kill between the file and its parts' removal
            assert not parts_of(out)
            out.unlink()
            kept = 0
            continue
        before, kept = kept, rows_kept(out)
        assert kept >= max(before, sweeping.points_done * RUNS)
    rollsim("sweep", small, *SWEEP, "-o", out)
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".parts") == []
