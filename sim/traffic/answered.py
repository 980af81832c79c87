"""When requests succeeded: counts over time, at a cost that does not depend on how many there are."""

from collections import defaultdict
from collections.abc import Iterator

BINS_PER_S = 10


class Answered:
    """Successful requests in bins; those of a cruise are spread evenly over it."""

    def __init__(self) -> None:
        self._inside: defaultdict[int, float] = defaultdict(float)
        self._steps: defaultdict[int, float] = defaultdict(float)
        """By how much the number in each whole bin grows from that bin on."""

    def add(self, n: int, from_s: float, to_s: float) -> None:
        """Count *n* more, evenly spread over *from_s* to *to_s*, which may be one instant."""
        start, end = from_s * BINS_PER_S, to_s * BINS_PER_S
        first, last = int(start), int(end)
        if first == last:
            self._inside[last] += n
            return
        per_bin = n / (end - start)
        self._inside[first] += per_bin * (first + 1 - start)
        self._inside[last] += per_bin * (end - last)
        self._steps[first + 1] += per_bin
        self._steps[last] -= per_bin

    def spans(self, ended_s: float) -> tuple[tuple[float, float, float], ...]:
        """(from_s, to_s, number) of each bin up to *ended_s*."""
        return tuple(self._bins(ended_s))

    def _bins(self, ended_s: float) -> Iterator[tuple[float, float, float]]:
        level = 0.0
        for index in range(int(ended_s * BINS_PER_S) + 1):
            level += self._steps.get(index, 0.0)
            n = max(0.0, level + self._inside.get(index, 0.0))
            yield index / BINS_PER_S, (index + 1) / BINS_PER_S, n
