"""Each real failure to its cause, on small timelines built here."""

from pathlib import Path

import pytest

from sim.outcomes import Cause
from sim.scenario import load_one
from validation.attribute import UNATTRIBUTED, causes_of

CONFIGS = Path(__file__).parents[2] / "configs"
DIRECT = load_one(CONFIGS / "observed" / "ka-noprestop-term.yaml")
PROXIED = load_one(CONFIGS / "observed" / "proxy-noprestop-term.yaml")
OLD, NEW, PROXY = "10.244.0.8", "10.244.0.9", "10.244.0.20"


def pod(at_s, name, ip, *, image="rollsim/app:red", deleting=False):
    return {"at_s": at_s, "what": "pod", "pod": name, "ip": ip, "image": image, "deleting": deleting}


def container(at_s, name, event, code=0):
    return {"at_s": at_s, "what": "container", "pod": name, "event": event, "code": code}


def rules(at_s, service, *endpoints):
    return {"at_s": at_s, "what": "rules", "service": service, "endpoints": list(endpoints)}


def timeline(code=0):
    """The old pod is deleted at 5.0, exits at 5.1, its link goes at 5.4, the rules follow at 6.0."""
    return [
        pod(-3, "old", OLD),
        rules(-3, "myapp", OLD),
        container(4.3, "new", "start"),
        pod(4.5, "new", NEW, image="rollsim/app:blue"),
        rules(4.6, "myapp", OLD, NEW),
        pod(5.0, "old", OLD, deleting=True),
        container(5.1, "old", "exit", code),
        {"at_s": 5.4, "what": "link", "event": "gone", "ip": OLD},
        rules(6.0, "myapp", NEW),
    ]


def failure(seen_as, at_s=5.2, *, reused=True, peer="open", pod_ip=OLD, elapsed_s=0.001):
    return {
        "at_s": at_s, "seen_as": seen_as, "reused": reused, "peer_at_send": peer, "pod_ip": pod_ip,
        "elapsed_s": elapsed_s,
    }  # fmt: skip


def cause(row, rows=None, scenario=DIRECT):
    counts, [told] = causes_of([row], timeline() if rows is None else rows, scenario)
    assert counts == {told["cause"]: 1}
    return told["cause"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (failure("eof_reused", peer="closed"), Cause.IDLE_CLOSED),
        (
            failure("rst_reused"),
            Cause.IDLE_CLOSED,
        ),  # the server never read it: for it the connection was idle
        (failure("eof_reused"), Cause.STOP_IN_FLIGHT),
        (failure("eof_first", reused=False), Cause.STOP_IN_FLIGHT),
        (failure("truncated_reused"), Cause.STOP_IN_FLIGHT),
        (failure("rst_first", reused=False), Cause.ACCEPT_QUEUE_RESET),
        (failure("refused", pod_ip=None, reused=False), Cause.STALE_ENDPOINT_REFUSED),
        (failure("timeout_connect", 10.5, reused=False), Cause.STALE_ENDPOINT_SILENT),
        (failure("timeout_response", 10.5), Cause.VANISHED_IN_FLIGHT),
    ],
)
def test_causes_of_a_client_at_the_pods(row, expected):
    """What the connection was doing tells the causes of one stop apart."""
    assert cause(row) == expected.value


def test_sigkill_is_told_by_the_exit_code():
    """137: the grace period ended with the request inside."""
    assert cause(failure("eof_reused"), timeline(code=137)) == Cause.KILL_IN_FLIGHT.value


def test_refused_without_endpoints():
    """Rules without any address of the Service."""
    assert (
        cause(failure("refused", pod_ip=None), [*timeline(), rules(7.0, "myapp")]) != Cause.NO_ENDPOINT.value
    )
    rows = [*timeline(), rules(7.0, "myapp")]
    assert cause(failure("refused", 7.1, pod_ip=None), rows) == Cause.NO_ENDPOINT.value


