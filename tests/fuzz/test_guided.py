"""The coverage-guided fuzzer, ten minutes a reader; `python tests/fuzz/guided.py 30` is its short form."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_readers import NIGHTLY_S

GUIDED = Path(__file__).with_name("guided.py")


@pytest.mark.nightly
@pytest.mark.timeout(NIGHTLY_S + 600)
@pytest.mark.parametrize("program", ["nginx", "haproxy"])
def test_no_input_breaks_a_promise(program, tmp_path):
    """Inputs that reach new lines of a reader are bred further."""
    pytest.importorskip("atheris", reason="pip install 'rollsim[nightly]'")
    done = subprocess.run(
        [sys.executable, str(GUIDED), program, str(round(NIGHTLY_S))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stat::number_of_executed_units" in done.stderr
    print(done.stderr[-600:])
