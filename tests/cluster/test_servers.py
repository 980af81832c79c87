"""What servers do on their signals: one row for each kind and signal."""

import pytest
from builders import container, generic_image, haproxy_container, haproxy_image, nginx_image

from sim.scenario.model import ExitWhen, NginxConf, OnBusy, OnIdle, OnListener, StopBehaviour
from sim.servers import FAST_STOP, IGNORED, stop_behaviour

NGINX = container(nginx=NginxConf(worker_shutdown_timeout_s=7.0, client_header_timeout_s=20.0))
GRACEFUL = (OnListener.CLOSE, OnIdle.CLOSE, OnBusy.FINISH, OnIdle.KEEP, ExitWhen.DRAINED)


def row(behaviour):
    return (behaviour.listener, behaviour.idle, behaviour.busy, behaviour.unused, behaviour.exit)


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_nginx_and_haproxy_stop_fast(signal):
    """Everything is closed and cut at once."""
    assert stop_behaviour(NGINX, nginx_image("app:red"), signal) == FAST_STOP
    assert stop_behaviour(haproxy_container(), haproxy_image(), signal) == FAST_STOP


def test_nginx_quits_gracefully():
    """Idle ones get a FIN, busy ones finish, unused ones stay; its own limits are those of the file."""
    behaviour = stop_behaviour(NGINX, nginx_image("app:red"), "SIGQUIT")
    assert row(behaviour) == GRACEFUL
    assert (behaviour.drain_timeout_s, behaviour.unused_timeout_s) == (7.0, 20.0)


def test_haproxy_stops_softly():
    """SIGUSR1: as nginx' SIGQUIT; `hard-stop-after` and the client's time-outs limit it."""
    soft = stop_behaviour(haproxy_container(hard_stop_after_s=30.0), haproxy_image(), "SIGUSR1")
    assert row(soft) == GRACEFUL
    assert (soft.drain_timeout_s, soft.unused_timeout_s) == (30.0, float("inf"))
    limited = haproxy_container(frontend={"timeout_client_s": 50.0, "timeout_http_request_s": 5.0})
    assert stop_behaviour(limited, haproxy_image(), "SIGUSR1").unused_timeout_s == 5.0
    keeps = haproxy_container(frontend={"idle_close_on_response": True})
    assert stop_behaviour(keeps, haproxy_image(), "SIGUSR1").idle is OnIdle.CLOSE_AFTER_NEXT


@pytest.mark.parametrize(
    ("image", "spec", "signals"),
    [
        (nginx_image("app:red"), NGINX, ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL")),
        (haproxy_image(), haproxy_container(), ("SIGHUP", "SIGUSR2", "SIGTTOU", "SIGKILL")),
    ],
)
def test_other_signals_do_not_stop_them(image, spec, signals):
    """Reload, reopen, upgrade; SIGKILL from inside a PID namespace does not reach its first process."""
    assert {stop_behaviour(spec, image, signal) for signal in signals} == {IGNORED}


def test_a_generic_server_does_what_it_says():
    """The named signal as described, any other one ends it; SIGKILL from inside does nothing."""
    slow = StopBehaviour(exit=ExitWhen.AFTER, exit_after_s=3.0)
    image, spec = generic_image("app:red", slow), container(nginx=None)
    assert stop_behaviour(spec, image, "SIGTERM") == slow
    assert stop_behaviour(spec, image, "SIGHUP") == FAST_STOP
    assert stop_behaviour(spec, image, "SIGKILL") == IGNORED
