"""The world's own machine: which phases a server can go through, and what it does in each."""

import itertools

import pytest
from builders import container, deployment, scenario
from small_world import SmallWorld

from sim.scenario.model import OnListener, Probe, ProbeKind, StopBehaviour
from sim.world import TRANSITIONS, RuleTable, ServerPhase, World

P = ServerPhase
PAIRS = list(itertools.product(P, P))


class Listener:
    """An observer that only remembers."""

    def __init__(self):
        self.heard = []

    def server_changed(self, server):
        self.heard.append(("server", server.phase))

    def rules_changed(self, node, service):
        self.heard.append(("rules", node, service))


@pytest.fixture
def world():
    return SmallWorld(scenario(deployment(replicas=2)))


@pytest.fixture
def server(world):
    return world.server(next(iter(world.world.pods.values())))


def state(server):
    return (
        server.phase,
        server.stop,
        server.killed,
        server.cut_by_own_limit,
        server.n_restarts,
        frozenset(server.removed_files),
        len(server.world.marks),
    )


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda phase: phase.value)
def test_every_pair_moves_or_changes_nothing(world, server, before, after):
    """A transition of the table happens and is told; any other raises, and nothing has changed."""
    server.phase = before
    listener = Listener()
    world.world.observe(listener)
    if after in TRANSITIONS[before]:
        server.move(after)
        assert server.phase is after
        assert listener.heard == [("server", after)]
        assert world.world.marks[-1].what == after.value
        return
    untouched = state(server)
    with pytest.raises(ValueError, match="no way from"):
        server.move(after)
    assert state(server) == untouched
    assert listener.heard == []


def test_the_table_is_whole():
    """Every phase has its row, every phase but the first is reached, none leads nowhere but the last."""
    assert set(TRANSITIONS) == set(P)
    assert set().union(*TRANSITIONS.values()) == set(P) - {P.ABSENT}
    assert [phase for phase, to in TRANSITIONS.items() if not to] == [P.VANISHED]


KEEPS = StopBehaviour(listener=OnListener.KEEP)
CLOSES = StopBehaviour(listener=OnListener.CLOSE)
HTTP = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/")
TCP = Probe(kind=ProbeKind.TCP_SOCKET, port=80)
TRUE = Probe(kind=ProbeKind.EXEC, command=("true",))
FILE = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/ok", file="/ok")


@pytest.mark.parametrize(
    ("phase", "stop", "http", "tcp", "true"),
    [
        (P.ABSENT, None, False, False, False),
        (P.STARTING, None, False, False, True),
        (P.LISTENING, None, True, True, True),
        (P.DEAF, CLOSES, False, True, True),
        (P.DRAINING, CLOSES, False, False, True),
        (P.DRAINING, KEEPS, True, True, True),
        (P.EXITED, CLOSES, False, False, False),
        (P.VANISHED, CLOSES, False, False, False),
    ],
)
def test_which_probes_succeed(server, phase, stop, http, tcp, true):
    """HTTP needs a server that reads, TCP one that the kernel accepts for, exec a process."""
    server.phase, server.stop = phase, stop
    assert (server.answers(HTTP), server.answers(TCP), server.answers(TRUE)) == (http, tcp, true)


def test_a_removed_file_fails_its_probe_alone(server):
    """And the change wakes who waits for it."""
    woken = []
    server.health_changed.next.callbacks.append(woken.append)
    server.remove_file("/ok")
    server.world.env.run()
    assert woken
    assert not server.answers(FILE)
    assert server.answers(HTTP)


def test_a_new_life_begins_clean(server):
    """A restarted container has its image's files and no stop behind it."""
    server.remove_file("/ok")
    server.stop, server.killed = CLOSES, True
    server.move(P.EXITED)
    server.begin_again()
    assert (server.phase, server.stop, server.killed, server.n_restarts) == (P.STARTING, None, False, 1)
    assert server.removed_files == set()


def test_a_drain_waits_for_the_last_connection(world, server):
    """The event comes when none is left, at once if there is none."""
    connections = [object(), object()]
    for connection in connections:
        server.attach(connection)
    drained = server.when_drained()
    server.detach(connections[0])
    server.detach(connections[0])
    assert not drained.triggered
    server.detach(connections[1])
    assert drained.triggered
    assert server.when_drained().triggered


def test_rules_that_do_not_change_tell_nobody(world):
    """Only a table that differs is an event."""
    listener = Listener()
    world.world.observe(listener)
    table = world.world.rules(0, "app")
    world.world.set_rules(0, "app", RuleTable(tuple(table.pods)))
    assert listener.heard == []
    world.world.set_rules(0, "app", RuleTable(table.pods[:1]))
    assert listener.heard == [("rules", 0, "app")]
    assert world.world.rules(5, "nothing") == RuleTable()


def test_who_listens_behind_a_port():
    """By the container's port, its name, or what the server's configuration binds; else the first."""
    from dataclasses import replace
    from types import MappingProxyType

    from sim.scenario.model import NginxConf, NginxListen

    first = container("first")
    admin = replace(
        container("admin", nginx=NginxConf(listens=(NginxListen(port=9000),))),
        ports=MappingProxyType({"admin": 9001}),
    )
    world = SmallWorld(scenario(deployment(first, admin)))
    pod = next(iter(world.world.pods.values()))
    named = {port: pod.server_at(port).container.name for port in (80, "http", 9000, 9001, "admin", 1234)}
    assert named == {
        80: "first",
        "http": "first",
        9000: "admin",
        9001: "admin",
        "admin": "admin",
        1234: "first",
    }


def test_the_steady_state():
    """At time zero everything has run for long: ready, ruled, listening; nothing happens by itself."""
    world = SmallWorld(scenario(deployment(replicas=3), nodes=2))
    assert all(view.ready and view.has_address for view in world.api.pods.values())
    assert {server.phase for pod in world.world.pods.values() for server in pod.servers.values()} == {
        P.LISTENING
    }
    assert world.ruled(0) == world.ruled(1) == sorted(world.world.pods)
    n_marks = len(world.world.marks)
    world.run(600.0)
    assert len(world.world.marks) == n_marks
    assert world.written == []
    assert isinstance(world.world, World)
