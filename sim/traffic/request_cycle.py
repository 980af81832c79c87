"""The cycle of a load's requests: what each of its parts takes, and the pace that they make."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.random import Generator as Rng

from sim.errors import InputError
from sim.scenario.distributions import Constant, Distribution, Exponential
from sim.scenario.model import ClosedLoop
from sim.traffic.cruise import Outlook
from sim.traffic.links import Stage
from sim.traffic.pace import REFUSED, Pace, Route, Segment
from sim.world import Server

if TYPE_CHECKING:
    from sim.traffic.load import Traffic


class RequestCycle:
    """From one request of a connection to its next, by who answers."""

    def __init__(self, traffic: "Traffic") -> None:
        self._traffic = traffic
        arrivals = traffic.load.arrivals
        self._think = arrivals.think_time if isinstance(arrivals, ClosedLoop) else None
        self._paces: dict[tuple[Any, ...], Pace] = {}
        self._last: tuple[Outlook, Pace] | None = None
        """The last one asked for: connections ask one after the other for the same."""

    # ------------------------------------------------------------------ pace

    def pace(self, outlook: Outlook) -> Pace:
        """The steady cycle of a connection whose requests take the good ways, as likely as their shares.

        Refused connects are cycles of a kind of their own, REFUSED.
        """
        if self._last is None or self._last[0] is not outlook:
            good = outlook.good
            targets, shares = [way.target for way in good], [way.share for way in good]
            self._last = (outlook, self.pace_to(targets, shares, outlook.p_refused))
        return self._last[1]

    def pace_to(
        self, apps: Sequence[Server], shares: Sequence[float] | None = None, p_refused: float = 0.0
    ) -> Pace:
        """That of requests which *apps* answer, each with its share of them.

        Raises
        ------
        InputError
            A request takes no time at all.
        """
        by_image: dict[str, tuple[float, Server]] = {}
        for app, share in zip(apps, shares or [1.0] * len(apps), strict=True):
            before, _ = by_image.get(app.image.reference, (0.0, app))
            by_image[app.image.reference] = (before + share, app)
        total = sum(share for share, _ in by_image.values())
        kinds = [(image, share / total, app) for image, (share, app) in by_image.items()]
        key = (p_refused, *sorted((image, round(share, 9)) for image, share, _ in kinds))
        if key not in self._paces:
            served = [((1 - p_refused) * share, self._segments(app), image) for image, share, app in kinds]
            if p_refused and (no_pause := self._traffic.no_pause) is not None:
                refused = Segment(Stage.CONNECTING, False, Constant(value_s=no_pause.refused_cycle_s))
                served.append((p_refused, (refused,), REFUSED))
            routes = [
                Route(share * p, (*waits, *segments), kind)
                for share, segments, kind in served
                for p, waits in self._traffic.time_waits.tries()
            ]
            try:
                self._paces[key] = Pace(routes)
            except ValueError:
                raise InputError("spec.load: a request and its pause take no time at all") from None
        return self._paces[key]

    def renew(self) -> None:
        """From now on a pace is that of now."""
        self._paces.clear()
        self._last = None

    def _segments(self, app: Server) -> tuple[Segment, ...]:
        traffic = self._traffic
        behind, answer = traffic.has_proxy, traffic.answer(app)
        segments = [Segment(Stage.IDLE, False, self._think)] if self._think is not None else []
        if not traffic.keeps:
            segments.append(Segment(Stage.CONNECTING, False, traffic.timing.round_trip))
        segments.append(Segment(Stage.SENT, False, self._client_segment(Stage.SENT)))
        if behind:
            if not traffic.keeps_backends:
                segments.append(Segment(Stage.CONNECTING, True, traffic.timing.round_trip))
            segments.append(Segment(Stage.SENT, True, self._backend_sent()))
        segments += [
            Segment(Stage.IN_SERVICE, behind, answer.service),
            Segment(Stage.STREAMING, behind, answer.stream),
            Segment(Stage.READING, False, self._client_segment(Stage.READING)),
        ]
        return tuple(segment for segment in segments if segment.duration.mean_s > 0)

    # ------------------------------------------------------------------ its parts

    def think_s(self, rng: Rng) -> float:
        return self._think.draw_s(rng) if self._think is not None else 0.0

    def client_segment_s(self, stage: Stage, rng: Rng) -> float:
        """A draw of what SENT or READING takes on the client's own connection. [s]"""
        return self._client_segment(stage).draw_s(rng) * self._traffic.cores.slowdown

    def backend_sent_s(self, rng: Rng) -> float:
        return self._backend_sent().draw_s(rng) * self._traffic.cores.slowdown

    def _client_segment(self, stage: Stage) -> Distribution:
        traffic = self._traffic
        if traffic.no_pause is not None:
            cycle = traffic.no_pause.cycle
            return Exponential(scale_s=cycle.at_client_s if stage is Stage.READING else cycle.at_front_s)
        if stage is Stage.READING:
            return traffic.timing.client_overhead.get(traffic.kind.name, Constant(value_s=0.0))
        return traffic.timing.round_trip

    def _backend_sent(self) -> Distribution:
        if self._traffic.no_pause is not None:
            return Exponential(scale_s=self._traffic.no_pause.cycle.at_app_s)
        return self._traffic.timing.round_trip
