"""How near a scenario is to validated ones: which settings count, how far a number may be, which runs disagree."""

from dataclasses import replace

import pytest

from sim.deciding import Deciding, deciding
from sim.prediction import predict
from sim.scenario import load_one
from sim.told import told
from sim.validated import INDEX, Validated, index, nearest_of, nearness
from validation.campaign import CONFIGS

TUTORIAL = CONFIGS / "tutorial"
MATRIX = CONFIGS / "matrix"


def validated(name="a", *, inside=1.0, kinds=None, **numbers):
    settings = Deciding(kinds={"client": "ab", **(kinds or {})}, numbers=numbers)
    return Validated(name=name, runs=8, inside=inside, settings=settings)


def settings(client="ab", kinds=None, **numbers):
    return Deciding(kinds={"client": client, **(kinds or {})}, numbers=numbers)


@pytest.mark.parametrize(
    ("connections", "how"), [(10.0, "near"), (20.0, "near"), (5.0, "near"), (21.0, "far"), (0.0, "far")]
)
def test_a_number_is_near_within_a_factor_of_two(connections, how):
    """Both bounds belong to it; 0 is only like 0."""
    assert nearest_of(settings(connections=connections), [validated(connections=10.0)]).how == how
    assert nearest_of(settings(connections=0.0), [validated(connections=0.0)]).how == "near"


@pytest.mark.parametrize(("n", "how"), [(0, "near"), (1, "far"), (3, "far"), (4, "no")])
def test_differences_are_counted(n, how):
    """None is near, up to three are far; each is told with both values."""
    ours = settings(kinds={f"kind {i}": "here" if i < n else "same" for i in range(5)})
    theirs = validated(kinds={f"kind {i}": "there" if i < n else "same" for i in range(5)})
    found = nearest_of(ours, [theirs])
    assert (found.how, len(found.differences)) == (how, n)
    assert all(text.endswith(": here, there there") for text in found.differences)


def test_the_nearest_has_the_fewest_differences_and_then_the_smallest_ratios():
    """Ten connections are nearer to eight than to twenty; another client is further than both."""
    found = [validated("twenty", connections=20.0), validated("eight", connections=8.0)]
    assert nearest_of(settings(connections=10.0), found).nearest.name == "eight"
    found.append(validated("exact", kinds={"client": "wrk"}, connections=10.0))
    assert nearest_of(settings(connections=10.0), found).nearest.name == "eight"


def test_a_nearest_one_that_disagrees_is_no_support():
    """Fewer than three of four real runs inside the interval: no, and it is named all the same."""
    assert nearest_of(settings(), [validated(inside=0.75)]).how == "near"
    found = nearest_of(settings(), [validated(inside=0.74)])
    assert (found.how, found.nearest.name) == ("no", "a")
    assert "74% inside" in str(found)


def test_without_any_real_run_nothing_is_validated():
    """And it is said so."""
    found = nearest_of(settings(), [])
    assert (found.how, str(found), found.to_json()["nearest"]) == ("no", "no", None)


@pytest.mark.parametrize(
    ("overrides", "name", "differs"),
    [
        (["load.client=wrk", "load.options={}"], "client", True),
        (["load.keepAlive=false", "load.options.k=false"], "keep-alive", True),
        (["deployment/myapp.spec.strategy={type: Recreate}"], "strategy", True),
        (["deployment/myapp.spec.template.spec.terminationGracePeriodSeconds=60"], "grace ends an answer", True),
        (["deployment/myapp.metadata.labels.team=a"], "", False),
        (["load.duration=45s"], "", False),
    ],
)  # fmt: skip
def test_what_decides_is_told_apart(overrides, name, differs):
    """A setting that decides makes another kind; one that does not changes nothing."""
    file = TUTORIAL / "2-keepalive.yaml"
    before, after = deciding(load_one(file)), deciding(load_one(file, overrides))
    changed = {kind for kind in before.kinds if before.kinds[kind] != after.kinds[kind]}
    assert (name in changed) is differs
    assert differs or before == after


def test_a_proxy_brings_its_own_settings():
    """Mode, retries and checks count where a proxy stands between; without one there is one difference, not many."""
    direct, proxied = (deciding(load_one(TUTORIAL / f)) for f in ("2-keepalive.yaml", "3-proxy.yaml"))
    assert {"proxy's mode", "proxy's check"} <= proxied.kinds.keys()
    assert proxied.numbers["proxy's retries"] == 3
    theirs = Validated(name="direct", runs=8, inside=1.0, settings=direct)
    assert nearest_of(proxied, [theirs]).differences == ("proxy: HAProxy 2.6, there none",)


@pytest.mark.parametrize("file", [MATRIX / "late-500ms-term.yaml", MATRIX / "stream-3s-quit.yaml"])
def test_answers_are_told_apart_by_when_header_and_body_come(file):
    """From nginx's own configuration."""
    found = deciding(load_one(file))
    late = "late" in file.name
    assert found.kinds["answer"] == ("late" if late else "streamed")
    assert found.numbers["time to header"] == pytest.approx(0.5 if late else 0.02)


def test_every_scenario_of_ours_is_near_itself():
    """The shipped table: a scenario in it is its own nearest one (or one just like it), without a difference."""
    names = {each.name for each in index()}
    assert names, f"{INDEX} is empty"
    for file in sorted((CONFIGS / "matrix").glob("*.yaml")):
        scenario = load_one(file)
        if scenario.name in names:
            found = nearness(scenario)
            assert found.differences == ()
            assert found.how == ("near" if found.nearest.agrees else "no")


def test_a_prediction_says_it():
    """In its data and in its text."""
    prediction = predict(load_one(MATRIX / "late-500ms-term.yaml"), runs=2)
    found = prediction.to_json()["validated"]
    assert found["how"] in ("near", "no")
    assert f"validated         {found['how']} (nearest {found['nearest']}" in told(prediction)


def test_the_name_does_not_count():
    """A scenario is what it does."""
    scenario = load_one(MATRIX / "late-500ms-term.yaml")
    assert deciding(replace(scenario, name="other")) == deciding(scenario)
