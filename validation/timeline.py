"""What the recorder heard, read into rows: pods, endpoints, rules, containers, routes, HAProxy's states.

A row is a small dict with `t` (wall clock, s), `what` and the fields of its kind. Only changes make rows.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from validation.record import Recorder

Row = dict[str, Any]
Watched = Iterable[tuple[float, str, dict[str, Any]]]

CONTAINER_EVENTS = {"/tasks/start": "start", "/tasks/exit": "exit"}
CONTAINERD_EVENT = re.compile(r"ctr (\S+ \S+ \S+ \S+) \S+ (/\S+) (\{.*)")
ROUTE = re.compile(r"(?:have|net \[([^\]]+)\]) ([0-9.]+) dev (veth\w+)")
LINK_GONE = re.compile(r"net \[([^\]]+)\] Deleted \d+: (veth\w+)")
HAPROXY_STATE = re.compile(r"Server (\S+) is (UP|DOWN)[,.]?\s*(.*)")
HAPROXY_LOG = re.compile(r" (-?\d+/-?\d+/-?\d+/-?\d+/\+?-?\d+) (-?\d{1,3}) \+?\d+ \S \S ([A-Za-z-]{4}) ")


def read_timeline(recorder: Recorder) -> list[Row]:
    """Every row of a recording, in order of time."""
    pods = list(recorder.objects("pod"))
    node = [line for _, line in recorder.lines("node")]
    rows = [
        *pod_rows(pods),
        *slice_rows(recorder.objects("slice")),
        *deployment_rows(recorder.objects("deployment")),
        *rule_rows(node, recorder.namespace),
        *container_rows(node, containers_of(pods)),
        *link_rows(node),
        *haproxy_rows(recorder.logs()),
    ]
    return sorted(rows, key=lambda row: float(row["t"]))


def is_complete(deployment: Mapping[str, Any]) -> bool:
    """Whether the Deployment's status says that its rollout is done.

    Notes
    -----
    kubernetes v1.34 pkg/controller/deployment/util/deployment_util.go DeploymentComplete.
    """
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    counts = (status.get("updatedReplicas", 0), status.get("replicas", 0), status.get("availableReplicas", 0))
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return bool(seen and all(count == wanted for count in counts))


def pod_rows(pods: Watched) -> Iterator[Row]:
    """One row for each change that matters: address, readiness, deletion, phase, end."""
    last: dict[str, Row] = {}
    for at_s, event, pod in pods:
        status, meta = pod.get("status", {}), pod["metadata"]
        conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
        row = {
            "what": "pod",
            "pod": meta["name"],
            "ip": status.get("podIP"),
            "phase": status.get("phase"),
            "ready": conditions.get("Ready") == "True",
            "deleting": "deletionTimestamp" in meta,
            "gone": event == "DELETED",
            "image": pod["spec"]["containers"][0]["image"],
            "restarts": sum(c.get("restartCount", 0) for c in status.get("containerStatuses", ())),
        }
        if last.get(meta["name"]) != row:
            last[meta["name"]] = row
            yield {"t": at_s, **row}


def slice_rows(slices: Watched) -> Iterator[Row]:
    """One row for each change of a Service's endpoints: [address, ready, serving, terminating]."""
    last: dict[str, Row] = {}
    for at_s, event, found in slices:
        if event == "DELETED":
            continue
        endpoints = sorted(
            [
                endpoint["addresses"][0],
                *(bool(endpoint.get("conditions", {}).get(c)) for c in ("ready", "serving", "terminating")),
            ]
            for endpoint in found.get("endpoints") or ()
        )
        service = found["metadata"].get("labels", {}).get("kubernetes.io/service-name")
        row = {"what": "slice", "service": service, "endpoints": endpoints}
        if last.get(found["metadata"]["name"]) != row:
            last[found["metadata"]["name"]] = row
            yield {"t": at_s, **row}


