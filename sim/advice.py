"""From causes to what to change: each cause has the settings that remove it, and what that costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sim.outcomes import Cause
from sim.scenario.model import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One cause, for a person."""

    happens: str
    """On the wire."""
    change: str
    """What removes it."""
    costs: str
    source: str


EXPLANATIONS: Final[Mapping[Cause, Explanation]] = {
    Cause.STARTING_POD_REFUSED: Explanation(
        happens="The pod is an endpoint as soon as its container runs; its server does not listen yet and answers "
        "SYN with RST.",
        change="give the container a readinessProbe that asks the server itself",
        costs="the rollout waits for the server's real start",
        source="kubernetes v1.34 pkg/kubelet/prober/prober_manager.go: without a readiness probe always ready",
    ),
    Cause.STALE_ENDPOINT_REFUSED: Explanation(
        happens="Rules still send new connections to a pod whose server has closed its listener; its namespace "
        "answers RST.",
        change="add a preStop sleep (5 s on a small cluster) so that the server listens until all rules are gone",
        costs="each old pod lives that much longer; the rollout itself does not wait for it",
        source="kubernetes v1.34: deletion reaches the kubelet and kube-proxy independently; 1 s between syncs",
    ),
    Cause.STALE_ENDPOINT_SILENT: Explanation(
        happens="Rules still send new connections to the address of a pod that is gone; nothing answers and every "
        "SYN of the connection goes to the same address.",
        change="add a preStop sleep (5 s on a small cluster); a shorter connect timeout with a retry softens it",
        costs="each old pod lives that much longer",
        source="Linux conntrack keeps the DNAT of an unanswered SYN",
    ),
    Cause.NO_ENDPOINT: Explanation(
        happens="No pod is an endpoint; the node answers ICMP port unreachable, which clients read as refused.",
        change="set maxUnavailable: 0 with maxSurge: 1 (and at least two replicas), or replace Recreate",
        costs="room for one pod more during the rollout",
        source="kubernetes v1.34 pkg/proxy/iptables/proxier.go:999-1009",
    ),
    Cause.ACCEPT_QUEUE_RESET: Explanation(
        happens="The kernel had accepted the connection, the server had not when it closed its listener: RST.",
        change="add a preStop sleep so that no new connection arrives when the server stops",
        costs="each old pod lives that much longer",
        source="Linux: closing a listening socket resets its accept queue",
    ),
    Cause.IDLE_CLOSED: Explanation(
        happens="The server closed an idle kept-alive connection as it stopped; the client's next request met the "
        "FIN or a reset. A preStop sleep does not move kept-alive connections.",
        change="put a proxy between (client side kept alive, one connection per request to the pods), or let the "
        "server announce `Connection: close` before it stops (lower keepalive_requests or keepalive_time, drain in "
        "the app), or use a client that repeats idempotent requests",
        costs="one hop, or a few more connects",
        source="kubernetes v1.34: established connections are never moved; nginx closes idle ones on its signal",
    ),
    Cause.STOP_IN_FLIGHT: Explanation(
        happens="A fast stop (nginx: SIGTERM) ended the server with the request inside.",
        change="stop gracefully (STOPSIGNAL SIGQUIT for nginx) after a preStop sleep",
        costs="the pod lives until its longest answer is out; set the grace period above that",
        source="nginx src/os/unix/ngx_process_cycle.c: TERM exits at once, QUIT finishes what it has read",
    ),
    Cause.KILL_IN_FLIGHT: Explanation(
        happens="The grace period was over and SIGKILL ended the container with the request inside.",
        change="raise terminationGracePeriodSeconds above preStop plus the longest answer",
        costs="a hanging pod lives longer",
        source="kubernetes v1.34 pkg/kubelet/kuberuntime/kuberuntime_container.go:849-869",
    ),
    Cause.DRAIN_TIMEOUT: Explanation(
        happens="The server's own limit on draining cut the answer.",
        change="raise worker_shutdown_timeout (nginx), hard-stop-after (HAProxy) or the server's shutdown timeout "
        "above the longest answer",
        costs="a hanging connection holds the pod longer, up to the grace period",
        source="nginx core module, worker_shutdown_timeout; HAProxy 2.6 configuration manual, hard-stop-after",
    ),
    Cause.VANISHED_IN_FLIGHT: Explanation(
        happens="The pod's address went silent under an open connection.",
        change="stop the server before its network is taken away (grace period, preStop)",
        costs="none",
        source="containerd v2.3 internal/cri/server/sandbox_stop.go:60-131: after the last container's exit CNI DEL "
        "takes the pod's interface and route away",
    ),
    Cause.PROXY_CONNECT_WAIT: Explanation(
        happens="The proxy waited for a vanished pod, or a Service without endpoints, longer than the client waited "
        "for its answer.",
        change="add a preStop sleep to the pods; lower the proxy's `timeout connect` well below the client's timeout "
        "so that a retry comes in time",
        costs="each old pod lives that much longer",
        source="HAProxy 2.6 configuration manual, timeout connect and retries",
    ),
    Cause.PROXY_RETRIES_EXHAUSTED: Explanation(
        happens="Every connect attempt of the proxy failed: 503, or after silence a connection closed without a byte.",
        change="add a preStop sleep to the pods, and let the proxy retry (`retries 3`, `option redispatch`, one "
        "server for each pod)",
        costs="up to a second more for a retried request",
        source="HAProxy 2.6 configuration manual, retries",
    ),
    Cause.PROXY_NO_SERVER: Explanation(
        happens="The proxy's health checks hold every server down: 503 at once.",
        change="raise `fall`, or add servers; keep a Service endpoint at all times",
        costs="a dead server is noticed later",
        source="HAProxy 2.6 configuration manual 5.2, check, fall and rise",
    ),
    Cause.PROXY_BACKEND_BROKEN: Explanation(
        happens="The pod closed the proxy's connection before the answer's header; HAProxy answers 502 or, on a "
        "connection that has served before (2.6), closes it without a byte.",
        change="stop the pods gracefully after a preStop sleep, or `retry-on empty-response conn-failure` for "
        "idempotent requests",
        costs="a request may reach two pods",
        source="HAProxy 2.6 src/http_ana.c:1340-1470; 3.0 differs",
    ),
    Cause.PROXY_BACKEND_TRUNCATED: Explanation(
        happens="The pod ended in the middle of an answer that the proxy was passing on.",
        change="stop the pods gracefully and set the grace period above the longest answer",
        costs="the pod lives until its longest answer is out",
        source="HAProxy 2.6 configuration manual, retry-on: none for an answer whose header was forwarded",
    ),
    Cause.PROXY_SERVER_TIMEOUT: Explanation(
        happens="`timeout server` ran out: 504.",
        change="raise `timeout server` above the longest answer",
        costs="a hanging server is noticed later",
        source="HAProxy 2.6 configuration manual, timeout server",
    ),
    Cause.PROXY_QUEUE_TIMEOUT: Explanation(
        happens="The request waited in the proxy's queue until `timeout queue`: 503.",
        change="raise the server's maxconn or `timeout queue`",
        costs="more load on each pod, or slower answers",
        source="HAProxy 2.6 configuration manual, timeout queue",
    ),
    Cause.SLOW_ANSWER: Explanation(
        happens="The answer takes longer than the client waits, with or without an update.",
        change="raise the client's timeout or make the server faster",
        costs="none to the rollout",
        source="the client's own limit (the scenario's load.answerTimeout)",
    ),
    Cause.IDLE_TIMEOUT_RACE: Explanation(
        happens="The server's idle time-out closes connections that the client still means to use, with or without "
        "an update.",
        change="make the server's keep-alive timeout longer than the client's longest pause",
        costs="more open connections",
        source="nginx ngx_http_core_module, keepalive_timeout: FIN without notice",
    ),
    Cause.LIVENESS_RESTART: Explanation(
        happens="A liveness or startup probe gave up on a container that was still starting and restarted it.",
        change="give the container a startupProbe that allows its whole start",
        costs="a container that hangs in its start is noticed later",
        source="kubernetes v1.34 pkg/kubelet/prober/worker.go:344-352",
    ),
}


