"""Whatever a file or an option holds, its reader gives a model or one clear line, soon and in little memory."""

import os
import time

import pytest
from hypothesis import HealthCheck, given, seed, settings
from limits import memory_limit, said
from readers import READERS

NIGHTLY_S = float(os.environ.get("ROLLSIM_FUZZ_S", "600"))
"""How long the long form goes on with each reader."""
ROUND = 500


def fuzz(reader, examples, **options):
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        **options,
    )
    @given(reader.arguments)
    def some(arguments):
        said(reader.read, *arguments)

    return some


@pytest.mark.parametrize("name", READERS)
def test_model_or_one_line(name):
    """Short form: the same examples each time."""
    with memory_limit():
        fuzz(READERS[name], READERS[name].examples)()


@pytest.mark.nightly
@pytest.mark.timeout(NIGHTLY_S + 600)
@pytest.mark.parametrize("name", READERS)
def test_model_or_one_line_for_long(name):
    """Long form: other examples each time, ten minutes a reader; the seed of a round is its number."""
    first = time.time_ns() // 10**9
    ends_at_s = time.monotonic() + NIGHTLY_S
    n_rounds = 0
    with memory_limit():
        while time.monotonic() < ends_at_s:
            seed(first + n_rounds)(fuzz(READERS[name], ROUND, derandomize=False, print_blob=True))()
            n_rounds += 1
    assert n_rounds > 0
