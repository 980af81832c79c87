"""Scenarios to the command lines of real clients, and their output back to numbers."""

import json
from dataclasses import replace

import pytest

from sim.scenario.distributions import Constant, Exponential, Uniform
from sim.scenario.model import ClosedLoop, Load, OpenLoop
from validation import load as loads
from validation.access import ReplayError
from validation.load import Target

NODE = Target(host="127.0.0.1", port=30300, name="myapp")
SERVICE = Target(host="10.96.0.9", port=80, name="myapp")
AB = Load(
    client="ab", service="myapp", port=80, connections=10, duration_s=40, options={"l": True, "r": True}
)


def test_ab_gets_its_duration_before_its_number():
    """-t alone sets -n to 50,000, so a large -n follows it."""
    command = loads.command_for(AB, NODE, lookup_pods=False)
    assert command[command.index("-t") :][:4] == ["-t", "40", "-n", str(loads.ENOUGH_REQUESTS)]
    assert {"-l", "-r", "-k"} <= set(command)
    assert command[-1] == "http://127.0.0.1:30300/"


def test_ab_with_a_number_and_without_keep_alive():
    """The article's form: -n alone; no -k where connections are not kept."""
    command = loads.command_for(
        replace(AB, duration_s=None, requests=100_000, keep_alive=False, options={}), NODE, lookup_pods=False
    )
    assert command[command.index("-n") + 1] == "100000"
    assert not {"-k", "-l", "-r", "-t"} & set(command)


def test_wrk_closes_by_a_header():
    """wrk has no switch for it."""
    command = loads.command_for(replace(AB, client="wrk", keep_alive=False), NODE, lookup_pods=False)
    assert command[:7] == ["wrk", "-t", "1", "-c", "10", "-d", "40s"]
    assert command[command.index("-H") + 1] == "Connection: close"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"client": "k6"}, "no real client"),
        ({"arrivals": OpenLoop(rate_per_s=5)}, "as fast as answers come"),
        ({"client": "wrk", "duration_s": None, "requests": 5}, "only a duration"),
        ({"client": "plain", "arrivals": ClosedLoop(think_time=Uniform(min_s=0, max_s=1))}, "exponential"),
    ],
)
def test_what_no_real_client_can_do_is_refused(change, says):
    """In one line, before anything is applied."""
    with pytest.raises(ReplayError, match=says):
        loads.command_for(replace(AB, **change), NODE, lookup_pods=False)


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        (ClosedLoop(), {"think_s": None}),
        (ClosedLoop(think_time=Exponential(scale_s=0.02)), {"think_s": 0.02, "think": "exponential"}),
        (ClosedLoop(think_time=Constant(value_s=0.5)), {"think_s": 0.5, "think": "constant"}),
        (OpenLoop(rate_per_s=500, poisson=True), {"rate_per_s": 500, "poisson": True}),
    ],
)
def test_our_client_is_paced_as_the_scenario_says(arrivals, expected):
    """Think time and rate reach the settings that the client gets as JSON."""
    load = replace(AB, client="plain", arrivals=arrivals, sources=20)
    settings = loads.settings_of(load, NODE, lookup_pods=True)
    assert {name: getattr(settings, name) for name in expected} == expected
    sent = json.loads(loads.own_command(settings)[-1])
    assert loads.Settings(**sent) == settings


def test_only_loopback_has_addresses_to_spread_over():
    """A Service's own address is reached from the node's one address."""
    load = replace(AB, client="plain", sources=20)
    assert loads.settings_of(load, NODE, lookup_pods=False).sources == 20
    assert loads.settings_of(load, SERVICE, lookup_pods=False).sources == 1


def test_go_notices_and_repeats():
    """Go sees the close before it writes, and repeats what broke on a reused connection."""
    settings = loads.settings_of(replace(AB, client="go-http"), NODE, lookup_pods=False)
    assert (settings.looks, settings.repeats_reused) == (True, True)


def summary(**changed):
    given = {
        "kind": "summary", "requests": 10, "failed": 1, "seen": {"refused": 1}, "pacing_kept": True,
        "client_errors": {}, "lag_s": {"mean": 0.004},
    }  # fmt: skip
    return json.dumps(given | changed)


def test_output_of_our_client():
    """The clock starts with the client's own first word, not with the shell's."""
    text = "\n".join(
        [
            "pid 7",
            "start 99.5",
            json.dumps({"kind": "start", "t": 100.0}),
            '{"kind": "failure", "t": 101}',
            summary(),
        ]
    )
    result = loads.read_output("plain", text)
    assert (result.started_t, result.requests, result.failed, result.tool_failed) == (100.0, 10, 1, None)
    assert len(result.failures) == 1
    assert result.troubles == ()


def test_troubles_of_our_client_spoil_the_run():
    """Lost pacing and used-up ports are said."""
    text = summary(pacing_kept=False, client_errors={"EADDRNOTAVAIL": 3})
    troubles = loads.read_output("plain", text).troubles
    assert "pacing" in troubles[0]
    assert "EADDRNOTAVAIL" in troubles[1]


@pytest.mark.parametrize("client", ["plain", "ab", "wrk"])
def test_a_client_that_says_nothing_is_an_error(client):
    """Never a run without failures."""
    with pytest.raises(ReplayError):
        loads.read_output(client, "pid 7\nstart 99.5\n")
