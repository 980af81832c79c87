"""How the kubelet ends one container: its budget and instants. No clock, queue or randomness here."""

from dataclasses import dataclass
from math import floor
from typing import Final

MIN_GRACE_AFTER_PRE_STOP_S: Final = 2.0
"""kubernetes v1.34 pkg/kubelet/kuberuntime/kuberuntime_manager.go:81 and kuberuntime_container.go:861-864"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    stop_signal_after_s: float
    sigkill_after_signal_s: float


def effective_grace_s(termination_grace_period_s: int) -> int:
    """The kubelet's own floor of one second; zero and negatives end here too.

    kubernetes v1.34 pkg/kubelet/pod_workers.go:1001-1032; negatives become 1 in the API server
    (pkg/apis/core/v1/defaults.go).
    """
    return max(1, termination_grace_period_s)


def plan_shutdown(*, pre_stop_s: float, grace_s: int) -> Shutdown:
    """When the stop signal and SIGKILL come, counted from the kubelet's start of killing.

    Parameters
    ----------
    pre_stop_s : float
        What the hook takes, start to end; 0 without one. [s]
    grace_s : int, >= 1
        Effective grace period. [s]

    Raises
    ------
    ValueError
        A negative hook or a grace below one second.

    Notes
    -----
    kubernetes v1.34 pkg/kubelet/kuberuntime/kuberuntime_container.go:738-765,849-869: the hook is waited for
    at most the grace, whole seconds of it are charged, at least 2 s remain for the signal.
    """
    if pre_stop_s < 0 or grace_s < 1:
        raise ValueError(f"need pre_stop_s >= 0 and grace_s >= 1, got {pre_stop_s} and {grace_s}")
    signal_s = min(pre_stop_s, float(grace_s))
    return Shutdown(
        stop_signal_after_s=signal_s,
        sigkill_after_signal_s=max(MIN_GRACE_AFTER_PRE_STOP_S, grace_s - floor(signal_s)),
    )
