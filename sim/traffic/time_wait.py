"""Closed connections that a server still remembers: a new one that meets one of them may have to try again.

A client on the node reaches a Service through masquerade: towards the pod each of its connections has a random source
port that connection tracking does not use yet (kubernetes v1.34 pkg/proxy/iptables/proxier.go, MASQUERADE
--random-fully; Linux net/netfilter/nf_nat_core.c). A server that closes first keeps the pair of addresses and ports in
TIME_WAIT for a minute (include/net/tcp.h, TCP_TIMEWAIT_LEN). Tracking forgets it sooner: as soon as the client's own
port comes round (old_ports.py). From then on a random port may be one that the server remembers, and a SYN to it is let
in only if its time stamp is not older (net/ipv4/tcp_minisocks.c, tcp_timewait_state_process). Time stamps begin at a
random number for each pair of addresses and ports (net/core/secure_seq.c since Linux 6.19, and stable releases before
it), so half are older. The answer is the old connection's ACK; the client resets that, which ends the memory, and tries
again after two ticks (net/ipv4/tcp_input.c, tcp_rcv_synsent_state_process), from another random port. The second time
it waits for the ordinary second.

So a client without pause that opens a connection for every request is soon held up by its own old ones, long before
anything is updated: after 30 000 of them one SYN in twenty waits, and ten connections make a third of the requests
(validation/calibration/FINDINGS.md). New pods remember nothing. A paced client's few connections, a moment late now and
then, are not worth a model; nor does a proxy meet its own, since its ports are not masqueraded and so keep their clock.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import simpy
from numpy.random import Generator as Rng

from sim.scenario.distributions import Constant
from sim.traffic.links import Stage
from sim.traffic.old_ports import CONNECTS_A_ROUND, P_TAKEN
from sim.traffic.pace import Segment
from sim.traffic.routing import SYN_AGAIN_AFTER_S, accepts
from sim.world import Server

if TYPE_CHECKING:
    from sim.traffic.load import Traffic

TIME_WAIT_S: Final = 60.0
MASQUERADED_PORTS: Final = 65_535 - 1024 + 1
TICK_S: Final = 0.25
"""How often the counts are brought up to date."""
WORTH_TELLING: Final = 0.15
"""By how much the cycle of a connection, or its chance to be refused, must have changed for them all to be told."""
N_TICKS: Final = int(TIME_WAIT_S / TICK_S)
NEGLIGIBLE: Final = 1e-6
"""A second refusal so rare, in each connect, holds nobody up."""
FORGOTTEN_A_ROUND: Final = -math.log(1 - P_TAKEN)
"""Rate at which tracking loses the entries that it has, as a round of the client's ports goes on."""
_MOST_TRIES: Final = 3


class _Memory:
    """What one server remembers, by when the connections were closed: those of the last minute, one slot a tick."""

    def __init__(self, tick: int) -> None:
        self._tick = tick
        self._tracked = np.zeros(N_TICKS)
        self._forgotten = np.zeros(N_TICKS)
        self.tracked = 0.0
        """Those that connection tracking still knows."""
        self.forgotten = 0.0

    def age(self, tick: int, rounds: float) -> None:
        """Up to *tick*, for so many rounds of the client's ports; what is older than a minute is gone."""
        lost = -math.expm1(-rounds * FORGOTTEN_A_ROUND) * self._tracked
        self._tracked -= lost
        self._forgotten += lost
        for each in range(max(self._tick, tick - N_TICKS) + 1, tick + 1):
            self._tracked[each % N_TICKS] = self._forgotten[each % N_TICKS] = 0.0
        self._tick = tick
        self._sum()

    def close(self, n: float, rounds: float) -> None:
        """*n* connections more in these rounds, each of which may have ended the memory of an old one."""
        self._forgotten *= (1 - 1 / (MASQUERADED_PORTS - self.tracked)) ** n
        tracked = (
            n * -math.expm1(-rounds * FORGOTTEN_A_ROUND) / (rounds * FORGOTTEN_A_ROUND)
        )  # they came evenly
        self._tracked[self._tick % N_TICKS] += tracked
        self._forgotten[self._tick % N_TICKS] += n - tracked
        self._sum()

    def _sum(self) -> None:
        self.tracked, self.forgotten = float(self._tracked.sum()), float(self._forgotten.sum())


@dataclass(frozen=True, slots=True)
class Held:
    """How far old connections hold new ones up at one time."""

    p_refused: float = 0.0
    """That a SYN is refused, whichever endpoint it goes to."""
    short_wait_s: float = 0.0
    """Mean of a connect's wait after its first refusal. [s]"""
    n_aside: float = 0.0
    """Expected number of connections in the second after their second refusal: they leave the CPU to the others."""


