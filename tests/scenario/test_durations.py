"""Durations, rates and distributions as they stand in files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from sim.scenario.distributions import Constant, Empirical, Exponential, LogNormal, Uniform
from sim.scenario.durations import parse_distribution, parse_duration, parse_rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300ms", 0.3),
        ("5s", 5),
        ("1.5s", 1.5),
        ("2m", 120),
        ("1m30s", 90),
        ("1h", 3600),
        ("100us", 1e-4),
        (2, 2),
        (0.25, 0.25),
        (" 1s ", 1),
    ],
)
def test_duration(text, seconds):
    """A number with its unit, several of them, or plain seconds."""
    assert parse_duration(text, "x") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["5", "5 s", "-5s", "s", "1s garbage", "", -1, True, None, [], float("nan"), float("inf"), "1d"]
)
def test_not_a_duration(text):
    """No unit, an unknown one, a negative or endless time: one line that says what is allowed."""
    with pytest.raises(InputError, match=r"^f: a: got .* expected a duration such as") as caught:
        parse_duration(text, "f: a")
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10**9))
def test_milliseconds_are_thousandths(n):
    """`Nms` is N / 1000 s, whatever N."""
    assert parse_duration(f"{n}ms", "x") == pytest.approx(n / 1000)


@pytest.mark.parametrize(
    ("text", "per_s"), [("500/s", 500), ("30 / m", 0.5), ("36/h", 0.01), (20, 20), ("1.5/s", 1.5)]
)
def test_rate(text, per_s):
    """Requests per second, minute or hour."""
    assert parse_rate(text, "x") == pytest.approx(per_s)


@pytest.mark.parametrize("text", ["500", "500/d", 0, -1, "0/s", None, True])
def test_not_a_rate(text):
    """A rate is positive and says per what."""
    with pytest.raises(InputError, match="expected a positive rate"):
        parse_rate(text, "x")


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ("20ms", Constant(value_s=0.02)),
        ({"constant": "20ms"}, Constant(value_s=0.02)),
        ({"uniform": ["1ms", "2ms"]}, Uniform(min_s=0.001, max_s=0.002)),
        ({"exponential": "20ms"}, Exponential(scale_s=0.02)),
        ({"lognormal": {"median": "10ms", "p95": "30ms"}}, LogNormal(median_s=0.01, p95_s=0.03)),
        ({"quantiles": ["1ms", "2ms", "2ms", "9ms"]}, Empirical(quantiles_s=(0.001, 0.002, 0.002, 0.009))),
    ],
)
def test_distribution(given_value, expected):
    """Each distribution by its name."""
    assert parse_distribution(given_value, "x") == expected


@pytest.mark.parametrize(
    "given_value",
    [
        {"uniform": ["2ms", "1ms"]},
        {"uniform": ["1ms"]},
        {"uniform": ["1ms", "2ms", "3ms"]},
        {"lognormal": {"median": "30ms", "p95": "10ms"}},
        {"lognormal": {"median": "0s", "p95": "10ms"}},
        {"lognormal": {"median": "1ms"}},
        {"quantiles": ["2ms", "1ms"]},
        {"quantiles": ["2ms"]},
        {"gamma": "2ms"},
        {"uniform": ["1ms", "2ms"], "exponential": "1ms"},
        {},
        "soon",
        [1, 2],
    ],
)
def test_not_a_distribution(given_value):
    """Bounds in order, parameters complete, one name that is known."""
    with pytest.raises(InputError, match=r"^f: x"):
        parse_distribution(given_value, "f: x")
