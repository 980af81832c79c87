"""Kubernetes, etcd, CoreDNS and kind, built from Go modules into the cache."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from sim.files import set_aside
from validation.lab.cluster import cache_dir
from validation.lab.commands import CommandFailed, run
from validation.lab.steps import Steps
from validation.lab.versions import COREDNS, ETCD, KIND, KUBERNETES

MODULES = Path(__file__).parent / "go"
BUILD_TIMEOUT_S = 2400.0

KUBERNETES_COMMANDS = (
    "kubeadm", "kubelet", "kubectl",
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
)  # fmt: skip
VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBinary:
    """One static binary of a Go module in `go/`."""

    name: str
    version: str
    module: str
    package: str
    ldflags: str = "-s -w"


def kubernetes_ldflags(version: str = KUBERNETES) -> str:
    """The version stamp without which kubeadm refuses its own components."""
    major, minor, _ = version.lstrip("v").split(".")
    stamp = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "0" * 40,
        "buildDate": "2026-01-01T00:00:00Z",
    }
    sets = [f"-X {package}.{name}={value}" for package in VERSION_PACKAGES for name, value in stamp.items()]
    return " ".join(["-s -w", *sets])


BINARIES = (
    GoBinary(name="kind", version=KIND, module="kubernetes", package="sigs.k8s.io/kind"),
    GoBinary(name="etcd", version=ETCD, module="kubernetes", package="go.etcd.io/etcd/server/v3"),
    *(
        GoBinary(
            name=command,
            version=KUBERNETES,
            module="kubernetes",
            package=f"k8s.io/kubernetes/cmd/{command}",
            ldflags=kubernetes_ldflags(),
        )
        for command in KUBERNETES_COMMANDS
    ),
    GoBinary(name="coredns", version=COREDNS, module="coredns", package="github.com/coredns/coredns"),
)


def binary(name: str) -> Path:
    """Where the built binary *name* lies, whether it is there or not."""
    return cache_dir() / "bin" / name


def modules_key(module: str) -> str:
    """Hash of what decides a module's binaries: go.mod and go.sum."""
    folder = MODULES / module
    return hashlib.sha256((folder / "go.mod").read_bytes() + (folder / "go.sum").read_bytes()).hexdigest()[
        :16
    ]


def ensure_binaries(steps: Steps, *names: str) -> None:
    """Build what is not built yet: all, or those named."""
    for wanted in BINARIES:
        if names and wanted.name not in names:
            continue
        key = modules_key(wanted.module) + wanted.ldflags
        stamp = binary(f".{wanted.name}.key")
        if binary(wanted.name).exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == key:
            continue
        with steps.step(f"build {wanted.name} {wanted.version}") as log:
            go_build(MODULES / wanted.module, wanted.package, binary(wanted.name), wanted.ldflags, log)
            stamp.write_text(key, encoding="utf-8")


def go_build(folder: Path, package: str, target: Path, ldflags: str, log: Path) -> None:
    """`go build` of *package* in the module at *folder*, static, to *target*: there whole or not at all."""
    if shutil.which("go") is None:
        raise CommandFailed(["go", "build"], "no Go on this host; install Go 1.24 or newer")
    target.parent.mkdir(parents=True, exist_ok=True)
    with set_aside(target) as aside:
        run(
            ["go", "build", "-C", str(folder), "-trimpath", "-buildvcs=false", "-ldflags", ldflags,
             "-o", str(aside), package],
            env=os.environ | {"CGO_ENABLED": "0"},
            timeout_s=BUILD_TIMEOUT_S,
            log=log,
        )  # fmt: skip


def kind_sources() -> Path:
    """The kind module's folder in Go's module cache."""
    listed = run(
        ["go", "list", "-C", str(MODULES / "kubernetes"), "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind"],
        timeout_s=BUILD_TIMEOUT_S,
    )
    return Path(listed.strip())
