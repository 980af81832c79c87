"""Scenarios from the grammar: fixed by the seed, readable, predictable."""

import pytest

from sim import simulate
from sim.scenario import load
from validation.draw import write


def test_a_seed_fixes_the_files(tmp_path):
    """Same seed, same bytes; more scenarios of a seed leave the first ones as they are; another seed differs."""
    write(tmp_path / "a", 3, 4)
    write(tmp_path / "b", 3, 6)
    write(tmp_path / "c", 4, 4)

    def texts(folder):
        return [path.read_text() for path in sorted((tmp_path / folder / "manifests").iterdir())]

    assert texts("a") == texts("b")[:4]
    assert all(ours != theirs for ours, theirs in zip(texts("a"), texts("c"), strict=True))


def test_every_drawn_scenario_reads_and_plays(tmp_path):
    """Nothing in the grammar is refused; each load outlives the rollout's last old pod in most of them."""
    names = write(tmp_path, 11, 24)
    outlived = 0
    for name in names:
        [scenario] = load(tmp_path / f"{name}.yaml")
        result = simulate(scenario, seed=1)
        assert result.rollout_s is not None
        assert result.n_requests > 100
        outlived += not result.load_ended_too_soon
    assert outlived >= 0.8 * len(names)


@pytest.mark.parametrize("word", ["SIGQUIT", "Recreate", "haproxy.cfg", "echo_sleep", "rm /www", "generic"])
def test_the_grammar_reaches(word, tmp_path):
    """Each kind of setting comes up among 40 scenarios."""
    write(tmp_path, 5, 40)
    assert any(word in path.read_text() for path in tmp_path.rglob("*.yaml"))
