"""A recorded run as lanes: the picture of a recording is that of the rollout it recorded."""

from sim.lanes import MarkKind, PodState, ServerState, Share
from validation.lanes import of_observation
from validation.observations import Observation


def recorded(*timeline, failures=(), **more):
    return Observation(
        **{
            "scenario": "built",
            "run": 1,
            "date": "2026-01-01T00:00:00+00:00",
            "scenario_hash": "0",
            "client": "plain",
            "requests": 100,
            "failed": len(failures),
            "tool_failed": None,
            "counted_by": "client",
            "aborted": False,
            "rollout_s": 3.0,
            "update_at_s": 4.0,
            "old_pods_gone_s": 8.0,
            "load_s": 20.0,
            "timeline": timeline,
            "failures": failures,
        }
        | more
    )


def pod(at_s, name, ip, *, ready=False, deleting=False, gone=False, restarts=0):
    return {
        "at_s": at_s,
        "what": "pod",
        "pod": name,
        "ip": ip,
        "phase": "Running",
        "ready": ready,
        "deleting": deleting,
        "gone": gone,
        "image": "app",
        "restarts": restarts,
    }


def container(at_s, name, event, code=0):
    row = {"at_s": at_s, "what": "container", "event": event, "pod": name, "container": "app"}
    return row | ({"code": code} if event == "exit" else {})


def rules(at_s, *ips):
    return {"at_s": at_s, "what": "rules", "service": "web", "endpoints": list(ips)}


def spans(found):
    return [(span.from_s, span.to_s, span.state) for span in found]


ROLLOUT = (
    rules(-3.1, "10.0.0.1"),
    pod(-3.0, "web-a-1", "10.0.0.1", ready=True),
    pod(4.1, "web-b-2", None),
    container(5.0, "web-b-2", "start"),
    pod(5.5, "web-b-2", "10.0.0.2"),
    pod(6.0, "web-b-2", "10.0.0.2", ready=True),
    pod(6.2, "web-a-1", "10.0.0.1", ready=True, deleting=True),
    rules(6.4, "10.0.0.2"),
    pod(7.0, "web-a-1", "10.0.0.1", deleting=True),
    container(9.0, "web-a-1", "exit", code=137),
    pod(9.2, "web-a-1", "10.0.0.1", deleting=True, gone=True),
)


def test_pods_states_come_from_objects_and_containers():
    """Ready and deleted are the API server's word, started and exited are containerd's."""
    old, new = of_observation(recorded(*ROLLOUT)).pods
    assert (old.was_there, new.was_there) == (True, False)
    assert spans(old.states) == [
        (-3.0, 6.2, PodState.READY),
        (6.2, 9.0, PodState.TERMINATING),
        (9.0, 9.2, PodState.GONE),
    ]
    assert spans(new.states) == [
        (4.1, 5.0, PodState.PENDING),
        (5.0, 6.0, PodState.STARTING),
        (6.0, 20.0, PodState.READY),
    ]
    assert old.marks == ((7.0, MarkKind.PROBE_FAILED), (9.0, MarkKind.SIGKILL))
    assert new.marks == ((6.0, MarkKind.PROBE_PASSED),)


def test_rules_are_by_pod():
    """The addresses in the node's rules are drawn under the pods that have them, whichever row came first."""
    old, new = of_observation(recorded(*ROLLOUT)).pods
    assert spans(old.in_rules) == [(-3.1, 6.4, Share.ALL)]
    assert spans(new.in_rules) == [(6.4, 20.0, Share.ALL)]


def test_an_address_is_its_pods_at_that_time():
    """An address that is given to a second pod stands for the first one before, for the second after."""
    again = (pod(12.0, "web-b-3", "10.0.0.1", ready=True), pod(15.0, "web-b-3", "10.0.0.1", gone=True))
    failures = tuple({"at_s": at_s, "cause": "idle_closed", "pod_ip": "10.0.0.1"} for at_s in (9.0, 13.0))
    data = of_observation(recorded(*ROLLOUT, *again, failures=failures))
    assert [failed.pod for failed in data.failed] == ["web-a-1", "web-b-3"]


def test_a_server_was_up_before_it_went_down():
    """HAProxy logs changes only: before the first one a server was in the other state."""
    down = {"at_s": 7.0, "what": "haproxy", "pod": "proxy-a-1", "server": "myapp/app", "state": "DOWN"}
    [lane] = of_observation(recorded(*ROLLOUT, down)).servers
    assert spans(lane.states) == [(0.0, 7.0, ServerState.UP), (7.0, 20.0, ServerState.DOWN)]


def test_failures_of_a_tool_have_no_time():
    """Where only the tool's figure is known, it is told, and nothing is drawn."""
    data = of_observation(recorded(*ROLLOUT, failed=9, tool_failed=9, counted_by="tool"))
    assert (data.n_failed, data.failed) == (9, ())
