"""A recorded and a simulated rollout event by event: what happened to whom, when in the one, when in the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from sim.lanes import ServerState
from validation.lives import Rollout

Key = tuple[str, str]
"""Who, and what happened: the same in both rollouts."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, or all failures of one cause. [s from the update]"""

    from_s: float
    to_s: float | None = None
    """Failures: the last one."""
    n: int | None = None

    def __str__(self) -> str:
        if self.n is None or self.to_s is None:
            return f"{self.from_s:.3f}"
        span = f"{self.from_s:.3f}" if self.n == 1 else f"{self.from_s:.3f} to {self.to_s:.3f}"
        return f"{self.n} × {span}"

    def to_json(self) -> dict[str, Any]:
        at = {"at_s": round(self.from_s, 4)}
        if self.n is None or self.to_s is None:
            return at
        return {"n": self.n, **at, "to_s": round(self.to_s, 4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same event in both rollouts, or only in one of them."""

    who: str
    what: str
    real: Happened | None
    simulated: Happened | None

    @property
    def difference_s(self) -> float | None:
        """By how much the simulated one comes later."""
        if self.real is None or self.simulated is None:
            return None
        return self.simulated.from_s - self.real.from_s

    @property
    def order_s(self) -> float:
        found = self.real or self.simulated
        assert found is not None
        return found.from_s

    def to_json(self) -> dict[str, Any]:
        return {
            "who": self.who,
            "what": self.what,
            "real": self.real.to_json() if self.real else None,
            "model": self.simulated.to_json() if self.simulated else None,
            "difference_s": None if self.difference_s is None else round(self.difference_s, 4),
        }


def pairs(real: Rollout, simulated: Rollout) -> list[Pair]:
    """Every event of either, in the order of the real rollout."""
    ours, theirs = dict(_events(simulated)), dict(_events(real))
    found = [
        Pair(who=key[0], what=key[1], real=theirs.get(key), simulated=ours.get(key))
        for key in dict.fromkeys((*theirs, *ours))
    ]
    return sorted(found, key=lambda pair: pair.order_s)


def _events(rollout: Rollout) -> Iterator[tuple[Key, Happened]]:
    zero_s, names = rollout.updated_s, rollout.names()
    if rollout.rollout_s is not None:
        yield ("rollout", "complete"), Happened(rollout.rollout_s)
    for life in rollout.lives:
        for moment, at_s in life.at_s.items():
            yield (names[life.pod], moment.value), Happened(at_s - zero_s)
    yield from _servers(rollout)
    yield from _failures(rollout)


def _servers(rollout: Rollout) -> Iterator[tuple[Key, Happened]]:
    """Changes of HAProxy's servers after the update: a state is told when it begins."""
    for lane in rollout.picture.servers:
        who = f"server {lane.server.rpartition('/')[2]}"
        changes = [span for span in lane.states if span.from_s > rollout.updated_s]
        for state in ServerState:
            for nth, span in enumerate((span for span in changes if span.state is state), 1):
                yield (who, f"{state.value} {nth}"), Happened(span.from_s - rollout.updated_s)


def _failures(rollout: Rollout) -> Iterator[tuple[Key, Happened]]:
    """By cause alone: which pod it was, a recording often does not know."""
    spans: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for failed in rollout.picture.failed:
        spans.setdefault(failed.cause, []).extend((failed.from_s, failed.to_s))
        counts[failed.cause] = counts.get(failed.cause, 0) + failed.n
    for cause, at_s in spans.items():
        zero_s = rollout.updated_s
        yield ("failed", cause), Happened(min(at_s) - zero_s, max(at_s) - zero_s, counts[cause])


def events_table(found: Sequence[Pair], title: str) -> Table:
    """One line an event, both times from the update, and by how much the simulated one comes later."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("who", no_wrap=True)
    table.add_column("event", no_wrap=True)
    for name in ("real, s", "simulated, s", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in found:
        difference = "" if pair.difference_s is None else f"{pair.difference_s:+.3f}"
        real, simulated = (str(each) if each else "–" for each in (pair.real, pair.simulated))
        table.add_row(pair.who, pair.what, real, simulated, difference)
    return table
