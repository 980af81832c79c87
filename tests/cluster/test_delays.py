"""Latencies as one actor draws them: from its profile, stretched or replaced by what the load does to the node."""

from dataclasses import replace

import pytest
from builders import constant_timing

from sim.delays import NO_PRESSURE, Delays, Pressure
from sim.scenario.distributions import Constant

TIMING = replace(
    constant_timing(sandbox=0.2, api_write=0.1, signal_heard=0.003),
    saturated={"signal_heard": Constant(value_s=0.04)},
)
SATURATED, PACED = Pressure(stretch=2.0, saturated=True), Pressure(stretch=1.5, saturated=False)


@pytest.mark.parametrize(
    ("name", "pressure", "takes_s"),
    [
        ("api_write", NO_PRESSURE, 0.1),
        ("api_write", PACED, 0.15),
        ("api_write", SATURATED, 0.2),  # the profile knows nothing better than fair shares
        ("sandbox", SATURATED, 0.2),  # shares the cores as it goes on, not as it begins
        ("signal_heard", NO_PRESSURE, 0.003),
        ("signal_heard", PACED, 0.003),
        ("signal_heard", SATURATED, 0.04),  # measured, and not stretched once more
    ],
)
def test_a_latency_under_pressure(name, pressure, takes_s, streams):
    """What costs CPU is stretched; what was measured under a client without pause is drawn as it was."""
    delays = Delays(TIMING, streams.take("actor"), lambda: pressure)
    assert delays(name) == pytest.approx(takes_s)
