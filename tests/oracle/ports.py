"""Source ports, and the pods that connection tracking still sends them to.

Sources: Linux net/ipv4/inet_hashtables.c, __inet_hash_connect (the next port of one parity, 2 and up to 14 more
behind the last one), net.ipv4.ip_local_port_range 32768 to 60999; net/netfilter/nf_conntrack_proto_tcp.c, SYN_SENT
120 s: a SYN that nothing has answered leaves an entry, and whoever has its port next goes where it went.
"""

from dataclasses import dataclass

from oracle.draws import Draw
from oracle.mirror import Host

N_PORTS = (60_999 - 32_768 + 1) // 2
"""Of the parity that is tried first."""
LONGEST_STEP = 8
SYN_SENT_S = 120.0


@dataclass(slots=True)
class _Entry:
    host: Host
    ends_s: float = float("inf")
    """Infinite while its socket is open: then nobody else gets the port."""


class Ports:
    """Those of one address towards one Service."""

    def __init__(self, share: Draw) -> None:
        self._share = share
        self._last = int(share() * N_PORTS)
        self._entries: dict[int, _Entry] = {}

    def take(self, now_s: float) -> tuple[int, Host | None]:
        """The next port, and the pod that it leads to whatever the rules say."""
        self._last = (self._last + 1 + int(self._share() * LONGEST_STEP)) % N_PORTS
        if not self._entries:
            return self._last, None
        while (entry := self._entries.get(self._last)) is not None and entry.ends_s == float("inf"):
            self._last = (self._last + 1) % N_PORTS
        if entry is not None and entry.ends_s <= now_s:
            del self._entries[self._last]
            entry = None
        return self._last, None if entry is None else entry.host

    def hold(self, port: int, host: Host) -> None:
        """A SYN from *port* went to *host* and is not answered."""
        self._entries[port] = _Entry(host)

    def release(self, port: int, last_syn_s: float) -> None:
        self._entries[port].ends_s = last_syn_s + SYN_SENT_S
