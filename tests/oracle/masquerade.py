"""The ports that connections of the node get towards the pods, one by one, and the closed ones that pods remember.

Sources: Linux net/netfilter/nf_nat_core.c (a random source port that no entry to that pod uses), net/ipv4/
tcp_minisocks.c (TIME_WAIT for 60 s; a SYN with an older time stamp is answered, not let in) and tcp_input.c (who gets
that answer resets it, which ends the memory). An entry lives until its client's own port is used again.
"""

from dataclasses import dataclass, field

from oracle.draws import Draw
from oracle.mirror import Host

FIRST_PORT = 1024
N_PORTS = 65_536 - FIRST_PORT
TIME_WAIT_S = 60.0


@dataclass(slots=True)
class _Pod:
    used: set[int] = field(default_factory=set)
    """Ports that an entry has."""
    remembered: dict[int, float] = field(default_factory=dict)
    """Port of a closed connection, and until when."""


class Masquerade:
    def __init__(self, share: Draw, p_refuses: float) -> None:
        self._share = share
        self._p_refuses = p_refuses
        self._pods: dict[Host, _Pod] = {}
        self._entries: dict[tuple[int, int], tuple[_Pod, int]] = {}

    def lets_in(self, client: tuple[int, int], host: Host, now_s: float) -> bool:
        """A SYN from *client*, an address and its port, to *host*."""
        if client in self._entries:
            before, port = self._entries.pop(client)
            before.used.discard(port)
        pod = self._pods.setdefault(host, _Pod())
        port = self._free(pod)
        known = pod.remembered.pop(port, 0.0) > now_s
        if known and self._share() < self._p_refuses:
            return False
        pod.used.add(port)
        self._entries[client] = pod, port
        return True

    def _free(self, pod: _Pod) -> int:
        while (port := FIRST_PORT + int(self._share() * N_PORTS)) in pod.used:
            pass
        return port

    def closed(self, client: tuple[int, int], now_s: float) -> None:
        """The server has ended *client*'s connection."""
        if client in self._entries:
            pod, port = self._entries[client]
            pod.remembered[port] = now_s + TIME_WAIT_S

    def p_refused(self, host: Host, now_s: float) -> float:
        """Of the next SYN to *host*."""
        pod = self._pods.get(host)
        if pod is None:
            return 0.0
        met = sum(ends_s > now_s and port not in pod.used for port, ends_s in pod.remembered.items())
        return self._p_refuses * met / (N_PORTS - len(pod.used))
