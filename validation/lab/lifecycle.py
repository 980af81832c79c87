"""`rollsim lab up`, `status` and `down`: from any state, and again at any time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from validation.lab import bases, host, kind, network, node_image, registry
from validation.lab.binaries import binary, ensure_binaries
from validation.lab.cluster import Lab, cache_dir, node_containers
from validation.lab.commands import CommandFailed, LabError
from validation.lab.network import Vanished, node_image_of
from validation.lab.steps import Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What `rollsim lab status` tells of a running cluster."""

    name: str
    nodes: dict[str, str]
    """Node to "Ready" or "NotReady"."""
    kubernetes: str
    kube_proxy_mode: str
    image: str
    vanished: Vanished | None
    rejected_packets: int | None
    """On their way off the machine; None: the host does not reject them."""
    escaped_packets: int
    kubeconfig: str
    load_container: str


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Keep a second `up` or `down` of the same cluster out while this one works."""
    _require_writable_cache()
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LabError(f"another `rollsim lab` is at work on cluster {name!r}") from error
        yield


def up(
    steps: Steps,
    *,
    name: str,
    n_nodes: int = 1,
    vanished: Vanished | None = None,
    airgap: bool = False,
    mirror: str | None = None,
) -> Lab:
    """Bring cluster *name* up, from whatever state it is in; what is built already is used again.

    Parameters
    ----------
    vanished : Vanished or None
        None: as it is, which for a new cluster is PINNED, as on stock kind.
    airgap : bool
        Build everything from Debian packages and Go modules even where a registry can be reached.
    mirror : str or None
        Registry that holds copies of Docker Hub's images, such as "127.0.0.1:5000".

    Raises
    ------
    LabError
        What cannot be done on this host, or which step broke and where its log is.
    """
    with _alone(name):
        host.ensure_docker(steps)
        lab = _running(steps, name)
        if lab is None:
            lab = _create(steps, name, n_nodes=n_nodes, airgap=airgap, mirror=mirror)
        else:
            kind.require_same_size(lab, n_nodes)
            steps.note(f"cluster {name} runs already")
            with steps.step("nodes ready"):
                network.confine(lab)
                kind.ready(lab, own_cni=is_airgapped(lab))
        with steps.step("what a vanished pod's address answers"):
            network.set_vanished(lab, vanished or network.vanished(lab) or Vanished.PINNED)
        return lab


def _require_writable_cache() -> None:
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"{cache_dir()}: {error.strerror}; set ROLLSIM_CACHE to a folder of yours") from error
    if not os.access(cache_dir(), os.W_OK):
        raise LabError(f"{cache_dir()}: not writable; set ROLLSIM_CACHE to a folder of yours")


def _running(steps: Steps, name: str) -> Lab | None:
    """The cluster, if it is whole; what is left of a broken one is removed."""
    left = kind.containers_of(name)
    if not left:
        return None
    nodes = node_containers(name)
    if len(nodes) == len([container for container in left if container != f"{name}-load"]):
        try:
            kind.ensure_load_container(name, nodes[0], bases.LOAD)
            lab = Lab.find(name)
            if kind.answers(lab):
                return lab
        except CommandFailed as error:
            steps.note(f"cluster {name} cannot be used: {error}".splitlines()[0])
    steps.note(f"removing what is left of cluster {name}: {', '.join(left)}")
    kind.remove(name)
    return None


def _create(steps: Steps, name: str, *, n_nodes: int, airgap: bool, mirror: str | None) -> Lab:
    image = None if airgap else _from_registry(steps, mirror)
    own_cni = image is None
    if image is None:
        image = _from_packages(steps)
    host.require_space(n_nodes * host.NODE_SPACE_BYTES)
    with steps.step("kind cluster") as log:
        network.ensure_docker_network()
        network.reject_on_host(image)  # before the first node: it is confined from its first packet on
        kind.create(name, kind=_kind_binary(steps), image=image, n_nodes=n_nodes, own_cni=own_cni, log=log)
        kind.ensure_load_container(name, f"{name}-control-plane", bases.LOAD)
    lab = Lab.find(name)
    with steps.step("nodes ready"):
        network.confine(lab)
        kind.ready(lab, own_cni=own_cni)
    return lab


def _from_registry(steps: Steps, mirror: str | None) -> str | None:
    """Ordinary images: kind's node image and Debian's with the load client; None where none can be had."""
    if not registry.reachable(mirror):
        if mirror:
            raise LabError(f"registry {mirror} does not answer")
        steps.note("no container registry can be reached: building from Debian packages and Go modules")
        return None
    image = registry.pull_node_image(steps, mirror)
    if image is not None:
        bases.ensure_load_image(steps, mirror)
    return image


def _from_packages(steps: Steps) -> str:
    """Everything from Debian packages and Go modules; returns the node image's reference."""
    host.require_build_tools()
    if not node_image.is_built():
        host.require_space(host.BUILD_SPACE_BYTES)
    image = node_image.ensure_node_image(steps)
    ensure_binaries(steps, "kind", "kubectl")
    bases.ensure_debian_bases(steps)
    return image


def _kind_binary(steps: Steps) -> str:
    ensure_binaries(steps, "kind")
    return str(binary("kind"))


def is_airgapped(lab: Lab) -> bool:
    """Whether the cluster's nodes are made of packages, rather than kind's own image."""
    return "kindest/node" not in node_image_of(lab.node_container)


def status(name: str | None) -> Status:
    """What runs; LabError where nothing does."""
    lab = Lab.find(name)
    ready = '{.status.conditions[?(@.type=="Ready")].status}'
    conditions = lab.kubectl(
        "get", "nodes", "-o", "jsonpath={range .items[*]}{.metadata.name} " + ready + '{"\\n"}{end}'
    )
    return Status(
        name=lab.name,
        nodes={
            node: "Ready" if state == "True" else "NotReady"
            for node, state in (line.split() for line in conditions.splitlines())
        },
        kubernetes=lab.in_node("cat", "/kind/version").strip(),
        kube_proxy_mode=_kube_proxy_mode(lab),
        image=node_image_of(lab.node_container),
        vanished=network.vanished(lab),
        rejected_packets=network.rejected_packets(lab),
        escaped_packets=network.escaped_packets(lab),
        kubeconfig=str(lab.kubeconfig),
        load_container=lab.load_container,
    )


def _kube_proxy_mode(lab: Lab) -> str:
    try:
        return lab.in_node("curl", "-s", "http://127.0.0.1:10249/proxyMode").strip()
    except CommandFailed:
        return "that does not answer"


def down(steps: Steps, *, name: str) -> None:
    """Take cluster *name* down and leave nothing of it but the cache; nothing to do is no error."""
    with _alone(name):
        if not host.docker_answers():
            steps.note("docker does not answer: nothing runs")
            return
        nodes = node_containers(name)
        with steps.step(f"remove cluster {name}"):
            image = node_image_of(nodes[0]) if nodes else None
            removed = kind.remove(name)
            network.release(image)
        if not removed:
            steps.note(f"there was no cluster {name}")
        host.stop_docker(steps)
