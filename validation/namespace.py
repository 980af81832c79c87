"""The namespace that a replay has for itself: made, filled, and deleted whatever happens."""

import json
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sim.scenario.model import Scenario
from validation.access import Access, ReplayError

LABEL = "app.kubernetes.io/managed-by=rollsim"
PREFIX = "rollsim-"
APPLY_ORDER = ("ConfigMap", "Secret", "ServiceAccount", "Service")
"""Services before pods: their addresses are in the environment that a container starts with."""
GONE_S = 120.0
PATIENT_S = 60.0
"""How long cleaning up waits for an API server that does not answer."""

Say = Callable[[str], None]


def start_removing_leftovers(access: Access, say: Say = lambda _: None) -> list[str]:
    """Begin to delete the namespaces of earlier replays; their names. Their NodePorts are free then."""
    names = access.kubectl("get", "namespaces", "-l", LABEL, "-o", "name", patient_s=PATIENT_S).split()
    left = [name.removeprefix("namespace/") for name in names if name.startswith(f"namespace/{PREFIX}")]
    for name in left:
        say(f"removing {name}")
        _start_deleting(access, name)
    return left


def remove_leftovers(access: Access, say: Say = lambda _: None) -> None:
    """Delete the namespaces of earlier replays and wait until they are gone."""
    for name in start_removing_leftovers(access, say):
        wait_gone(access, name)


@contextmanager
def own_namespace(access: Access, scenario: Scenario) -> Iterator[str]:
    """A new namespace, named after *scenario*; it goes with all that is in it."""
    said = re.sub(r"[^a-z0-9]+", "-", scenario.name.lower())[:40].strip("-")
    name = f"{PREFIX}{said}-{secrets.token_hex(3)}"
    meta = {"name": name, "labels": dict([LABEL.split("=")])}
    access.kubectl(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    )
    with afterwards(lambda: _start_deleting(access, name)):
        yield name


@contextmanager
def afterwards(clean: Callable[[], None]) -> Iterator[None]:
    """Run *clean* whatever happens inside; where it fails too, both are said."""
    try:
        yield
    finally:
        first = sys.exception()
        try:
            clean()
        except ReplayError as error:
            if not isinstance(first, ReplayError) or str(first) == str(error):
                raise
            raise ReplayError(f"{first}; not cleaned up: {error}; the next replay there will") from error


def _start_deleting(access: Access, name: str) -> None:
    """Free the NodePorts, end the pods without a grace that nobody waits for, and let the rest go."""

    def delete(*what: str) -> None:
        access.kubectl("delete", *what, "--wait=false", patient_s=PATIENT_S)

    for what in ("services", "deployments", "jobs"):
        delete(what, "--all", "-n", name)
    delete("pods", "--all", "-n", name, "--grace-period=1")
    delete("namespace", name, "--ignore-not-found")


def wait_gone(access: Access, name: str) -> None:
    """Wait until the namespace *name* is no more."""
    access.kubectl(
        "wait", "--for=delete", f"namespace/{name}", f"--timeout={GONE_S:.0f}s", timeout_s=GONE_S + 10
    )


def apply(access: Access, namespace: str, objects: Sequence[Mapping[str, Any]]) -> None:
    """Give *objects* to the API server, in *namespace* whatever they say themselves.

    Raises
    ------
    ReplayError
        It refuses one; of a NodePort that is taken, with the Service that has it.
    """

    def order(item: Mapping[str, Any]) -> int:
        return APPLY_ORDER.index(item["kind"]) if item["kind"] in APPLY_ORDER else len(APPLY_ORDER)

    placed = [
        {**item, "metadata": {**item["metadata"], "namespace": namespace}}
        for item in sorted(objects, key=order)
    ]
    try:
        access.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": placed})
        )
    except ReplayError as error:
        if "port is already allocated" not in str(error):
            raise
        ports = {
            p["nodePort"]
            for o in objects
            if o["kind"] == "Service"
            for p in o["spec"]["ports"]
            if "nodePort" in p
        }
        raise ReplayError(f"NodePort taken: {_port_holder(access, ports) or error}") from None


def _port_holder(access: Access, ports: set[int]) -> str | None:
    try:
        services = access.get("services", "--all-namespaces")["items"]
    except ReplayError:
        return None  # no right to look
    for service in services:
        for port in service["spec"]["ports"]:
            if port.get("nodePort") in ports:
                meta = service["metadata"]
                return f"{port['nodePort']} belongs to service {meta['namespace']}/{meta['name']}"
    return None
