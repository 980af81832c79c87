"""The table of fates: what a request sees in each phase of its server, by how far it has come."""

import pytest
from tiny import APP, GENERIC, Tiny

from sim.outcomes import Cause, Seen
from sim.scenario.model import ExitWhen, OnBusy, OnIdle, OnListener, StopBehaviour
from sim.servers import FAST_STOP, stop_behaviour
from sim.traffic.links import Link, Stage, announces_close, closes_idle, hit, is_read_in_last_pass
from sim.world import ServerPhase

P, S, C = ServerPhase, Stage, Cause
FIRST, LATER = 1, 2
STAGES = (S.SENT, S.IN_SERVICE, S.STREAMING)


def link_in(phase, stop=None, *, n_requests=LATER, unseen=True, killed=False):
    """A connection to a server in *phase*."""
    tiny = Tiny(pods=1)
    server = tiny.server(tiny.pods[0])
    server.stop, server.killed, server.phase = stop, killed, phase
    return Link(server, n_requests=n_requests, unseen=unseen)


QUIT = stop_behaviour(Tiny(pods=1).pods[0].template.containers[0], APP, "SIGQUIT")
ROWS = [
    # phase, stop, stage, requests on the connection, not yet seen -> fate
    (P.LISTENING, None, S.SENT, FIRST, True, None),
    (P.DEAF, FAST_STOP, S.SENT, FIRST, True, None),  # it waits for the exit
    (P.DEAF, FAST_STOP, S.STREAMING, LATER, True, None),
    (P.DRAINING, QUIT, S.SENT, FIRST, True, (Seen.RESET, C.ACCEPT_QUEUE_RESET)),
    (P.DRAINING, QUIT, S.SENT, FIRST, False, None),  # accepted: served with close
    (P.DRAINING, QUIT, S.SENT, LATER, True, (Seen.RESET, C.IDLE_CLOSED)),
    (P.DRAINING, QUIT, S.SENT, LATER, False, None),  # in the event batch that is finished first
    (P.DRAINING, QUIT, S.IN_SERVICE, LATER, True, None),
    (P.DRAINING, QUIT, S.STREAMING, LATER, True, None),
    (P.EXITED, FAST_STOP, S.SENT, FIRST, True, (Seen.RESET, C.ACCEPT_QUEUE_RESET)),
    (P.EXITED, FAST_STOP, S.SENT, LATER, True, (Seen.RESET, C.IDLE_CLOSED)),
    (P.EXITED, FAST_STOP, S.IN_SERVICE, LATER, True, (Seen.EOF, C.STOP_IN_FLIGHT)),
    (P.EXITED, FAST_STOP, S.STREAMING, LATER, True, (Seen.TRUNCATED, C.STOP_IN_FLIGHT)),
    (P.EXITED, FAST_STOP, S.READING, LATER, True, None),
]


@pytest.mark.parametrize(("phase", "stop", "stage", "n_requests", "unseen", "fate"), ROWS)
def test_nginx_by_phase_and_stage(phase, stop, stage, n_requests, unseen, fate):
    """nginx 1.22: TERM finishes its event batch and exits, QUIT closes what is idle and finishes what it has read."""
    assert hit(stage, link_in(phase, stop, n_requests=n_requests, unseen=unseen)) == fate


@pytest.mark.parametrize(
    ("n_requests", "unseen", "sent_s", "read", "told"),
    [
        (LATER, True, 0.9, True, False),  # before the word: answered as ever
        (LATER, True, 1.1, True, True),
        (FIRST, False, 0.9, True, False),
        (FIRST, True, 0.9, False, False),  # still in the accept queue
        (FIRST, False, 1.1, False, True),
    ],
)
def test_last_pass(n_requests, unseen, sent_s, read, told):
    """SIGTERM: nginx reads before and after the word of its master, in one pass; after it, it says that it closes."""
    link = link_in(P.DEAF, FAST_STOP, n_requests=n_requests, unseen=unseen)
    link.sent_s, link.server.word_s = sent_s, 1.0
    assert is_read_in_last_pass(link) == read
    assert announces_close(link) == told
    link.server.stop = None
    assert not is_read_in_last_pass(link)
    assert not announces_close(link)


