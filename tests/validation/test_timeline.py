"""What the recorder heard, read into rows: samples as containerd, ip, the rules and HAProxy print them."""

import json

from validation import timeline

ID = "62c087f7085061134b9e176a915a82895e37a9e5a0cdabe6e645f74b742af0ec"


def pod(name, *, ready="True", ip="10.244.0.8", deleting=False):
    meta = {"name": name} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {})
    status = {
        "phase": "Running",
        "podIP": ip,
        "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": [{"name": "app", "restartCount": 0, "containerID": f"containerd://{ID}"}],
    }
    return {"metadata": meta, "spec": {"containers": [{"image": "app:red"}]}, "status": status}


def test_only_changes_of_a_pod_make_rows():
    """The watch repeats objects for changes that do not matter here."""
    rows = list(
        timeline.pod_rows(
            [
                (1.0, "ADDED", pod("a")),
                (2.0, "MODIFIED", pod("a")),
                (3.0, "MODIFIED", pod("a", deleting=True)),
            ]
        )
    )
    assert [(row["t"], row["deleting"]) for row in rows] == [(1.0, False), (3.0, True)]


def test_rules_of_other_namespaces_are_not_ours():
    """One row for each change of one Service's addresses; the namespace is stripped."""
    lines = [
        "rules 10.5 kube-system/kube-dns:dns=10.244.0.2:53 ours/myapp=10.244.0.8:80 ours/myapp=10.244.0.9:80 ",
        "rules 11.5 kube-system/kube-dns:dns=10.244.0.2:53 ours/myapp=10.244.0.9:80 ours/myapp=10.244.0.8:80 ",
        "rules 12.5 ours/myapp=10.244.0.9:80 ",
        "rules 13.5 ",
    ]
    rows = [(row["t"], row["endpoints"]) for row in timeline.rule_rows(lines, "ours")]
    assert rows == [(10.5, ["10.244.0.8", "10.244.0.9"]), (12.5, ["10.244.0.9"]), (13.5, [])]


def test_container_exit_has_containerds_own_time_and_code():
    """Processes of probes and hooks (another id) and other pods' containers make no row."""
    stamp = "ctr 2026-11-24 06:26:52.98774991 +0000 UTC k8s.io /tasks/exit "
    exits = [
        {"container_id": ID, "id": ID, "pid": 1459, "exit_status": 137},
        {"container_id": ID, "id": "a-probe", "pid": 1500},
        {"container_id": "another", "id": "another", "pid": 1},
    ]
    lines = [stamp + json.dumps(data) for data in exits]
    [row] = timeline.container_rows(lines, timeline.containers_of([(0.0, "ADDED", pod("a"))]))
    assert (row["pod"], row["event"], row["code"]) == ("a", "exit", 137)
    assert row["t"] == 1795501612.98775


def test_link_of_a_pod_is_known_by_its_route():
    """The kernel tells of the link's end only by its name; the route had said whose it was."""
    lines = [
        "have 10.244.0.8 dev veth1 scope host ",
        "net [2026-11-24T06:26:50.667164] 10.244.0.9 dev veth2 scope host ",
        "net [2026-11-24T06:26:53.367960] Deleted 10.244.0.8 dev veth9 scope host ",
        "net [2026-11-24T06:26:53.367960] Deleted 7: veth1@if2: <BROADCAST> mtu 1500 link/ether ",
    ]
    rows = [(row["event"], row["ip"]) for row in timeline.link_rows(lines)]
    assert rows == [("there", "10.244.0.9"), ("gone", "10.244.0.8")]


def test_haproxy_states_and_terminations():
    """Server states from its warnings; from its log, if the scenario has one, what did not end normally."""
    at = "2026-11-24T06:40:00.250000000Z "
    log = {
        "proxy-1": [
            at
            + "[WARNING]  (8) : Server myapp/app is DOWN, reason: Layer4 connection problem, info: refused",
            at
            + "<134> haproxy[8]: 10.0.0.1:4711 [24/Nov] myapp myapp/app 0/0/-1/-1/3004 503 217 - - SC-- 1/1/0/0/3 0/0",
            at
            + "<134> haproxy[8]: 10.0.0.1:4711 [24/Nov] myapp myapp/app 0/0/0/1/1 200 300 - - ---- 1/1/0/0/0 0/0",
        ]
    }
    down, failed = timeline.haproxy_rows(log)
    assert (down["server"], down["state"]) == ("myapp/app", "DOWN")
    assert (failed["termination"], failed["status"]) == ("SC--", 503)
    assert down["t"] % 1 == 0.25


def test_complete_needs_every_count():
    """kubernetes DeploymentComplete: updated, all and available replicas as wanted, generation observed."""
    status = {"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": status}
    assert timeline.is_complete(deployment)
    for name, value in (
        ("observedGeneration", 1),
        ("updatedReplicas", 2),
        ("replicas", 4),
        ("availableReplicas", 2),
    ):
        assert not timeline.is_complete({**deployment, "status": {**status, name: value}})