def test_refused_by_a_pod_that_starts():
    """Nobody stopped; one endpoint's container is a moment old, and no probe has waited for it."""
    naive = load_one(CONFIGS / "tutorial" / "0-naive.yaml")
    refused = failure("refused", 4.7, pod_ip=None)
    assert cause(refused, scenario=naive) == Cause.STARTING_POD_REFUSED.value
    assert cause(refused) == UNATTRIBUTED


def test_exit_without_deletion_is_a_restart():
    """The kubelet restarted the container: nobody deleted the pod."""
    rows = [row for row in timeline() if not row.get("deleting")]
    assert cause(failure("eof_reused"), rows) == Cause.LIVENESS_RESTART.value


def test_close_without_any_stop_is_the_idle_timeout():
    """The pod lives: the server ended an idle connection by itself."""
    assert cause(failure("eof_reused", 2.0, peer="closed")) == Cause.IDLE_TIMEOUT_RACE.value


def test_what_cannot_be_told_is_said():
    """A reset from an unknown pod is counted as unattributed."""
    assert cause(failure("rst_first", pod_ip=None, reused=False)) == UNATTRIBUTED


def proxied(*more):
    proxy = [
        pod(-3, "proxy", PROXY, image="rollsim/proxy:2.6"),
        rules(-3, "myapp-proxy", PROXY),
    ]
    return [*proxy, *timeline(), *more]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (failure("eof_reused", pod_ip=PROXY), Cause.PROXY_BACKEND_BROKEN),
        (failure("http_502", pod_ip=PROXY), Cause.PROXY_BACKEND_BROKEN),
        (failure("http_503", pod_ip=PROXY, elapsed_s=3.0), Cause.PROXY_RETRIES_EXHAUSTED),
        (failure("http_504", pod_ip=PROXY), Cause.PROXY_SERVER_TIMEOUT),
        (failure("truncated_reused", pod_ip=PROXY), Cause.PROXY_BACKEND_TRUNCATED),
        (failure("timeout_response", 10.5, pod_ip=PROXY, elapsed_s=5.0), Cause.PROXY_CONNECT_WAIT),
        (failure("eof_reused", 26.0, pod_ip=PROXY, elapsed_s=20.0), Cause.PROXY_RETRIES_EXHAUSTED),
    ],
)
def test_causes_behind_a_living_proxy(row, expected):
    """The client's connection ends at the proxy: what broke lies behind it."""
    assert cause(row, proxied(), PROXIED) == expected.value


def test_server_down_is_no_server():
    """503 at once while HAProxy holds its only server down."""
    down = {"at_s": 5.15, "what": "haproxy", "server": "myapp/app", "state": "DOWN", "reason": ""}
    assert cause(failure("http_503", pod_ip=PROXY), proxied(down), PROXIED) == Cause.PROXY_NO_SERVER.value


def test_stopping_proxy_is_like_any_server():
    """The proxy itself is rolled: its idle connections end under the client."""
    stop = [
        pod(5.0, "proxy", PROXY, image="rollsim/proxy:2.6", deleting=True),
        container(5.1, "proxy", "exit"),
    ]
    row = failure("eof_reused", peer="closed", pod_ip=PROXY)
    assert cause(row, proxied(*stop), PROXIED) == Cause.IDLE_CLOSED.value


def test_a_pod_in_its_pre_stop_hook_refuses_nobody():
    """It is deleted and still listens: the refusals at that time are the starting pod's."""
    hooked = load_one(CONFIGS / "matrix" / "close-slow-start.yaml")
    image, new_image = "rollsim/app:red", "rollsim/app:blue-slow"
    assert image in {c.image for d in hooked.deployments for c in d.template.containers}
    rows = [
        pod(-3, "old", OLD, image=image),
        pod(4.9, "new", NEW, image=new_image),
        container(5.0, "new", "start"),
        rules(5.05, "myapp", OLD, NEW),
        pod(5.1, "old", OLD, image=image, deleting=True),
    ]
    found = {cause(failure("refused", at_s=5.2 + i * 1e-6, pod_ip=None), rows, hooked) for i in range(4)}
    assert found == {Cause.STARTING_POD_REFUSED.value}
