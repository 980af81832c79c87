"""The lab's network: routes between nodes, no packet out of the machine, what a vanished address answers."""

import ipaddress
import json
import re
from contextlib import suppress
from enum import Enum

from validation.lab.cluster import KIND_CLUSTER_LABEL, Lab, docker
from validation.lab.commands import CommandFailed, succeeds
from validation.lab.host import on_host
from validation.lab.versions import POD_CIDR, SERVICE_CIDR

DOCKER_NETWORK = "kind"
OURS = "rollsim.network"
"""Label of the Docker network if the lab has made it: then it may remove it."""
IPTABLES = ("iptables", "--wait", "10")
CONFLIST = "/etc/cni/net.d/10-ptp.conflist"
VOID = "void"
"""A device in every node that swallows what it is sent: a bridge without ports."""


class Vanished(Enum):
    """What the address of a pod that is gone answers to a packet that kube-proxy still sends there."""

    PINNED = "pinned"
    """Silence after conntrack has confirmed the flow: every SYN again goes to the same dead address."""
    REDRAWN = "redrawn"
    """Silence before that: the flow is forgotten, the next SYN may get another endpoint."""
    UNREACHABLE = "unreachable"
    """ICMP for forwarded packets (a client in a pod); a client in the node's namespace sees REDRAWN."""


_ROUTES = {
    Vanished.PINNED: ["ip", "route", "replace", POD_CIDR, "dev", VOID],
    Vanished.REDRAWN: ["ip", "route", "replace", "blackhole", POD_CIDR],
    Vanished.UNREACHABLE: ["ip", "route", "replace", "unreachable", POD_CIDR],
}
"""The route of the whole pod range; live pods have routes of their own, which are longer and win."""


def set_vanished(lab: Lab, how: Vanished) -> None:
    """Set on every node what a vanished pod's address answers, from now on."""
    for node in lab.nodes:
        for existing in _pod_range_routes(lab, node):
            lab.in_node("ip", "route", "del", *existing.split(), node=node)
        lab.in_node(*_ROUTES[how], node=node)


def vanished(lab: Lab) -> Vanished | None:
    """What a vanished pod's address answers now; None where no route of ours is set on some node."""
    found = {kind_of_route(_pod_range_routes(lab, node)) for node in lab.nodes}
    return found.pop() if len(found) == 1 else None


def _pod_range_routes(lab: Lab, node: str) -> list[str]:
    listed = lab.in_node("ip", "route", "show", "exact", POD_CIDR, node=node)
    return [line.strip() for line in listed.splitlines() if line.strip()]


def kind_of_route(routes: list[str]) -> Vanished | None:
    """What the routes of the whole pod range, as `ip route` prints them, make of a vanished address."""
    if len(routes) != 1:
        return None
    first = routes[0].split()[0]
    return {"blackhole": Vanished.REDRAWN, "unreachable": Vanished.UNREACHABLE}.get(
        first, Vanished.PINNED if f"dev {VOID}" in routes[0] else None
    )


def ptp_conflist(pod_cidr: str) -> str:
    """CNI configuration of a node whose pods get addresses of *pod_cidr*."""
    ptp = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": "/run/cni-ipam-state",
            "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": str(ipaddress.ip_network(pod_cidr))}]],
        },
        "mtu": 1500,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.3.1", "name": "ptp", "plugins": [ptp, portmap]})


def pod_cidrs(lab: Lab) -> dict[str, str]:
    """Node to its own pod range, of the nodes that have been given one."""
    listed = lab.kubectl(
        "get", "nodes", "-o", 'jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}{"\\n"}{end}'
    )
    return dict(fields for line in listed.splitlines() if len(fields := line.split()) == 2)


def connect_nodes(lab: Lab) -> None:
    """Give every node its CNI configuration and a route to each other node's pods."""
    ranges = pod_cidrs(lab)
    for node in lab.nodes:
        lab.in_node("mkdir", "-p", "/etc/cni/net.d", node=node)
        lab.in_node("tee", CONFLIST, input=ptp_conflist(ranges[node]), node=node)
        for other in lab.nodes:
            if other != node:
                lab.in_node("ip", "route", "replace", ranges[other], "via", node_address(other), node=node)


def node_address(node: str) -> str:
    """A node's own IPv4 address on Docker's network."""
    return docker(
        "inspect", "--format", "{{.NetworkSettings.Networks." + DOCKER_NETWORK + ".IPAddress}}", node
    ).strip()


