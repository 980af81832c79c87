"""A gate for pipelines: does P(failed ≤ N) reach the confidence that was asked for?

The share of replications alone would let one lucky run pass. So P is bounded from both sides by Clopper and
Pearson's exact one-sided bounds; while neither bound decides, more replications are made. A rollout whose P
lies below the confidence passes in at most `FALSE_PASS` of all seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sim.bounds import at_least, runs_needed

FALSE_PASS: Final = 0.05
N_LOOKS: Final = 4
"""At --runs replications, then at twice as many each time: `FALSE_PASS` is shared among the looks (Bonferroni)."""
_PER_LOOK: Final = FALSE_PASS / N_LOOKS


class Verdict(Enum):
    REACHED = "reached"
    MISSED = "missed"
    UNDECIDED = "undecided"  # P is too close to the confidence to be told apart from it: not reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What the gate found out about one scenario."""

    fail_above: int
    confidence: float
    n_hits: int
    """Replications with at most `fail_above` failed requests."""
    n_runs: int
    verdict: Verdict

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.REACHED

    def __str__(self) -> str:
        share = f"P(failed ≤ {self.fail_above}) = {self.n_hits / self.n_runs:.3f} in {self.n_runs} rollouts"
        if self.passed:
            return f"{share} reaches the confidence asked for, {self.confidence:g}"
        if self.verdict is Verdict.MISSED:
            return f"{share} is below the confidence asked for, {self.confidence:g}"
        return f"{share} is too close to the confidence asked for, {self.confidence:g}, to be sure of it"

    def to_json(self) -> dict[str, object]:
        return {
            "fail_above": self.fail_above,
            "confidence": self.confidence,
            "runs": self.n_runs,
            "p_at_most": self.n_hits / self.n_runs,
            "verdict": self.verdict.value,
        }


def hold_gate(
    failed: list[int], fail_above: int, confidence: float, more: Callable[[int, int], list[int]]
) -> Gate:
    """Look at the failed requests of the replications made so far, and ask for *more* until it is decided.

    Parameters
    ----------
    failed : list of int
        Of replications 0, 1, … [requests]
    fail_above : int
    confidence : float, 0 … 1
        1: every replication of *failed*, no more can be shown.
    more : callable
        `more(first, n)`: the failed requests of replications *first* … *first* + *n* - 1.
    """
    failed = list(failed)
    for look in range(N_LOOKS):
        n_hits = sum(n <= fail_above for n in failed)
        verdict = judge(n_hits, len(failed), confidence)
        if verdict is not Verdict.UNDECIDED or look == N_LOOKS - 1:
            break
        wanted = max(2 * len(failed), fewest(confidence))
        failed += more(len(failed), wanted - len(failed))
    return Gate(
        fail_above=fail_above, confidence=confidence, n_hits=n_hits, n_runs=len(failed), verdict=verdict
    )


def judge(n_hits: int, n: int, confidence: float) -> Verdict:
    """One look at *n_hits* of *n* replications.

    Notes
    -----
    The lower bound of Clopper and Pearson is at least p exactly where so many hits or more would have at most
    the level's probability under p; the upper bound likewise.
    """
    if confidence in (0.0, 1.0):
        return Verdict.REACHED if n_hits >= n * confidence else Verdict.MISSED
    if at_least(n_hits, n, confidence) <= _PER_LOOK:
        return Verdict.REACHED
    at_most = 1.0 - at_least(n_hits + 1, n, confidence)
    return Verdict.MISSED if at_most <= _PER_LOOK else Verdict.UNDECIDED


def fewest(confidence: float) -> int:
    """Replications that suffice where every one is a hit."""
    return runs_needed(confidence, 1 - _PER_LOOK)