_KEPT: Final = (Cause.IDLE_CLOSED, Cause.STOP_IN_FLIGHT)
"""On a kept-alive connection both are one thing: it stayed with a pod that stopped."""
_PROXY_STOPS: Final = (
    "stop the proxy softly (HAProxy: STOPSIGNAL SIGUSR1) after a preStop sleep, with `option idle-close-on-response` "
    "and a grace period above the longest pause, so that every connection ends with an announced close"
)


def advice_for(scenario: Scenario, causes: Mapping[str, float]) -> str | None:
    """The first thing to change: for the cause that fails most; None when nothing fails."""
    worst = max(causes, key=lambda name: causes[name], default=None)
    if worst is None or causes[worst] == 0:
        return None
    cause = Cause(worst)
    if cause in _KEPT and _target_is_proxy(scenario):
        return _PROXY_STOPS
    if cause in _KEPT and scenario.load.keep_alive:
        cause = Cause.IDLE_CLOSED
    return EXPLANATIONS[cause].change


def _target_is_proxy(scenario: Scenario) -> bool:
    service = next((s for s in scenario.services if s.name == scenario.load.service), None)
    return service is not None and any(
        container.haproxy is not None
        for deployment in scenario.deployments
        if service.selector and service.selector.items() <= deployment.template.labels.items()
        for container in deployment.template.containers
    )
