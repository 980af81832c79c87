"""Pods that start and end on one node share its cores, with each other and with all else there."""

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from sim.cluster.node_cpu import NodeCpu


def ends(jobs, *, cores=2, operation_cores=1.6, others=0.0, beside_load=True):
    """When each (start, alone) job ends. [s]"""
    env = simpy.Environment()
    cpu = NodeCpu(
        env,
        cores=cores,
        operation_cores=operation_cores,
        slowdown=lambda wanted: max(1.0, (wanted + others) / cores),
    )
    ended = {}

    def job(i, start_s, alone_s):
        yield env.timeout(start_s)
        yield from cpu.work(alone_s, beside_load=beside_load)
        ended[i] = float(env.now)

    for i, (start_s, alone_s) in enumerate(jobs):
        env.process(job(i, start_s, alone_s))
    env.run()
    return [ended[i] for i in range(len(jobs))]


@pytest.mark.parametrize(("n", "takes_s"), [(1, 1.0), (2, 1.6), (3, 2.4), (6, 4.8)])
def test_n_at_once_take_n_k_over_c_times_as_long(n, takes_s):
    """n operations of k = 1.6 cores on c = 2: each takes max(1, n k / c) times as long as alone."""
    assert ends([(0.0, 1.0)] * n) == pytest.approx([takes_s] * n)


@pytest.mark.parametrize(
    ("n", "others", "takes_s"), [(1, 0.4, 1.0), (1, 2.4, 2.0), (2, 0.4, 1.8), (2, 1.4, 2.3), (3, 0.0, 2.4)]
)
def test_the_load_and_the_nodes_own_work_take_their_share(n, others, takes_s):
    """n operations of k = 1.6 cores beside work that wants w of c = 2: max(1, (n k + w) / c) times as long."""
    assert ends([(0.0, 1.0)] * n, others=others) == pytest.approx([takes_s] * n)


def test_what_the_load_does_not_slow_down():
    """A signal is delivered as soon beside a load as without it; other operations still hold it up."""
    assert ends([(0.0, 1.0)] * 2, others=5.0, beside_load=False) == pytest.approx([1.6] * 2)


def test_one_that_comes_later_slows_the_first_from_then_on():
    """The first has done 0.5 alone, the rest of both at speed 1/1.6; the second ends alone again."""
    first, second = ends([(0.0, 1.0), (0.5, 1.0)])
    assert first == pytest.approx(0.5 + 0.5 * 1.6)
    assert second == pytest.approx(first + 0.5)


def test_no_time_is_no_time():
    """An operation without cost ends at its instant, also among others."""
    assert ends([(0.0, 1.0), (0.3, 0.0)])[1] == pytest.approx(0.3)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=8),
    st.integers(1, 8),
    st.floats(0.1, 4.0),
)
def test_work_is_conserved(jobs, cores, operation_cores):
    """None ends before it would alone; all together never use more than the cores there are."""
    ended = ends(jobs, cores=cores, operation_cores=operation_cores)
    for (start_s, alone_s), end_s in zip(jobs, ended, strict=True):
        assert end_s >= start_s + alone_s - 1e-9
    busy_s = sum(alone_s for _, alone_s in jobs) * operation_cores
    assert busy_s <= cores * max(ended) * (1 + 1e-9)


def test_who_wants_to_know_is_told_before_it_changes():
    """Two operations of 1.5 cores on two cores, 1 s alone each: what they wanted up to each change."""
    env = simpy.Environment()
    cpu = NodeCpu(env, cores=2, operation_cores=1.5, slowdown=lambda wanted: max(1.0, wanted / 2))
    seen = []
    cpu.tell(lambda: seen.append((float(env.now), cpu.wanted)))
    for _ in range(2):
        env.process(cpu.work(1.0))
    env.run()
    assert seen == [(0.0, 0.0), (0.0, 1.5), (pytest.approx(1.5), 3.0), (pytest.approx(1.5), 1.5)]


def test_a_deletion_is_at_work_for_half_a_second():
    """Who wants to know is told before it begins and before it ends; a second one makes it longer."""
    env = simpy.Environment()
    cpu = NodeCpu(env, cores=2, operation_cores=1.5, slowdown=lambda wanted: max(1.0, wanted / 2))
    seen = []
    cpu.tell(lambda: seen.append((float(env.now), cpu.in_burst)))

    def delete():
        for _ in range(2):
            cpu.deletion()
            yield env.timeout(0.3)

    env.process(delete())
    env.run()
    assert seen == [(0.0, False), (0.3, True), (0.5, True), (pytest.approx(0.8), True)]
    assert not cpu.in_burst