def deployment_rows(deployments: Watched) -> Iterator[Row]:
    """One row for each change of a Deployment's generation or status counts."""
    last: dict[str, Row] = {}
    for at_s, event, found in deployments:
        if event == "DELETED":
            continue
        status = found.get("status", {})
        row = {
            "what": "deployment",
            "deployment": found["metadata"]["name"],
            "generation": found["metadata"]["generation"],
            "updated": status.get("updatedReplicas", 0),
            "replicas": status.get("replicas", 0),
            "available": status.get("availableReplicas", 0),
            "complete": is_complete(found),
        }
        if last.get(row["deployment"]) != row:
            last[row["deployment"]] = row
            yield {"t": at_s, **row}


def rule_rows(lines: Iterable[str], namespace: str) -> Iterator[Row]:
    """One row for each change of a Service's endpoints in the node's rules."""
    last: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("rules "):
            continue
        _, at, *pairs = line.split()
        rules: dict[str, list[str]] = {}
        for pair in pairs:
            service, _, endpoint = pair.partition("=")
            if service.startswith(f"{namespace}/"):
                rules.setdefault(service.removeprefix(f"{namespace}/"), []).append(endpoint.split(":")[0])
        for service in sorted(last.keys() | rules.keys()):
            endpoints = sorted(rules.get(service, []))
            if last.get(service) != endpoints:
                last[service] = endpoints
                yield {"t": float(at), "what": "rules", "service": service, "endpoints": endpoints}


def containers_of(pods: Watched) -> dict[str, tuple[str, str]]:
    """Container id → (pod, container)."""
    return {
        status["containerID"].partition("://")[2]: (pod["metadata"]["name"], status["name"])
        for _, _, pod in pods
        for status in pod.get("status", {}).get("containerStatuses", ())
        if status.get("containerID")
    }


def container_rows(lines: Iterable[str], containers: Mapping[str, tuple[str, str]]) -> Iterator[Row]:
    """Starts and exits of the pods' containers, with containerd's own times."""
    for line in lines:
        if not (match := CONTAINERD_EVENT.match(line)):
            continue
        event = CONTAINER_EVENTS.get(match[2])
        data = json.loads(match[3])
        container = containers.get(data.get("container_id", ""))
        if event is None or container is None:
            continue
        if event == "exit" and data.get("id") != data.get("container_id"):
            continue  # a probe's or a hook's process
        row = {"t": _containerd_time(match[1]), "what": "container", "event": event, "pod": container[0]}
        row["container"] = container[1]
        if event == "exit":
            row["code"] = data.get("exit_status", 0)
        yield row


def _containerd_time(text: str) -> float:
    """`2026-11-24 06:30:00.123456789 +0000 UTC` → wall clock, s."""
    day, clock, *_ = text.split()
    whole, _, fraction = clock.partition(".")
    moment = datetime.strptime(f"{day} {whole}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return round(moment.timestamp() + float(f"0.{fraction or 0}"), 6)


def link_rows(lines: Iterable[str]) -> Iterator[Row]:
    """Pod addresses whose link is there or gone: without it the address is silent."""
    address_of: dict[str, str] = {}
    for line in lines:
        if match := ROUTE.match(line):
            address_of[match[3]] = match[2]
            if match[1]:
                yield {"t": _kernel_time(match[1]), "what": "link", "event": "there", "ip": match[2]}
        elif (match := LINK_GONE.match(line)) and (address := address_of.pop(match[2], None)):
            yield {"t": _kernel_time(match[1]), "what": "link", "event": "gone", "ip": address}


def _kernel_time(stamp: str) -> float:
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()


def haproxy_rows(logs: Mapping[str, list[str]]) -> Iterator[Row]:
    """HAProxy's server states and, where it logs requests, those that did not end normally."""
    for pod, lines in logs.items():
        for line in lines:
            stamp, _, text = line.partition(" ")
            if match := HAPROXY_STATE.search(text):
                detail = {"server": match[1], "state": match[2], "reason": match[3][:80]}
            elif (match := HAPROXY_LOG.search(text)) and match[3] != "----":
                detail = {"termination": match[3], "status": int(match[2]), "timers": match[1]}
            else:
                continue
            yield {"t": _log_time(stamp), "what": "haproxy", "pod": pod, **detail}


def _log_time(stamp: str) -> float:
    """`2026-11-24T06:30:00.123456789Z` → wall clock, s."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