class TimeWaits:
    """Of one load."""

    def __init__(self, traffic: "Traffic") -> None:
        self._traffic = traffic
        self._again = traffic.timing.time_wait_again
        meets = not traffic.keeps and traffic.masqueraded and traffic.timing.p_time_wait_refuses > 0
        self._client = traffic.no_pause if meets else None
        """Whose new connections meet its old ones; None: nobody's."""
        self._memories: dict[Server, _Memory] = {}
        self._counted_s = 0.0
        self._clock_s = traffic.cores.cycles_s
        self._open: tuple[int, list[Server]] = (0, [])
        """How many targets there are, and those of them that accept, since the last look."""
        self._n_aside = 0.0
        self.known = Held()
        """What the connections cruise by."""

    # ------------------------------------------------------------------ what a connect meets

    @property
    def met(self) -> bool:
        return self._client is not None

    def refuses(self, server: Server, rng: Rng) -> bool:
        """Whether a SYN to *server* meets an old connection that does not let it in."""
        return self._client is not None and bool(rng.random() < self._p_refuses(server))

    def again_s(self, n_before: int, rng: Rng) -> float:
        """From a refused SYN to the next one, after *n_before* others. [s]"""
        return self._again.draw_s(rng) if n_before == 0 else SYN_AGAIN_AFTER_S[0]

    @property
    def now(self) -> Held:
        targets = self._traffic.targets(0)
        p_refused = sum(self._p_refuses(server) for server in targets if accepts(server)) / max(
            1, len(targets)
        )
        return Held(p_refused, p_refused * self._again.mean_s, self._n_aside)

    def tries(self) -> list[tuple[float, tuple[Segment, ...]]]:
        """(probability, waits) of a connect's SYNs before one is let in."""
        p = self.known.p_refused
        if p == 0:
            return [(1.0, ())]
        first = Segment(Stage.CONNECTING, False, self._again)
        found: list[tuple[float, tuple[Segment, ...]]] = [(1 - p, ())]
        for n in range(1, _MOST_TRIES + 1):
            more = Segment(Stage.CONNECTING, False, Constant(value_s=(n - 1) * SYN_AGAIN_AFTER_S[0]))
            rest = 1.0 if n == _MOST_TRIES else 1 - p
            found.append((p**n * rest, (first,) if n == 1 else (first, more)))
        return found

    def _p_refuses(self, server: Server) -> float:
        memory = self._memories.get(server)
        if memory is None:
            return 0.0
        p_met = memory.forgotten / (MASQUERADED_PORTS - memory.tracked)
        return p_met * self._traffic.timing.p_time_wait_refuses

    # ------------------------------------------------------------------ counting

    def run(self) -> Generator[simpy.Event, Any, None]:
        self._open = self._open_now()
        while not self._traffic.over:
            yield self._traffic.env.timeout(TICK_S)
            self.count()
            if self._is_worth_telling():
                self.tell()
                self._traffic.retune()

    def tell(self) -> None:
        """From now on connections cruise by what holds now."""
        if self._client is not None:
            self.known = self.now
            self._client.renew(self.known)
            self._traffic.request_cycle.renew()

    def _is_worth_telling(self) -> bool:
        """Whether second refusals, which cost a second each, or the cycle between them are no longer what they were."""
        if self._client is None:
            return False
        now = self.now
        often, before = now.p_refused**2, self.known.p_refused**2
        more_often = max(often, before) > NEGLIGIBLE and abs(often - before) > 2 * WORTH_TELLING * before
        return more_often or self._client.cycle_changes_by(now) > WORTH_TELLING

    def count(self) -> None:
        """Bring the memories up to now: as many connections as the steady cycle gives."""
        traffic = self._traffic
        now_s = float(traffic.env.now)
        elapsed_s, self._counted_s = now_s - self._counted_s, now_s
        if self._client is None or elapsed_s <= 0:
            return
        clock_s = traffic.cores.cycles_s
        worked_s, self._clock_s = clock_s - self._clock_s, clock_s
        (n_targets, open_ones), self._open = self._open, self._open_now()
        n_per_s = self._client.connects_per_s(len(open_ones) / n_targets, self.now) if n_targets else 0.0
        n = n_per_s * worked_s
        self._put_aside(n / elapsed_s, elapsed_s)
        if n < 1e-9:
            return
        rounds = n / CONNECTS_A_ROUND / traffic.load.sources
        tick = int(now_s / TICK_S)
        for memory in self._memories.values():
            memory.age(tick, rounds)
        for server in open_ones:
            if server not in self._memories:
                self._memories[server] = _Memory(tick)
            self._memories[server].close(n / n_targets, rounds)

    def _put_aside(self, connects_per_s: float, elapsed_s: float) -> None:
        """Each second refusal takes a connection away for a second, and so does each that follows it."""
        p = self.known.p_refused
        in_the_end = connects_per_s * p**2 / (1 - p) * SYN_AGAIN_AFTER_S[0]
        left = math.exp(-elapsed_s / SYN_AGAIN_AFTER_S[0])
        self._n_aside = left * self._n_aside + (1 - left) * min(in_the_end, len(self._traffic.connections))

    def _open_now(self) -> tuple[int, list[Server]]:
        targets = self._traffic.targets(0)
        return len(targets), [server for server in targets if accepts(server)]
