"""spec.load: what each client's command line can say."""

import pytest

from sim.errors import InputError
from sim.scenario.distributions import Exponential
from sim.scenario.load_client import CLIENTS
from sim.scenario.model import ClosedLoop, OpenLoop
from sim.traffic.clients import KINDS


def load_of(files, **fields):
    files.spec["load"].update(fields)
    return files.load().load


def refused(files, part, **fields):
    with pytest.raises(InputError) as caught:
        load_of(files, **fields)
    assert "\n" not in str(caught.value)
    assert part in str(caught.value), caught.value


def test_every_client_has_its_semantics():
    """A client that can be named is a client that the traffic knows."""
    assert set(CLIENTS) == set(KINDS)


def test_defaults(files):
    """Closed loop as fast as answers come, GET /, kept connections, one address."""
    load = load_of(files)
    assert (load.path, load.method, load.keep_alive, load.arrivals) == ("/", "GET", True, ClosedLoop())
    assert (load.connect_timeout_s, load.answer_timeout_s, load.retries, load.sources) == (5, 30, 0, 1)


def test_ab_and_its_switches(files):
    """-k is keepAlive, and -s its time-out."""
    load = load_of(files, client="ab", options={"l": True, "r": True, "k": True, "s": 10})
    assert load.keep_alive
    assert (load.connect_timeout_s, load.answer_timeout_s) == (10, 10)
    assert not load_of(files, options={"l": True}).keep_alive
    assert load_of(files, keepAlive=True).options["k"] is True
    refused(files, "for ab they are the same", options={"k": False})


def test_paces(files):
    """Think time is a distribution; a rate is constant or Poisson."""
    assert load_of(files, thinkTime={"exponential": "20ms"}).arrivals == ClosedLoop(
        think_time=Exponential(scale_s=0.02)
    )
    files.spec["load"].pop("thinkTime")
    assert load_of(files, rate="500/s").arrivals == OpenLoop(rate_per_s=500)
    assert load_of(files, arrivals="poisson").arrivals == OpenLoop(rate_per_s=500, poisson=True)


def test_a_number_of_requests(files):
    """Instead of a duration."""
    files.spec["load"].pop("duration")
    load = load_of(files, requests=100_000)
    assert (load.duration_s, load.requests) == (None, 100_000)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"client": "jmeter"}, 'client: got "jmeter", allowed: ab, wrk, plain, go-http, requests'),
        ({"requests": 5}, "got both of duration and requests"),
        ({"duration": None}, "got neither of duration and requests"),
        ({"duration": "0s"}, "expected a positive duration"),
        ({"connections": 0}, "connections: got 0, expected an integer of at least 1"),
        ({"path": "x"}, "expected a path that starts with /"),
        ({"method": "BREW"}, 'method: got "BREW", allowed: GET'),
        ({"rate": "500/s", "thinkTime": "1s"}, "a load is an open loop (rate) or a closed one"),
        ({"rate": "fast"}, "expected a positive rate"),
        ({"arrivals": "poisson"}, "arrivals: needs a rate"),
        ({"client": "ab", "rate": "500/s"}, "ab sends as fast as answers come"),
        ({"client": "wrk", "thinkTime": "1s"}, "wrk sends as fast as answers come"),
        ({"client": "ab", "options": {"c": 10}}, "options.c: write it as spec.load.connections"),
        ({"client": "ab", "options": {"z": True}}, "options.z: not a switch of ab that is known here"),
        ({"client": "ab", "options": {"l": "yes"}}, 'options.l: got "yes", expected true or false'),
        ({"options": {"l": True}}, "not a switch of plain that is known here; known: none"),
        (
            {"target": {"service": "nope"}},
            'target.service: got "nope", expected a Service of the manifests (app)',
        ),
        (
            {"target": {"service": "app", "port": 81}},
            "target.port: got 81, expected a port of Service app (80)",
        ),
        ({"target": {"service": "app", "port": "http"}}, "expected a port of Service app"),
        ({"sources": 0}, "sources: got 0"),
        ({"retries": -1}, "retries: got -1"),
        ({"connectTimeout": 0}, "connectTimeout"),
        ({"conections": 5}, "did you mean connections?"),
    ],
)
def test_bad_load(files, fields, part):
    """One line with the field, what was read and what is allowed."""
    refused(files, part, **fields)


def test_a_client_on_the_node_and_local_policy(files):
    """kube-proxy treats it as local: said."""
    files.service["spec"].update(type="NodePort", externalTrafficPolicy="Local")
    assert any("externalTrafficPolicy: Local does not hold" in note for note in files.load().warnings)
    files.spec["cluster"] = {"client": "pod"}
    assert files.load().warnings == ()
