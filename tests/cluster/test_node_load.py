"""What a load does to pods that start and end on its node."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from builders import constant_timing

from sim.node_load import NodeLoad


def slowdown(wanted, **load):
    """Of operations that want *wanted* of two cores, of which the node's own work takes a fifth."""
    node = NodeLoad(replace(constant_timing(), node_utilisation=0.2), cores=2)
    if load:
        node.traffic = SimpleNamespace(over=False, has_proxy=False, **load)
    return node.slowdown(wanted)


def paced(utilisation):
    return {"no_pause": None, "utilisation": utilisation, "share_at_work": 1.0}


@pytest.mark.parametrize(("wanted", "expected"), [(1.0, 1.0), (2.6, 1.5)])
def test_without_a_load_operations_share_with_the_nodes_own_work(wanted, expected):
    """max(1, (wanted + 0.4) / 2)."""
    assert slowdown(wanted) == pytest.approx(expected)


@pytest.mark.parametrize(("wanted", "shared"), [(1.0, 1.0), (2.6, 1.5)])
def test_a_paced_load_holds_an_operation_up_before_the_cores_are_full(wanted, shared):
    """M/M/2: 1 / (1 - u^2) at u = 0.2 + 0.2 over that at u = 0.2, and what the operations do to each other."""
    assert slowdown(wanted, **paced(0.2)) == pytest.approx(shared * (1 - 0.2**2) / (1 - 0.4**2))


def test_a_paced_load_slows_down_no_more_than_one_without_pause():
    """At 0.95 the queue would say 9.8; a client and a server that never sleep take two shares beside 1 + 0.4."""
    never_asleep = slowdown(1.0, no_pause=SimpleNamespace(n_runnable=3))
    assert slowdown(1.0, **paced(0.75)) == pytest.approx(never_asleep) == pytest.approx(1.7)


def test_a_paced_load_that_hangs_slows_nothing_down():
    """All its connections wait for a dead address."""
    assert slowdown(1.0, **(paced(0.5) | {"share_at_work": 0.0})) == pytest.approx(1.0)
