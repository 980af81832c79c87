"""What workload images start from: nginx and HAProxy in two versions each, and the load client.

Air-gapped they are Debian roots, one for each release, which hold both servers.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from validation.lab.commands import LabError
from validation.lab.host import IMAGES
from validation.lab.images import build, ensure_root, key_in, key_of, root_is_built
from validation.lab.registry import ensure_pulled, qualified
from validation.lab.steps import Steps
from validation.lab.versions import DEFAULT_VERSION, LOAD_IMAGE, OFFICIAL, SUITES

LOAD: Final = "rollsim-lab/load"
LOAD_SUITE: Final = "bookworm"
LOAD_PACKAGES: Final = (
    "apache2-utils",
    "wrk",
    "python3-minimal",
    "libpython3-stdlib",
    "curl",
    "iproute2",
    "procps",
)
SERVER_PACKAGES: Final = ("nginx", "libnginx-mod-http-echo", "haproxy")
SERVERS: Final[Mapping[str, str]] = MappingProxyType(
    {suite: f"rollsim-lab/servers-{suite}" for suite in sorted(set(SUITES.values()))}
)
"""Debian release to the image of its root with nginx (and its echo module) and HAProxy."""


def ensure_debian_bases(steps: Steps) -> None:
    """The load client's root and each release's root with its servers."""
    roots = {
        LOAD: (LOAD_SUITE, LOAD_PACKAGES),
        **{SERVERS[suite]: (suite, SERVER_PACKAGES) for suite in SERVERS},
    }
    for reference, (suite, packages) in roots.items():
        if not root_is_built(reference, suite, packages):
            with steps.step(f"Debian root {reference.rpartition('/')[2]}") as log:
                ensure_root(reference, suite, packages, log)


def ensure_load_image(steps: Steps, registry: str | None) -> None:
    """The load client's image, from Debian's official one."""
    dockerfile = (IMAGES / "load" / "Dockerfile").read_text(encoding="utf-8")
    base = qualified(LOAD_IMAGE, registry)
    key = key_of(dockerfile, base)
    if key_in(LOAD) != key:
        with steps.step("image of the load client") as log:
            build(LOAD, dockerfile, {}, arguments={"BASE": base}, key=key, log=log)


def server_base(server: str, version: str | None, *, airgapped: bool, registry: str | None) -> str:
    """The image that a server of that version starts from; pulled where it comes from a registry.

    Raises
    ------
    LabError
        The lab has no such version of that server.
    """
    minor = ".".join((version or DEFAULT_VERSION[server]).split(".")[:2])
    wanted = (server, minor)
    if wanted not in SUITES:
        have = ", ".join(number for name, number in SUITES if name == server)
        raise LabError(f"the lab has no {server} {wanted[1]}; it has {have}")
    if airgapped:
        return SERVERS[SUITES[wanted]]
    reference = qualified(OFFICIAL[wanted], registry)
    ensure_pulled(reference)
    return reference
