"""HAProxy's resolvers: which pod each slot of a `server-template` has.

Source: HAProxy 2.6 configuration manual 5.3; src/resolvers.c (resolv_check_response, resolv_get_ip_from_response) and
src/server.c (snr_update_srv_status, srv_update_status) of v2.6.0.
"""

from collections.abc import Sequence

from sim.proxies import BackendServer
from sim.world import Pod


class Resolution:
    """One name's answers over time, and the slots that follow them."""

    def __init__(self, slots: Sequence[BackendServer], *, hold_obsolete_s: float, hold_nx_s: float) -> None:
        self._slots = slots
        self._hold_obsolete_s = hold_obsolete_s
        self._hold_nx_s = hold_nx_s
        self._seen_s: dict[Pod, float] = {}
        self._valid_s = float("-inf")

    def take(self, answer: Sequence[Pod], now_s: float) -> bool:
        """One answer; returns whether a slot has changed.

        No address at all means that the name does not exist: what is known is held for `hold nx`.
        """
        if not answer:
            if now_s < self._valid_s + self._hold_nx_s:
                return False
            self._seen_s.clear()
            return self._assign()
        self._valid_s = now_s
        self._seen_s.update(dict.fromkeys(answer, now_s))
        for pod, seen_s in list(self._seen_s.items()):
            if seen_s + self._hold_obsolete_s < now_s:
                del self._seen_s[pod]
        return self._assign()

    def _assign(self) -> bool:
        """A slot keeps its address while it is known, else takes one that no other has, else is in maintenance.

        One that changes its address keeps its health; one that comes out of maintenance is UP and starts anew.
        """
        used = {slot.pod for slot in self._slots} & self._seen_s.keys()
        free = [pod for pod in self._seen_s if pod not in used]
        changed = False
        for slot in self._slots:
            if slot.pod in used:
                continue
            if free:
                if slot.pod is None:
                    slot.up = True
                    slot.n_returns += 1
                slot.pod, changed = free.pop(0), True
            elif slot.pod is not None:
                slot.pod, changed = None, True
        return changed
