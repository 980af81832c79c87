"""One kind cluster: made, checked, removed, by the labels that kind gives its containers."""

from pathlib import Path

from validation.lab.cluster import KIND_CLUSTER_LABEL, Lab, cache_dir, docker
from validation.lab.commands import CommandFailed, LabError, run, wait_until
from validation.lab.network import connect_nodes, pod_cidrs
from validation.lab.versions import POD_CIDR, SERVICE_CIDR

CREATE_TIMEOUT_S = 600.0
READY_TIMEOUT_S = 180.0
LOAD_LABEL = "rollsim.lab"
"""On the load client's container: the cluster that it belongs to."""


def cluster_config(n_nodes: int, *, own_cni: bool) -> str:
    """kind's configuration: the first node is the control plane, the rest are workers."""
    nodes = ["- role: control-plane", *["- role: worker"] * (n_nodes - 1)]
    return "\n".join(
        [
            "kind: Cluster",
            "apiVersion: kind.x-k8s.io/v1alpha4",
            "networking:",
            "  apiServerAddress: 127.0.0.1",
            f"  podSubnet: {POD_CIDR}",
            f"  serviceSubnet: {SERVICE_CIDR}",
            f"  disableDefaultCNI: {str(own_cni).lower()}",
            "nodes:",
            *nodes,
            "",
        ]
    )


def containers_of(name: str) -> list[str]:
    """Every container of cluster *name*, running or not, the load client's included."""
    found: list[str] = []
    for label in (KIND_CLUSTER_LABEL, LOAD_LABEL):
        found += docker("ps", "-a", "--filter", f"label={label}={name}", "--format", "{{.Names}}").split()
    return found


def create(name: str, *, kind: str, image: str, n_nodes: int, own_cni: bool, log: Path) -> None:
    """`kind create cluster`; its nodes become Ready only with a CNI configuration."""
    folder = cache_dir() / "clusters" / name
    folder.mkdir(parents=True, exist_ok=True)
    run(
        [kind, "create", "cluster", "--name", name, "--image", image, "--config", "-", "--wait", "0s",
         "--kubeconfig", str(folder / "kubeconfig")],
        stdin=cluster_config(n_nodes, own_cni=own_cni),
        timeout_s=CREATE_TIMEOUT_S,
        log=log,
    )  # fmt: skip


def ready(lab: Lab, *, own_cni: bool) -> None:
    """Give the nodes what they lack and wait until the cluster can take work; raises CommandFailed."""
    if own_cni:
        wait_until(
            "every node has a pod range",
            lambda: len(pod_cidrs(lab)) == len(lab.nodes),
            timeout_s=READY_TIMEOUT_S,
        )
        connect_nodes(lab)
    # every node takes pods, the control plane too: it is a node of the scenario
    control_plane, taint = lab.node_container, "node-role.kubernetes.io/control-plane"
    if taint in lab.kubectl("get", "node", control_plane, "-o", "jsonpath={.spec.taints[*].key}"):
        lab.kubectl("taint", "node", control_plane, f"{taint}-")
    limit = f"--timeout={READY_TIMEOUT_S:.0f}s"
    lab.kubectl("wait", "--for=condition=Ready", "nodes", "--all", limit, timeout_s=READY_TIMEOUT_S + 10)
    _close_dns(lab)
    for workload in ("deployment/coredns", "daemonset/kube-proxy"):
        lab.kubectl("-n", "kube-system", "rollout", "status", workload, limit, timeout_s=READY_TIMEOUT_S + 10)


def _close_dns(lab: Lab) -> None:
    """Take the forwarder out of CoreDNS: a name outside the cluster must not become a packet outside it."""
    corefile = lab.kubectl(
        "-n", "kube-system", "get", "configmap", "coredns", "-o", "jsonpath={.data.Corefile}"
    )
    closed = without_forward(corefile)
    if closed == corefile:
        return
    indented = "".join(f"    {line}\n" for line in closed.splitlines())
    lab.kubectl(
        "apply", "-f", "-",
        input="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\n"
        f"data:\n  Corefile: |\n{indented}",
    )  # fmt: skip
    lab.kubectl("-n", "kube-system", "rollout", "restart", "deployment/coredns")


def without_forward(corefile: str) -> str:
    """The Corefile without its `forward` plugin, block or line."""
    kept: list[str] = []
    inside = False
    for line in corefile.splitlines():
        if line.split()[:1] == ["forward"]:
            inside = line.rstrip().endswith("{")
        elif inside:
            inside = line.strip() != "}"
        else:
            kept.append(line)
    return "\n".join(kept)


def answers(lab: Lab) -> bool:
    """Whether the API server of a cluster that was found says that it is ready."""
    try:
        return lab.kubectl("get", "--raw", "/readyz", timeout_s=10).strip() == "ok"
    except CommandFailed:
        return False


def ensure_load_container(name: str, node: str, image: str) -> None:
    """The load client's container, in the network namespace of the node that runs now."""
    container = f"{name}-load"
    node_id = docker("inspect", "--format", "{{.Id}}", node).strip()
    current = "{{.HostConfig.NetworkMode}} {{.State.Running}} {{.Config.Image}}"
    if container in containers_of(name):
        if docker("inspect", "--format", current, container).strip() == f"container:{node_id} true {image}":
            return
        docker("rm", "--force", "--volumes", container)
    docker(
        "run", "-d", "--init", "--name", container, "--label", f"{LOAD_LABEL}={name}",
        "--network", f"container:{node}", "--entrypoint", "sleep", image, "infinity",
    )  # fmt: skip


def remove(name: str) -> list[str]:
    """Remove the cluster's containers, whatever state they are in; returns their names."""
    containers = containers_of(name)
    if containers:
        docker("rm", "--force", "--volumes", *containers, timeout_s=300)
    folder = cache_dir() / "clusters" / name
    for left in folder.glob("*kubeconfig*"):
        left.unlink()
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    return containers


def require_same_size(lab: Lab, n_nodes: int) -> None:
    """Raise LabError when the running cluster has another number of nodes than asked for."""
    if len(lab.nodes) != n_nodes:
        raise LabError(
            f"cluster {lab.name!r} runs with {len(lab.nodes)} node(s), not {n_nodes}: "
            f"take it down first (rollsim lab down --name {lab.name})"
        )
