"""Each kept run is held against the latencies of the machine that it was made on."""

from dataclasses import replace

from sim.scenario import load_one
from tests.validation.test_index import made, runs
from validation import forecast, machines, observations, report, today
from validation.campaign import CONFIGS

OLD, NEW = "2026-11-24T10:00:00+00:00", "2026-11-30T10:00:00+00:00"


def test_a_run_belongs_to_the_machine_of_its_day():
    """Runs of both machines, and a profile that was measured on neither: it speaks of all."""
    scenario = load_one(CONFIGS / "matrix" / "ka-generic.yaml")
    old, new = (replace(run, date=date) for run, date in zip(runs(scenario, 1, 2), (OLD, NEW), strict=True))
    assert [machines.profile_of(run) for run in (old, new)] == [machines.FIRST, machines.SECOND]
    assert machines.made_there([old, new], machines.FIRST) == [old]
    assert machines.made_there([old, new], machines.SECOND) == [new]
    assert machines.made_there([old, new], "defaults") == [old, new]


def test_a_scenario_of_both_machines_is_told_twice(tmp_path):
    """Today's model with the profile of each, beside the runs of that machine; the sources' beside all."""
    scenario = load_one(CONFIGS / "matrix" / "ka-generic.yaml")
    for number, (run, date) in enumerate(zip(runs(scenario, 1, 2, 3), (OLD, OLD, NEW), strict=True), 1):
        observations.write(replace(run, run=number, date=date), tmp_path)
    assert today.timings_of(scenario, tmp_path) == [machines.SECOND, machines.FIRST, forecast.SOURCES]
    [one] = made(scenario, range(41)).values()
    kept = {
        (scenario.name, timing): replace(one, forecast=replace(one.forecast, timing=timing))
        for timing in today.timings_of(scenario, tmp_path)
    }
    today.keep(kept, tmp_path)
    groups = report.gather(tmp_path).groups
    found = {
        each.forecast.timing: len(each.runs)
        for each in groups[f"{report.TODAY} on every kept run, {report.MEASURED}"]
    }
    assert found == {machines.FIRST: 2, machines.SECOND: 1}
    [by_sources] = groups[f"{report.TODAY} on every kept run, {report.BY_SOURCES}"]
    assert len(by_sources.runs) == 3
