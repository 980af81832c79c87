"""Every version the lab pins, in this one place.

The Go modules in `go/` (go.mod, go.sum) pin the same versions of Kubernetes, kind, etcd and CoreDNS
with all they depend on; a test holds the two against each other.
"""

from types import MappingProxyType
from typing import Final

KUBERNETES: Final = "v1.34.4"
KIND: Final = "v0.33.0"
ETCD: Final = "v3.6.4"
"""The one that Kubernetes 1.34 itself requires; another pulls much else up."""
COREDNS: Final = "v1.12.1"

NODE_IMAGE: Final = "kindest/node:v1.34.0"
"""kind's own node image, where a registry can be reached: the default of kind v0.30.0."""
LOAD_IMAGE: Final = "debian:bookworm-slim"
"""What the load client's image starts from, where a registry can be reached."""

COMPONENT_IMAGES: Final = MappingProxyType(
    {
        "kube-apiserver": f"registry.k8s.io/kube-apiserver:{KUBERNETES}",
        "kube-controller-manager": f"registry.k8s.io/kube-controller-manager:{KUBERNETES}",
        "kube-scheduler": f"registry.k8s.io/kube-scheduler:{KUBERNETES}",
        "kube-proxy": f"registry.k8s.io/kube-proxy:{KUBERNETES}",
        "etcd": "registry.k8s.io/etcd:3.6.5-0",
        "coredns": f"registry.k8s.io/coredns/coredns:{COREDNS}",
        "pause": "registry.k8s.io/pause:3.10.1",
    }
)
"""Component to the reference that `kubeadm config images list` prints for KUBERNETES."""

POD_CIDR: Final = "10.244.0.0/16"
SERVICE_CIDR: Final = "10.96.0.0/16"

SUITES: Final = MappingProxyType(
    {
        ("nginx", "1.22"): "bookworm",
        ("nginx", "1.26"): "trixie",
        ("haproxy", "2.6"): "bookworm",
        ("haproxy", "3.0"): "trixie",
    }
)
"""Debian release whose package is that version of the server."""

OFFICIAL: Final = MappingProxyType(
    {
        ("nginx", "1.22"): "nginx:1.22.1",
        ("nginx", "1.26"): "nginx:1.26.3",
        ("haproxy", "2.6"): "haproxy:2.6.12",
        ("haproxy", "3.0"): "haproxy:3.0.11",
    }
)
"""The same servers where a registry can be reached."""

DEFAULT_VERSION: Final = MappingProxyType({"nginx": "1.22", "haproxy": "2.6"})
