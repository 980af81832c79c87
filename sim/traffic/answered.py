"""When requests succeeded: counts over time, at a cost that does not depend on how many there are."""

from collections import defaultdict
from collections.abc import Iterator

BINS_PER_S = 10


class Answered:
    """Successful requests in bins; those of a cruise are spread evenly over it."""

    def __init__(self) -> None:
        self._single: defaultdict[int, int] = defaultdict(int)
        self._steps: defaultdict[int, float] = defaultdict(float)
        """By how much the number in each bin grows from that bin on."""

    def add(self, n: int, from_s: float, to_s: float) -> None:
        first, last = int(from_s * BINS_PER_S), int(to_s * BINS_PER_S)
        if last <= first:
            self._single[last] += n
            return
        per_bin = n / (last - first)
        self._steps[first] += per_bin
        self._steps[last] -= per_bin

    def spans(self, ended_s: float) -> tuple[tuple[float, float, float], ...]:
        """(from_s, to_s, number) of each bin up to *ended_s*."""
        return tuple(self._bins(ended_s))

    def _bins(self, ended_s: float) -> Iterator[tuple[float, float, float]]:
        level = 0.0
        for index in range(int(ended_s * BINS_PER_S) + 1):
            level += self._steps.get(index, 0.0)
            yield index / BINS_PER_S, (index + 1) / BINS_PER_S, max(0.0, level) + self._single.get(index, 0)
