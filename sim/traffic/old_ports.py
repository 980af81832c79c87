"""Source ports that still lead to a vanished pod: connection tracking remembers where their last SYN went.

A connect that a vanished address did not answer leaves an entry that lives on for two minutes (Linux
net/netfilter/nf_conntrack_proto_tcp.c, SYN_SENT 120 s). Whoever takes the same source port to the same Service in
that time is sent to the dead address, whatever the rules say by then, and hangs in its turn.

Which port comes next is a walk through the ephemeral range (net/ipv4/inet_hashtables.c, __inet_hash_connect): each
connect takes the next free port of one parity and moves on by 2 and up to 14 more, at random. A client or a proxy
that opens a connection for each request comes round every 3 000 connects or so; one that keeps its connections does
not. Seen behind HAProxy in `http-server-close`: of 20 hung connects four or five a round come back, for as long as
the load lasts (validation/observations/proxy-retries-0).
"""

from collections.abc import Generator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

import simpy
from numpy.random import Generator as Rng

from sim.proxies import Proxy
from sim.scenario.timing import Vanished
from sim.waiting import Nap
from sim.world import Server

if TYPE_CHECKING:
    from sim.traffic.exchange import Connection
    from sim.traffic.load import Traffic

SYN_SENT_S: Final = 120.0
"""nf_conntrack_tcp_timeout_syn_sent, from the last SYN on."""
EPHEMERAL_PORTS: Final = 60_999 - 32_768 + 1
"""net.ipv4.ip_local_port_range as it comes."""
PARITY: Final = 2
STEP_MEAN: Final = 9.0
"""2, and twice a number from 0 to 7."""
STEP_SD: Final = 4.58
P_TAKEN: Final = PARITY / STEP_MEAN
"""Share of the rounds in which the walk takes a given port and does not step over it."""
CONNECTS_A_ROUND: Final = EPHEMERAL_PORTS / STEP_MEAN


class OldPorts:
    """The dead entries of one load's connects."""

    def __init__(self, traffic: "Traffic", rng: Rng) -> None:
        self._traffic = traffic
        self._rng = rng
        self._n_hanging = 0
        """Connections that wait for a dead address now: they open no others."""
        self._n_requests = 0.0
        self._counted_s = 0.0
        self._nap = Nap(traffic.env)
        self._goals: list[tuple[float, int, simpy.Event]] = []
        """(number of requests, order, who waits for it); one process watches over all of them."""
        self._n_goals = 0

    def hangs(self, change: int) -> None:
        """One connection more or less that waits for a dead address."""
        self._count()
        self._n_hanging += change
        if self._goals:
            self._nap.wake()

    def leave(self, connection: "Connection", server: Server, proxy: Proxy | None = None) -> None:
        """The socket of an unanswered connect is closed: its port may be taken again.

        Only where the entry is confirmed and stays (silence pinned), and where connects are frequent.
        """
        traffic = self._traffic
        line = connection.hop.line
        if proxy is not None and line is not None and line.is_slot:
            return  # a pod with a server line of its own is asked at its own address
        kept = traffic.keeps if proxy is None else traffic.keeps_backends
        if traffic.timing.vanished is Vanished.SILENCE_PINNED and not kept and not traffic.over:
            traffic.env.process(self._come_round(connection.source, server, proxy))

    def _come_round(
        self, source: int, server: Server, proxy: Proxy | None
    ) -> Generator[simpy.Event, Any, None]:
        traffic, rng = self._traffic, self._rng
        ends_s = float(traffic.env.now) + SYN_SENT_S
        fronts = max(1, len(traffic.targets(source)))
        n_sources = fronts if proxy is not None else min(traffic.load.sources, len(traffic.connections))
        while True:
            n_connects = CONNECTS_A_ROUND
            n_connects += n_connects**0.5 * STEP_SD / STEP_MEAN * float(rng.standard_normal())
            yield from self._requests(n_connects * n_sources)
            if traffic.over or float(traffic.env.now) > ends_s:
                return
            if rng.random() < P_TAKEN and self._send(source, server, proxy):
                return

    def _requests(self, n: float) -> Generator[simpy.Event, Any, None]:
        """Wait for about *n* requests of the load: fewer come while connections hang."""
        self._count()
        reached = self._traffic.env.event()
        self._n_goals += 1
        heappush(self._goals, (self._n_requests + n, self._n_goals, reached))
        if len(self._goals) == 1:
            self._traffic.env.process(self._watch())
        elif self._goals[0][2] is reached:
            self._nap.wake()
        yield reached

    def _watch(self) -> Generator[simpy.Event, Any, None]:
        """As long as anybody waits: hundreds of them would each wake at every connection that hangs."""
        while self._goals:
            goal, _, reached = self._goals[0]
            self._count()
            if self._n_requests >= goal - 1e-6:
                heappop(self._goals)
                reached.succeed()
                continue
            left_s = (goal - self._n_requests) / self._rate_per_s
            yield self._nap.begin(left_s)

    @property
    def _rate_per_s(self) -> float:
        n = len(self._traffic.connections)
        return self._traffic.requests_per_s * max(0.5, n - self._n_hanging) / n

    def _count(self) -> None:
        now_s = float(self._traffic.env.now)
        self._n_requests += (now_s - self._counted_s) * self._rate_per_s
        self._counted_s = now_s

    def _send(self, source: int, server: Server, proxy: Proxy | None) -> bool:
        """Let one connection's next connect take the port; whether there is one to take it."""
        traffic = self._traffic
        able = [
            connection
            for connection in traffic.connections
            if connection.old_port is None and not connection.hangs
            and (proxy is not None or connection.source == source)
        ]  # fmt: skip
        if not able:
            return False
        connection = able[int(self._rng.integers(len(able)))]
        connection.old_port = server
        traffic.look()
        return True