def test_another_server_has_no_last_pass():
    """A process that has lost its core, or ends by its signal's default, reads nothing more."""
    link = link_in(P.DEAF, FAST_STOP)
    link.server.image = GENERIC
    assert not is_read_in_last_pass(link)


@pytest.mark.parametrize("stage", [S.IN_SERVICE, S.STREAMING])
def test_sigkill_is_named(stage):
    """SIGKILL at the end of the grace period is another cause than the stop signal."""
    fate = hit(stage, link_in(P.EXITED, QUIT, killed=True))
    assert fate is not None
    assert fate[1] is C.KILL_IN_FLIGHT


def test_own_drain_limit_is_named():
    """worker_shutdown_timeout and hard-stop-after cut answers by the server's own limit."""
    link = link_in(P.EXITED, QUIT)
    link.server.cut_by_own_limit = True
    assert hit(S.STREAMING, link) == (Seen.TRUNCATED, C.DRAIN_TIMEOUT)


def test_restart_by_a_probe_is_named():
    """A container that its liveness probe restarts fails requests without any update."""
    link = link_in(P.EXITED, FAST_STOP)
    link.server.restarting = True
    assert hit(S.IN_SERVICE, link) == (Seen.EOF, C.LIVENESS_RESTART)


@pytest.mark.parametrize("listener", OnListener)
@pytest.mark.parametrize("idle", OnIdle)
@pytest.mark.parametrize("busy", OnBusy)
@pytest.mark.parametrize("unused", OnIdle)
def test_every_drain(listener, idle, busy, unused):
    """What a draining server does to each connection follows from its behaviour alone."""
    stop = StopBehaviour(listener=listener, idle=idle, busy=busy, unused=unused, exit=ExitWhen.DRAINED)
    cut = busy is OnBusy.CUT
    first = link_in(P.DRAINING, stop, n_requests=FIRST)
    later = link_in(P.DRAINING, stop)
    accepted = link_in(P.DRAINING, stop, n_requests=FIRST, unseen=False)
    assert (hit(S.SENT, first) is not None) == (listener is OnListener.CLOSE or unused is OnIdle.CLOSE)
    assert (hit(S.SENT, accepted) is not None) == (unused is OnIdle.CLOSE)
    assert (hit(S.SENT, later) is not None) == (idle is OnIdle.CLOSE)
    assert (hit(S.IN_SERVICE, later) is not None) == cut
    assert (hit(S.STREAMING, later) is not None) == cut
    assert closes_idle(later) == (idle is OnIdle.CLOSE)
    assert announces_close(later) == (idle is not OnIdle.KEEP)


@pytest.mark.parametrize(
    ("image", "at_s", "lost"), [(GENERIC, 1.0, True), (GENERIC, 0.999, False), (APP, 1.0, False)]
)
def test_a_generic_server_hears_its_signal_before_it_reads_what_came_meanwhile(image, at_s, lost):
    """It has had no core since 1.0 s; of what came earlier, this had been read already."""
    tiny = Tiny(pods=1, image=image)
    server = tiny.server(tiny.pods[0])
    server.stop, server.phase, server.deaf_s = QUIT, P.DRAINING, 1.0
    later = Link(server, n_requests=LATER, unseen=False, sent_s=at_s)
    first = Link(server, n_requests=FIRST, unseen=False, opened_s=at_s)
    assert (hit(S.SENT, later) is not None) == lost
    assert (hit(S.SENT, first) is not None) == lost


def test_connections_after_the_cut_wait_for_the_listener():
    """nginx's master holds the listener a little longer than its worker the connections (TERM)."""
    link = link_in(P.DEAF, FAST_STOP)
    link.server.cut_s = 1.0
    link.opened_s = 0.5
    later = Link(link.server, opened_s=1.5, n_requests=FIRST)
    assert hit(S.SENT, link) == (Seen.RESET, C.IDLE_CLOSED)
    assert closes_idle(link)
    assert hit(S.SENT, later) is None


def test_a_server_that_ignores_the_signal_goes_on():
    """PID 1 without a handler: nothing changes until SIGKILL."""
    stop = stop_behaviour(Tiny(pods=1, image=GENERIC).pods[0].template.containers[0], APP, "SIGHUP")
    link = link_in(P.DRAINING, stop)
    assert all(hit(stage, link) is None for stage in STAGES)
    assert not closes_idle(link)
