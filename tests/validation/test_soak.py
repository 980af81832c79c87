"""The soak's book-keeping: what was made and counted stays, goes on after a kill, and is held against bounds."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.validation.test_observations import observed
from validation import observations, soak
from validation.campaign import Plan
from validation.soak import BOUNDS, Counted, Ledger, leaks

BEFORE = Counted(**dict.fromkeys(BOUNDS, 1000))
SCENARIOS = [SimpleNamespace(name=name) for name in ("a", "b", "c")]


@pytest.mark.parametrize("name", BOUNDS)
def test_each_count_has_a_bound(name):
    """At the bound nothing is said; one more is a leak of that name, however the others are."""
    at_bound = {each: 1000 + bound for each, bound in BOUNDS.items()}
    assert leaks(BEFORE, Counted(**at_bound)) == []
    [leak] = leaks(BEFORE, Counted(**at_bound | {name: at_bound[name] + 1}))
    assert leak.startswith(name)


def test_a_ledger_cut_by_a_kill_is_read_to_its_last_whole_line(tmp_path):
    """Rollouts and counts come back; half a line is none, and does not spoil what is added after it."""
    ledger = Ledger(tmp_path / "soak.jsonl")
    ledger.counted(BEFORE)
    ledger.made(observed(run=4))
    with ledger.path.open("a") as file:
        file.write('{"scenario": "a", "ru')
    assert ledger.rollouts() == [("a", 4)]
    ledger.made(observed(run=5))
    assert (ledger.rollouts(), ledger.counts()) == ([("a", 4), ("a", 5)], [(0, BEFORE)])


class Lab:
    """A lab on which nothing runs: each rollout is made up, each count leaves a namespace more behind."""

    def __init__(self, monkeypatch, folder, dies_after):
        self.made, self.dies_after, self.folder = 0, dies_after, folder
        monkeypatch.setattr(soak, "replay_each", self.replay_each)
        monkeypatch.setattr(soak, "alone_on", nullcontext)
        monkeypatch.setattr(soak, "remove_leftovers", lambda _: None)
        monkeypatch.setattr(Counted, "now", lambda _: replace(BEFORE, namespaces=1000 + self.made))

    def replay_each(self, queue, _access, plan, **_):
        for scenario in queue:
            if self.made == self.dies_after:
                raise KeyboardInterrupt
            self.made += 1
            run = observed(scenario=scenario.name, run=observations.next_run(scenario.name, plan.folder))
            observations.write(run, plan.folder)
            yield run


def test_a_soak_goes_on_where_it_was_ended(monkeypatch, tmp_path):
    """Scenarios take turns over the break; it counts at each start, every so many, and at the end."""
    lab, ledger = Lab(monkeypatch, tmp_path, 5), Ledger(tmp_path / "ledger" / "soak.jsonl")
    ask = {"rollouts": 10, "every": 4, "plan": Plan(folder=tmp_path / "kept")}
    with pytest.raises(KeyboardInterrupt):
        soak.soak(SCENARIOS, SimpleNamespace(lab=lab), ledger, **ask)
    lab.dies_after = None
    soak.soak(SCENARIOS, SimpleNamespace(lab=lab), ledger, **ask)
    assert [name for name, _ in ledger.rollouts()] == list("abcabcabca")
    assert [n for n, _ in ledger.counts()] == [0, 4, 5, 8, 10]
    assert len(soak.made_in(ledger, tmp_path / "kept")) == 10
    said = soak.report(ledger)
    assert said[0] == "10 rollouts in a row, counted 5 times"
    assert "leaks: namespaces: +10 (bound +0)" in said
    soak.soak(SCENARIOS, SimpleNamespace(lab=lab), ledger, **ask)
    assert len(ledger.rollouts()) == 10
