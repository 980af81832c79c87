"""The fate of requests: what hit them, what the client saw, and what that is called in a report."""

from dataclasses import dataclass
from enum import Enum


class Seen(Enum):
    """What the client itself can observe."""

    REFUSED = "refused"  # ECONNREFUSED: RST or ICMP port unreachable in answer to SYN
    UNREACHABLE = "unreachable"  # EHOSTUNREACH
    CONNECT_TIMEOUT = "timeout_connect"  # no answer to SYN within the client's connect time-out
    RESET = "rst"  # ECONNRESET while waiting for the answer
    EOF = "eof"  # FIN before the first byte of the answer
    TRUNCATED = "truncated"  # FIN or RST in the middle of the answer
    ANSWER_TIMEOUT = "timeout_response"  # no (whole) answer within the client's time-out
    HTTP_502 = "http_502"
    HTTP_503 = "http_503"
    HTTP_504 = "http_504"
    HTTP_OTHER = "http_other"


class Cause(Enum):
    """What hit the request. Each has its own advice; none is "other"."""

    STARTING_POD_REFUSED = (
        "starting_pod_refused"  # an endpoint before its server listens (no readiness probe)
    )
    STALE_ENDPOINT_REFUSED = "stale_endpoint_refused"  # rules still point to a pod that no longer listens
    STALE_ENDPOINT_SILENT = "stale_endpoint_silent"  # rules still point to an address that has vanished
    NO_ENDPOINT = "no_endpoint"  # the Service has no endpoint at all
    ACCEPT_QUEUE_RESET = "accept_queue_reset"  # connected, not yet accepted when the listener closed
    IDLE_CLOSED = "idle_closed"  # a kept-alive connection closed under the client's next request
    STOP_IN_FLIGHT = "stop_in_flight"  # a fast stop (SIGTERM) with the request inside the server
    KILL_IN_FLIGHT = "kill_in_flight"  # SIGKILL at the end of the grace period
    DRAIN_TIMEOUT = "drain_timeout"  # the server's own limit on draining cut the answer
    VANISHED_IN_FLIGHT = "vanished_in_flight"  # the address went silent under an open connection
    PROXY_CONNECT_WAIT = (
        "proxy_connect_wait"  # the client gave up while the proxy waited for a vanished address
    )
    PROXY_RETRIES_EXHAUSTED = "proxy_retries_exhausted"  # every connect attempt of the proxy failed
    PROXY_NO_SERVER = "proxy_no_server"  # the proxy's checks hold every server down
    PROXY_BACKEND_BROKEN = "proxy_backend_broken"  # the proxy's connection to the pod broke before the header
    PROXY_BACKEND_TRUNCATED = "proxy_backend_truncated"  # the same after the header
    PROXY_SERVER_TIMEOUT = "proxy_server_timeout"  # `timeout server` ran out
    PROXY_QUEUE_TIMEOUT = "proxy_queue_timeout"  # `timeout queue` ran out
    SLOW_ANSWER = "slow_answer"  # steady state: the answer takes longer than the client waits
    IDLE_TIMEOUT_RACE = (
        "idle_timeout_race"  # steady state: the server's idle time-out beats the client's pause
    )
    LIVENESS_RESTART = "liveness_restart"  # a container restarted by its liveness or startup probe


STEADY_STATE = frozenset({Cause.SLOW_ANSWER, Cause.IDLE_TIMEOUT_RACE})
"""Causes that fail requests without any update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed request."""

    at_s: float
    """When the client knew. [s from the start of the load]"""
    cause: Cause
    seen: Seen
    reused: bool
    """The request was not the first on its client connection."""
    connection: int
    """Index of the client connection."""
    pod: str | None
    """The pod that decided it (the app pod, also behind a proxy); None where none was reached."""
    phase: str
    """What the connection was doing when it was hit: connecting, idle, sent, in_service, streaming."""

    @property
    def seen_as(self) -> str:
        """Column name of the class, as the observations use it: `eof_reused`, `rst_first`, `refused`, …"""
        if self.seen in (Seen.RESET, Seen.EOF, Seen.TRUNCATED):
            return f"{self.seen.value}_{'reused' if self.reused else 'first'}"
        return str(self.seen.value)
