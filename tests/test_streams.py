"""Random streams: found by name, so nobody's draws depend on who else exists."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from assertions import assert_mean
from seeds import seed_of

from sim.errors import ModelBug
from sim.streams import Streams


def draws(streams, name, n=5):
    return streams.take(name).random(n).tolist()


def test_the_order_of_taking_changes_nothing():
    """A stream is the same whether it is taken first or last."""
    early, late = Streams(7), Streams(7)
    first = draws(early, "kubelet/0")
    for other in ("client/1", "client/2", "scheduler"):
        late.take(other)
    assert draws(late, "kubelet/0") == first


@pytest.mark.parametrize(
    "other", [(8, 0, "kubelet/0"), (7, 1, "kubelet/0"), (7, 0, "kubelet/1"), (7, 0, "kubelet/10")]
)
def test_seed_replication_and_name_each_make_another_stream(other):
    """No two of (seed, replication, name) share a stream."""
    seed, replication, name = other
    assert draws(Streams(seed, replication), name) != draws(Streams(7, 0), "kubelet/0")


def test_a_stream_has_one_owner():
    """Taking a stream twice would couple two actors: it is a bug of the model."""
    streams = Streams(1)
    streams.take("load")
    with pytest.raises(ModelBug, match="'load'"):
        streams.take("load")


def test_neighbouring_streams_are_uncorrelated(streams):
    """Streams of consecutive names and replications are independent: products of centred draws average 0."""
    a = [streams.take(f"client/{i}").random(100) - 0.5 for i in range(200)]
    b = [Streams(streams.seed, 1).take(f"client/{i}").random(100) - 0.5 for i in range(200)]
    products = np.concatenate([*(x * y for x, y in itertools.pairwise(a)), *map(np.multiply, a, b)])
    assert_mean(products, 0.0, false_alarm=1e-6, notices=0.005)


def test_draws_do_not_depend_on_the_process():
    """Another process with another hash seed draws the same."""
    code = "from sim.streams import Streams; print(Streams(3, 2).take('client/7').random(3).tolist())"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert printed == {str(draws(Streams(3, 2), "client/7", 3))}


def test_the_fixture_is_seeded_from_the_test(streams, request):
    """Each test has its own seed, the same in every run."""
    assert streams.seed == seed_of(request.node.nodeid)
    assert seed_of("one test") != seed_of("another test")
