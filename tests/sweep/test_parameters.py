"""The grammar of `-p`: lists, ranges, spans, units."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from sim.sweep.parameters import parse_parameter

PATH = "load.connections"


def values(text):
    return [choice.value for choice in parse_parameter(f"{PATH}={text}").choices]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,5", [1, 2, 5]),
        ("true,false", [True, False]),
        ("null,5s", [None, "5s"]),
        ("0..10:5", [0, 3, 5, 8, 10]),
        ("0.0..10:5", [0.0, 2.5, 5.0, 7.5, 10.0]),
        ("1..3:9", [1, 2, 3]),
        ("1..1000:4:log", [1, 10, 100, 1000]),
        ("100ms..500ms:3", ["100ms", "300ms", "500ms"]),
        ("0..5s:3", ["0s", "3s", "5s"]),
        ("25%..100%:4", ["25%", "50%", "75%", "100%"]),
        ("500/s..1500/s:3", ["500/s", "1000/s", "1500/s"]),
        ("3..6", [3, 4, 5, 6]),
        ("0,5..10:2", [0, 5, 10]),
        ("-1..1", [-1, 0, 1]),
        ('"a,b",c', ["a,b", "c"]),
        ("{a: 1, b: [2, 3]},null", ['{"a": 1, "b": [2, 3]}', None]),
        ("it's,5", ["it's", 5]),
    ],
)
def test_values(text, expected):
    """What each form stands for, in its order."""
    found = values(text)
    assert found == expected
    assert [type(each) for each in found] == [type(each) for each in expected]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f"{PATH}=", "expected"),
        (f"{PATH}", "expected PATH=VALUE"),
        (f"{PATH}=1,,2", "between commas"),
        (f"{PATH}=1,1", "stands twice"),
        (f"{PATH}=5..1:3", "LO below HI"),
        (f"{PATH}=1..5:1", "from 2"),
        (f"{PATH}=0..5:3:log", "above 0"),
        (f"{PATH}=1ms..5s:3", "the same unit"),
        (f"{PATH}=1,2..5", "LO..HI:N"),
        (f"{PATH}=[1,2", "a bracket open"),
        (f'{PATH}="1,2', "open"),
        (f"{PATH}=0..99999999", "values"),
        (f"{PATH}={{a: b: c}}", "not YAML"),
    ],
)
def test_what_cannot_be_read_is_one_line(text, part):
    """The line names the path and what is expected."""
    with pytest.raises(InputError, match=r"load\.connections") as caught:
        parse_parameter(text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


TEXTS = st.text("ab,[]{}'\":#% \n-é01.", max_size=8).filter(
    lambda text: "{{" not in text and "{%" not in text
)


@given(st.lists(st.one_of(st.integers(), st.booleans(), TEXTS, st.none()), min_size=1, unique_by=json.dumps))
def test_a_list_of_anything_comes_back(given_values):
    """Values written as JSON (which is YAML) are read back, whatever commas and brackets they hold."""
    text = ",".join(json.dumps(value, ensure_ascii=True) for value in given_values)
    assert values(text) == given_values


@given(st.integers(-1000, 1000), st.integers(1, 2000), st.integers(2, 60))
def test_integers_stay_integers(low, width, n):
    """A range of integers has at most n of them, sorted, none twice, both ends among them."""
    found = values(f"{low}..{low + width}:{n}")
    assert found == sorted(set(found))
    assert found[0] == low
    assert found[-1] == low + width
    assert len(found) <= n
    assert all(isinstance(each, int) for each in found)


@given(st.decimals(-1000, 1000, places=2), st.decimals("0.01", 2000, places=2), st.integers(2, 60))
def test_fractions_are_evenly_spaced(low, width, n):
    """A range with a fraction at one end has exactly n values, evenly spaced."""
    found = values(f"{low}..{low + width}:{n}")
    assert len(found) == n
    steps = [b - a for a, b in pairwise(found)]
    assert all(math.isclose(step, float(width) / (n - 1), rel_tol=1e-6, abs_tol=1e-9) for step in steps)


@given(st.floats(0, 1, exclude_max=True))
def test_a_sample_stays_inside_its_span(share):
    """Whatever the draw, the value lies between the ends, of the kind of the ends."""
    whole = parse_parameter(f"{PATH}=3..7").at(share).value
    assert isinstance(whole, int)
    assert 3 <= whole <= 7
    part = parse_parameter(f"{PATH}=0.5..2").at(share).value
    assert 0.5 <= part <= 2
    late = parse_parameter(f"{PATH}=10ms..20ms").at(share).value
    assert 10 <= float(late.removesuffix("ms")) <= 20
    assert parse_parameter(f"{PATH}=a,b").at(share).value in ("a", "b")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    """No text behind `-p` ends in a traceback."""
    said = ""
    try:
        parameter = parse_parameter(text)
    except InputError as error:
        said = str(error)
    assert len(said.splitlines()) == 1 if said else parameter.choices or parameter.span
