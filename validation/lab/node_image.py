"""The kind node image, made of Debian packages and our own Kubernetes binaries."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from validation.lab.binaries import binary, ensure_binaries, kind_sources, modules_key
from validation.lab.cluster import docker, hand_images
from validation.lab.commands import CommandFailed, succeeds, wait_until
from validation.lab.host import IMAGES
from validation.lab.images import KEY_LABEL, build, ensure_root, key_in, key_of
from validation.lab.steps import Steps
from validation.lab.versions import COMPONENT_IMAGES, KUBERNETES

NODE = f"rollsim-lab/node:{KUBERNETES}"
BASE = "rollsim-lab/node-base"
ROOT = "rollsim-lab/root-node"
SUITE = "bookworm"
"""Not newer: Debian 12's systemd is the last that runs on a cgroup v1 host."""
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "conntrack", "iptables", "nftables", "iproute2", "ethtool",
    "util-linux", "mount", "kmod", "libseccomp2", "bash", "ca-certificates", "curl", "jq", "procps",
    "containerd", "runc",
    "containernetworking-plugins", "socat", "catatonit",
)  # fmt: skip

SCRATCH = "/tmp"  # noqa: S108 - in the container

FROM_SCRATCH = "FROM scratch\nCOPY {name} /usr/local/bin/{name}\nENV PATH=/usr/local/bin\n"
DOCKERFILES = {
    # it runs iptables and conntrack
    "kube-proxy": f"FROM {ROOT}\nCOPY kube-proxy /usr/local/bin/kube-proxy\n",
    "coredns": 'FROM scratch\nCOPY coredns /coredns\nENTRYPOINT ["/coredns"]\n',
    "pause": f'FROM scratch\nCOPY --from={ROOT} /usr/bin/catatonit /pause\nENTRYPOINT ["/pause", "-P"]\n',
}
"""Component to its Dockerfile where it is not a static binary alone."""


def _definition() -> dict[str, str]:
    return {
        name: (IMAGES / "node" / name).read_text(encoding="utf-8")
        for name in ("Dockerfile", "default-storage.yaml")
    }


def node_key() -> str:
    """Hash of everything that the node image is made from."""
    parts = [*_definition().values(), *PACKAGES, SUITE, *map(str, COMPONENT_IMAGES.items()), str(DOCKERFILES)]
    return key_of(*parts, modules_key("kubernetes"), modules_key("coredns"))


def is_built() -> bool:
    """Whether Docker has the node image as it is defined now."""
    return key_in(NODE) == node_key()


def ensure_node_image(steps: Steps) -> str:
    """Build the node image unless it is there as defined now; returns its reference."""
    if is_built():
        return NODE
    key = node_key()
    ensure_binaries(steps)
    with steps.step("Debian root of the node") as log:
        ensure_root(ROOT, SUITE, PACKAGES, log)
    with steps.step("images of the control plane") as log:
        for name, reference in COMPONENT_IMAGES.items():
            files = {} if name == "pause" else {name: binary(name)}
            build(reference, DOCKERFILES.get(name, FROM_SCRATCH.format(name=name)), files, key=key, log=log)
    with steps.step("node image") as log:
        definition = _definition()
        build(
            BASE,
            definition["Dockerfile"],
            {
                "files": kind_sources() / "images" / "base" / "files",
                "default-storage.yaml": definition["default-storage.yaml"],
                **{name: binary(name) for name in ("kubeadm", "kubelet", "kubectl")},
            },
            arguments={"ROOT": ROOT, "KUBERNETES": KUBERNETES, "PAUSE": COMPONENT_IMAGES["pause"]},
            key=key,
            log=log,
        )
        _preload(key, log)
    return NODE


def _preload(key: str, log: Path) -> None:
    """Put the control plane's images into the node's containerd, since it can pull none."""
    with _running_base() as container:
        docker("exec", "-d", container, "containerd")
        wait_until("containerd answers", lambda: succeeds(["docker", "exec", container, "ctr", "version"]))
        hand_images(container, *COMPONENT_IMAGES.values(), unpack=False)
        docker("exec", container, "sh", "-c", "pkill -x containerd; sleep 1; rm -rf /run/containerd", log=log)
        docker(
            "commit", "--change", 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
            "--change", f"LABEL {KEY_LABEL}={key}", container, NODE,
            timeout_s=600, log=log,
        )  # fmt: skip


@contextmanager
def _running_base() -> Iterator[str]:
    name = "rollsim-lab-preload"
    if _exists(name):
        docker("rm", "--force", "--volumes", name)
    docker(
        "run", "-d", "--name", name, "--privileged", "--tmpfs", SCRATCH, "--entrypoint", "sleep", BASE, "900"
    )
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def _exists(container: str) -> bool:
    try:
        docker("container", "inspect", container)
    except CommandFailed:
        return False
    return True
