"""Many replications of one scenario: a prediction is a distribution, with what it rests on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.advice import advice_for
from sim.replications import Replications, Rollout
from sim.scenario.model import Scenario
from sim.scenario.timing import load_timing
from sim.simulate import Result, simulate
from sim.traffic.clients import hides
from sim.validated import nearness

LEVEL: Final = 0.95
Z95: Final = 1.959963984540054


@dataclass(frozen=True)
class Prediction:
    """What the replications say; arrays have one entry a replication."""

    scenario: Scenario
    seed: int
    failed: NDArray[np.int64]
    """Requests that truly failed."""
    tool_failed: NDArray[np.float64] | None
    """What the client's own report would print; None: it prints no such number."""
    tool_aborted: NDArray[np.bool_]
    requests: NDArray[np.int64]
    retried: NDArray[np.int64]
    rollout_s: NDArray[np.float64]
    """NaN where the rollout was not complete in time."""
    causes: dict[str, float]
    """Mean failed requests by cause."""
    seen: dict[str, float]
    """Mean failed requests by what the client saw."""
    ended_too_soon: float
    """Share of replications whose load was over before the last old pod was gone."""
    steady_failed: float
    """Failed requests of the same load without any update (one run)."""
    steady_causes: dict[str, int]

    @property
    def runs(self) -> int:
        return len(self.failed)

    @property
    def p_zero(self) -> float:
        """Share of replications without a failed request."""
        return float(np.mean(self.failed == 0))

    @property
    def p_zero_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of that share."""
        return wilson(int(np.sum(self.failed == 0)), self.runs)

    def p_at_most(self, n: int) -> float:
        return float(np.mean(self.failed <= n))

    @property
    def warnings(self) -> tuple[str, ...]:
        found = list(self.scenario.warnings)
        if self.ended_too_soon > 0:
            found.append(
                f"the load ended before the last old pod was gone in {self.ended_too_soon:.0%} of the runs: "
                "it cannot show all failures; let it last longer"
            )
        hidden = hides(self.scenario.load.client, self.scenario.load.options)
        if hidden and self.failed.max(initial=0) > 0:
            found.append(hidden)
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """One object of `rollsim predict --json`."""
        finished = self.rollout_s[~np.isnan(self.rollout_s)]
        return {
            "scenario": self.scenario.name,
            "runs": self.runs,
            "seed": self.seed,
            "requests": {"mean": float(self.requests.mean())},
            "failed": _distribution(self.failed),
            "tool": {
                "name": self.scenario.load.client,
                "failed": None if self.tool_failed is None else _distribution(self.tool_failed),
                "aborted": float(self.tool_aborted.mean()),
            },
            "causes": self.causes,
            "seen": self.seen,
            "retried": {"mean": float(self.retried.mean())},
            "rollout_s": None
            if finished.size == 0
            else {"median": float(np.median(finished)), "interval95": list(prediction_interval(finished))},
            "rollout_incomplete": float(np.mean(np.isnan(self.rollout_s))) if self.scenario.updates else 0.0,
            "steady": {"failed": self.steady_failed, "causes": self.steady_causes},
            "validated": nearness(self.scenario).to_json(),
            "advice": advice_for(self.scenario, self.causes),
            "warnings": list(self.warnings),
        }


def _distribution(values: NDArray[Any]) -> dict[str, Any]:
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "interval95": list(prediction_interval(values)),
        "p_zero": float(np.mean(values == 0)),
    }


def prediction_interval(values: NDArray[Any], level: float = LEVEL) -> tuple[float, float]:
    """Bounds that hold the value of one more rollout with probability of about *level*.

    Parameters
    ----------
    values : array, shape (n_replications,)
    level : float, 0 < level < 1

    Returns
    -------
    low, high : float
        Both included; the whole range where there are too few replications for *level*.

    Notes
    -----
    Order statistics of exchangeable draws; it holds for a real rollout as far as the model is right.
    """
    ordered = np.sort(values)
    outside = int(np.floor((len(ordered) + 1) * (1 - level) / 2))
    cut = max(0, outside - 1)
    return float(ordered[cut]), float(ordered[len(ordered) - 1 - cut])


def wilson(n_hits: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share.

    Raises
    ------
    ValueError
        Without a trial there is no share.
    """
    if n < 1:
        raise ValueError("need at least one trial")
    share = n_hits / n
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def predict(
    scenario: Scenario, *, runs: int = 200, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Prediction:
    """Replicate *scenario* and collect what happens.

    Parameters
    ----------
    runs : int, >= 1
    seed : int
    progress : callable, optional
        Called with the number of replications done.

    Raises
    ------
    InputError
        Something in the scenario cannot be modelled.
    """
    timing = load_timing(scenario.timing, beside=scenario.source.parent)
    rollouts = Replications(scenario, seed, timing).all(runs, done=progress or (lambda _: None))
    steady = simulate(scenario, seed=seed, timing=timing, update=False)
    return summarise(scenario, seed, rollouts, steady)


def summarise(scenario: Scenario, seed: int, rollouts: Sequence[Rollout], steady: Result) -> Prediction:
    printed = [r.tool_failed for r in rollouts if r.tool_failed is not None]
    return Prediction(
        scenario=scenario,
        seed=seed,
        failed=np.array([r.n_failed for r in rollouts]),
        tool_failed=np.array(printed) if len(printed) == len(rollouts) else None,
        tool_aborted=np.array([r.tool_aborted for r in rollouts]),
        requests=np.array([r.n_requests for r in rollouts]),
        retried=np.array([r.n_retried for r in rollouts]),
        rollout_s=np.array([np.nan if r.rollout_s is None else r.rollout_s for r in rollouts], dtype=float),
        causes=_mean_counts([r.causes for r in rollouts]),
        seen=_mean_counts([r.seen for r in rollouts]),
        ended_too_soon=float(np.mean([r.load_ended_too_soon for r in rollouts])),
        steady_failed=float(steady.n_failed),
        steady_causes=steady.causes,
    )


def _mean_counts(counts: Sequence[dict[str, int]]) -> dict[str, float]:
    names = sorted({name for each in counts for name in each})
    means = {name: sum(each.get(name, 0) for each in counts) / len(counts) for name in names}
    return dict(sorted(means.items(), key=lambda item: -item[1]))
