"""The benchmark command runs and says what it should; how fast anything is, no test says."""

import json

import engine  # beside this file
import pytest

KEYS = {"stage2_speedup", "stage3_speedup", "rate_x10_cost", "stage2_ms", "oracle_rps", "scale"}


@pytest.mark.slow
def test_it_prints_every_figure():
    """Tiny sizes: each figure is there, is a number, and can be written as JSON."""
    measured = json.loads(json.dumps(engine.measure(runs=1, share=0.002, replicas=4, connections=5)))
    assert set(measured) == KEYS
    assert all(value > 0 for name, value in measured.items() if name not in ("oracle_rps", "scale"))
    assert set(measured["oracle_rps"]) == {"direct", "proxied"}
    assert all(value > 0 for value in measured["oracle_rps"].values())
    assert measured["scale"]["seconds"] > 0
    assert measured["scale"]["peak_mib"] > 0
