"""One rollout in two layers."""

from collections import Counter
from collections.abc import Callable, Mapping

from oracle.judge import Judge

from sim.scenario.model import Scenario
from sim.scenario.timing import Timing
from sim.simulate import Result, simulate

Layer = Mapping[str, object]
"""How to call `simulate` for it."""
CRUISE: Layer = {}
STEPWISE: Layer = {"stepwise": True}
JUDGE: Layer = {"layer": Judge}


def counts(result: Result) -> dict[str, float]:
    """What is held against the other layer."""
    tally = result.tally
    seen = {f"seen {name}": float(n) for name, n in result.seen.items()}
    rest = {
        "failed": float(tally.n_failed),
        "answered": float(tally.n_ok),
        "repeated": float(tally.n_retried),
        "under way at the end": float(tally.n_open),
    }
    return {**Counter(result.causes), **seen, **rest}


def pairs(
    scenario: Scenario, seeds: range, timing: Timing, first: Layer = CRUISE, second: Layer = JUDGE,
    done: Callable[[], None] = lambda: None,
) -> list[tuple[dict[str, float], dict[str, float]]]:  # fmt: skip
    """The counts of both layers; the same seed gives both the same cluster."""
    both = []
    for seed in seeds:
        both.append(
            (
                counts(simulate(scenario, seed=seed, timing=timing, **first)),
                counts(simulate(scenario, seed=seed, timing=timing, **second)),
            )
        )
        done()
    return both
