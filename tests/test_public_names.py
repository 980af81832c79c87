"""What `from sim import …` gives, whatever was imported before."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "before", ["", "import sim.simulate", "from sim import predict", "from sim.plots import plot_timeline"]
)
def test_simulate_is_the_function(before):
    """The function keeps its name though a submodule is called the same."""
    code = (
        f"{before}\nfrom sim import simulate\nassert simulate.__name__ == 'simulate' and callable(simulate)"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
