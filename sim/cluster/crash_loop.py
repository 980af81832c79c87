"""How long the kubelet holds a container back before it starts it again. No clock or queue here.

Source: kubernetes v1.34 pkg/kubelet/kuberuntime/kuberuntime_manager.go:1607-1638 (doBackOff), client-go
util/flowcontrol/backoff.go, pkg/kubelet/kubelet.go:157-164,1003-1006.
"""

from dataclasses import dataclass
from typing import Final

FIRST_S: Final = 10.0
LONGEST_S: Final = 300.0
FORGOTTEN_AFTER_S: Final = 600.0
RETRY_S: Final = (10.0, 15.0)
"""A sync that a back-off ended comes again after 10 s x (1…1.5) (pkg/kubelet/pod_workers.go:1510-1524)."""


@dataclass(slots=True)
class CrashLoop:
    """The back-off of one container, asked with the end of the newest life that the sync knows of."""

    delay_s: float = 0.0
    _updated_s: float = 0.0

    def holds(self, ended_s: float | None, now_s: float) -> bool:
        """Whether a start at *now_s* has to wait; None: no earlier life is known."""
        if ended_s is None or not self.delay_s or ended_s - self._updated_s > FORGOTTEN_AFTER_S:
            return False
        return now_s - ended_s < self.delay_s

    def started(self, ended_s: float | None, now_s: float) -> None:
        """A start that was not held back doubles the delay; the very first restart knows of no ended life."""
        if ended_s is None:
            return
        fresh = not self.delay_s or ended_s - self._updated_s > FORGOTTEN_AFTER_S
        self.delay_s = FIRST_S if fresh else min(2 * self.delay_s, LONGEST_S)
        self._updated_s = now_s
