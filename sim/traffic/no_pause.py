"""A client without pause (ab, wrk and the like), on the machine that also runs the cluster.

It sends as fast as answers come, so the CPU decides what it makes: how long a cycle of its connections is, how many
processes want a core at once, how many refused connects it burns through while nothing accepts.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import simpy
from numpy.random import Generator as Rng

from sim.outcomes import Failure, Seen
from sim.traffic.clients import ends_the_run, polled
from sim.traffic.links import LoadOver, Stage
from sim.traffic.pace import saturated
from sim.traffic.routing import Refusal
from sim.traffic.tally import Burst
from sim.traffic.time_wait import Held

if TYPE_CHECKING:
    from sim.traffic.exchange import Connection
    from sim.traffic.load import Traffic

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class SaturatedCycle:
    """From one request of a connection to its next, but for the round trips of a connect; and its waits for CPU."""

    mean_s: float
    at_client_s: float
    at_front_s: float
    at_app_s: float
    """Behind a proxy; without one the app is the front tier."""


class ClientWithoutPause:
    """How fast it is, how much of the cores it takes, and what it does while it is refused."""

    def __init__(self, traffic: "Traffic", cores: int, rng: Rng) -> None:
        self._traffic = traffic
        self._cores = cores
        self._rng = rng
        self._n = traffic.load.connections
        self._held = Held()
        """How old connections hold up the new ones of `cycle`."""
        self.cycle = self._at_first = self._cycle_of(self._n, self._held)
        """The one that the connections cruise by."""
        self._off_cpu = (-1.0, 0.0)
        """(when drawn, how long): see off_cpu_s."""
        self.refused_cycle_s = traffic.timing.refused_cpu_s * self._n
        """From one refused connect of a connection to its next, on a node that leaves the client a core. [s]"""
        self._ends_refused = ends_the_run(traffic.kind.name, traffic.load.options, Seen.REFUSED)
        self.counts_refused = not (traffic.keeps or traffic.load.retries or self._ends_refused)
        """Whether refused connects may be counted together: each of them is a failure that changes nothing."""

    # ------------------------------------------------------------------ how fast it is

    def renew(self, held: Held) -> None:
        """From now on the connections cruise by what holds now."""
        self._held, self.cycle = held, self._cycle_of(self._n - held.n_aside, held)

    def cycle_changes_by(self, held: Held) -> float:
        """By which share the cycle of now differs from the one that the connections cruise by."""
        return abs(self._cycle_of(self._n - held.n_aside, held).mean_s / self.cycle.mean_s - 1)

    def connects_per_s(self, share_accepted: float, held: Held) -> float:
        """Where *share_accepted* of them succeed."""
        n = self._n_awake(held)
        if n <= 0:
            return 0.0
        cycle_s = self._cycle_of(n, held).mean_s + self._round_trips_s if share_accepted else 0.0
        return n / (share_accepted * cycle_s + (1 - share_accepted) * self.refused_cycle_s)

    def _cycle_of(self, connections: float, held: Held) -> SaturatedCycle:
        """That of so many *connections* that nothing keeps for long."""
        traffic = self._traffic
        client_s, app_s, proxy_s = traffic.request_cpu_s()
        delay_s = traffic.answer(traffic.apps[0]).mean_s if traffic.apps else 0.0
        delay_s += held.short_wait_s
        tiers = [(app_s, max(1, len(traffic.apps)))]
        if traffic.has_proxy:
            tiers.append((proxy_s, max(1, len(traffic.targets(0)) * self._cores)))
        cycle_s, at_client_s, at_servers_s = saturated(
            connections=connections,
            cores=self._cores,
            client_cpu_s=client_s,
            server_cpu_s=tiers,
            delay_s=delay_s,
        )
        app_share = tiers[0][0] / sum(cpu_s for cpu_s, _ in tiers)
        if not traffic.has_proxy:
            return SaturatedCycle(cycle_s, at_client_s, at_servers_s, 0.0)
        return SaturatedCycle(cycle_s, at_client_s, at_servers_s * (1 - app_share), at_servers_s * app_share)

    @property
    def _round_trips_s(self) -> float:
        """What of the whole cycle in steady state is neither CPU nor the wait for it. [s]"""
        return self._traffic.cycle_s - self._at_first.mean_s

    # ------------------------------------------------------------------ what it takes of the cores

    @property
    def n_at_work(self) -> float:
        """Connections that wait neither for an address, dead or not, nor for their proxy's next attempt."""
        return self._n_awake(self._held) * (1 - self._held.short_wait_s / self.cycle.mean_s)

    def _n_awake(self, held: Held) -> float:
        """Those that wait neither for a dead address nor for a second: of one as many as of the other, by chance."""
        return (self._n - self._traffic.n_standing) * (1 - held.n_aside / self._n)

    @property
    def n_runnable(self) -> float:
        """Processes that want a core: the node's own, the client, one of each tier.

        Where every connect is refused, nobody but the client has anything to do.
        """
        in_vain = self._traffic.share_refusing(0) == 1.0
        return 1 + min(self.n_at_work, 1 if in_vain else 2 + int(self._traffic.has_proxy))

    @property
    def share_on_cpu(self) -> float:
        """Of a cycle: the waits for the client, the front tier and the app."""
        cycle = self.cycle
        waits_s = cycle.at_client_s + cycle.at_front_s + cycle.at_app_s
        return min(1.0, waits_s / (cycle.mean_s + self._round_trips_s))

    def off_cpu_s(self) -> float:
        """How long it still waits for a core at this instant. [s]

        The client, a process of each tier and the node's own work share the cores: the client is off them for
        the share that is missing. All its connections wait together, so one draw serves one instant.
        """
        now_s = float(self._traffic.env.now)
        if self._off_cpu[0] != now_s:
            waits = self._rng.random() < 1 - self._cores / self.n_runnable
            self._off_cpu = (now_s, self._traffic.timing.scheduler_turn.draw_s(self._rng) if waits else 0.0)
        return self._off_cpu[1]

    # ------------------------------------------------------------------ refused

    def refuse(self, connection: "Connection", why: Refusal) -> Steps:
        """A refused connect takes a round trip; the client goes on burning requests meanwhile.

        Where every target refuses, its failures up to the next change are one burst.

        Raises
        ------
        LoadOver
        """
        traffic = self._traffic
        if traffic.over:
            raise LoadOver
        if traffic.share_refusing(connection.source) < 1.0:
            yield traffic.env.timeout(self.refused_cycle_s)
            return
        if self._ends_refused:
            return
        began_s, clock_s = float(traffic.env.now), traffic.cores.refused_s
        until = traffic.changed.next
        if self._n_left < float("inf"):
            until = until | traffic.env.timeout(self._n_left * traffic.timing.refused_cpu_s)
        yield until
        lasted_s = traffic.cores.refused_s - clock_s
        n = int(min(connection.rng.poisson(lasted_s / self.refused_cycle_s), self._n_left))
        self.count_refused(n, connection, why, since_s=began_s, share=1.0)
        if self._n_left == 0:
            traffic.stop()

    def count_refused(
        self, n: int, connection: "Connection", why: Refusal, *, since_s: float, share: float
    ) -> None:
        """Count *n* refused connects between *since_s* and now, when that *share* of all connects was refused."""
        if not n:
            return
        traffic = self._traffic
        if traffic.kind.shows_polled:
            traffic.tally.n_polled += polled(n, share)
        like = Failure(
            at_s=since_s,
            cause=why.cause,
            seen=why.seen,
            reused=False,
            connection=connection.index,
            pod=why.pod,
            phase=Stage.CONNECTING.value,
        )
        traffic.tally.bursts.append(Burst(n, since_s, float(traffic.env.now), like))

    @property
    def _n_left(self) -> float:
        """Requests until the load has made all that it is to make."""
        n = self._traffic.load.requests
        return float("inf") if n is None else max(0, n - self._traffic.tally.n_requests)
