"""What became of a load's requests."""

from collections import Counter
from dataclasses import dataclass, field

from sim.outcomes import Failure, Seen
from sim.traffic.answered import Answered
from sim.traffic.clients import fin_was_there


@dataclass(frozen=True, slots=True)
class Burst:
    """Failures that a client without pause burns through while nothing accepts: evenly spread."""

    n: int
    from_s: float
    to_s: float
    like: Failure


@dataclass(slots=True)
class Tally:
    """What became of the requests: every one is in exactly one of these."""

    n_ok: int = 0
    n_open: int = 0
    """Under way when the load ended."""
    n_retried: int = 0
    """Attempts that the client repeated; not requests of their own."""
    n_late: int = 0
    """Good answers that took longer than the client's time-out (wrk counts them and waits on)."""
    failures: list[Failure] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    gave_up: bool = False
    """ab heard nothing on any connection for its `-s` and ended itself."""
    n_polled: float = 0.0
    """Of the refused connects those that a client's poll shows; ab meets the others itself (see `_ab`)."""
    spun_s: float = 0.0
    """How long the client's poll loop ran free on a connect in error (ab)."""
    n_by_length: Counter[int] = field(default_factory=Counter)
    answered: Answered = field(default_factory=Answered)
    """When the successful ones were."""

    @property
    def n_failed(self) -> int:
        return len(self.failures) + sum(b.n for b in self.bursts)

    @property
    def n_requests(self) -> int:
        return self.n_ok + self.n_failed

    def by_class(self) -> Counter[tuple[Seen, bool]]:
        """Failures by (what the client saw, its connection had been closed before the request)."""
        counts: Counter[tuple[Seen, bool]] = Counter()
        for failure in self.failures:
            counts[failure.seen, fin_was_there(failure)] += 1
        for burst in self.bursts:
            counts[burst.like.seen, fin_was_there(burst.like)] += burst.n
        return counts