def confine(lab: Lab) -> None:
    """Let no packet of the cluster leave this machine: swallowed in the node, or rejected on the host."""
    for node in lab.nodes:
        lab.in_node("sh", "-c", _CONFINE_NODE, node=node)
    reject_on_host(node_image_of(lab.node_container))


def reject_on_host(image: str) -> None:
    """Reject on the host whatever comes from the cluster's bridge and is not for it.

    *image* is one with iptables, for a user who is not root but may use Docker.
    """
    rule = _reject_rule()
    try:
        on_host(*IPTABLES, "-C", *rule, image=image)
    except CommandFailed:
        on_host(*IPTABLES, "-I", *rule, image=image)


_CONFINE_NODE = f"""set -e
ip link show {VOID} >/dev/null 2>&1 || ip link add {VOID} type bridge
ip link set {VOID} arp off
ip link set {VOID} up
iptables -t mangle -C POSTROUTING -o eth0 -d {SERVICE_CIDR} -j DROP 2>/dev/null ||
  iptables -t mangle -I POSTROUTING -o eth0 -d {SERVICE_CIDR} -j DROP
"""
# The drop is for the service range alone: dropped there, a packet to a vanished pod would be "redrawn".


def _bridge() -> str:
    """The host's device of Docker's network; CommandFailed where there is no such network."""
    network_id = docker("network", "inspect", "--format", "{{.Id}}", DOCKER_NETWORK).strip()
    return f"br-{network_id[:12]}"


def _reject_rule() -> tuple[str, ...]:
    bridge = _bridge()
    return ("DOCKER-USER", "-i", bridge, "!", "-o", bridge, "-j", "REJECT")


def _iptables(lab: Lab, *args: str) -> str:
    return on_host(*IPTABLES, *args, image=node_image_of(lab.node_container))


def node_image_of(node: str) -> str:
    """The reference of the image that a node runs."""
    return docker("inspect", "--format", "{{.Config.Image}}", node).strip()


def ensure_docker_network() -> None:
    """Make the network that kind would make, but for IPv4 alone: what isn't there cannot leak."""
    if not succeeds(["docker", "network", "inspect", DOCKER_NETWORK]):
        docker("network", "create", "--driver", "bridge", "--label", OURS, DOCKER_NETWORK)


def release(image: str | None) -> None:
    """Undo `reject_on_host` once no kind cluster is left, and remove the network if `up` has made it.

    *image* as there.
    """
    clusters = docker("ps", "--all", "--quiet", "--filter", f"label={KIND_CLUSTER_LABEL}").split()
    if clusters or not succeeds(["docker", "network", "inspect", DOCKER_NETWORK]):
        return
    with suppress(CommandFailed):  # never set, or cleared by another's firewall: nothing is left to undo
        on_host(*IPTABLES, "-D", *_reject_rule(), image=image)
    labels = docker("network", "inspect", "--format", "{{json .Labels}}", DOCKER_NETWORK)
    if OURS in json.loads(labels):
        docker("network", "rm", DOCKER_NETWORK)


def rejected_packets(lab: Lab) -> int | None:
    """Packets that the host has rejected on their way off the machine; None where it rejects none at all."""
    return counter(_iptables(lab, "-nvxL", "DOCKER-USER"), "REJECT", _bridge())


def escaped_packets(lab: Lab) -> int:
    """Packets that the host has let pass from the cluster to anywhere else, since Docker's network exists."""
    chains = ("FORWARD", "DOCKER-FORWARD")  # only newer Docker has the second
    return sum(counter(_listing(lab, chain), "ACCEPT", _bridge()) or 0 for chain in chains)


def _listing(lab: Lab, chain: str) -> str:
    try:
        return _iptables(lab, "-nvxL", chain)
    except CommandFailed:
        return ""


def counter(listing: str, target: str, bridge: str) -> int | None:
    """Packets of the rules that do *target* to what comes from *bridge* and is not for it; None: no such rule."""
    rule = re.compile(rf"^ *(\d+) .* {target} .* {bridge} +!{bridge} ", re.MULTILINE)
    found = [int(packets) for packets in rule.findall(listing)]
    return sum(found) if found else None


def swallowed_packets(lab: Lab, node: str | None = None) -> int:
    """Packets that went into a node's void device instead of out of it."""
    links = json.loads(lab.in_node("ip", "-s", "-j", "link", "show", VOID, node=node))
    return int(links[0]["stats64"]["tx"]["packets"] + links[0]["stats64"]["tx"]["dropped"])
