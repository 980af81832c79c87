"""Docker images from a definition: built when the definition's hash is not the one in the image's label."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from validation.lab.cluster import cache_dir, docker
from validation.lab.commands import CommandFailed, LabError, run

KEY_LABEL = "rollsim.key"
BUILD_TIMEOUT_S = 900.0
APT_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
OS_RELEASE = Path("/etc/os-release")


def key_of(*parts: str | bytes) -> str:
    """A short hash of a definition's parts, in order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def key_in(reference: str) -> str | None:
    """The definition's hash that the image *reference* carries; None where there is no such image."""
    try:
        found = docker(
            "image", "inspect", "--format", '{{index .Config.Labels "' + KEY_LABEL + '"}}', reference
        ).strip()
    except CommandFailed:
        return None
    return found or None


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in the cache (hard links from there work) that is gone afterwards."""
    root = cache_dir() / "scratch"
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build(
    reference: str,
    dockerfile: str,
    files: Mapping[str, Path | str],
    *,
    key: str,
    log: Path,
    arguments: Mapping[str, str] | None = None,
) -> None:
    """`docker build` with the classic builder, which needs no plugin and no registry.

    *files* maps a name in the build's folder to a path (linked or copied) or to a text.
    """
    with scratch_folder() as folder:
        (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
        for name, content in files.items():
            _place(content, folder / name)
        run(
            ["docker", "build", "--tag", reference, "--label", f"{KEY_LABEL}={key}",
             *(part for pair in (arguments or {}).items() for part in ("--build-arg", "=".join(pair))),
             str(folder)],
            env=os.environ | {"DOCKER_BUILDKIT": "0"},
            timeout_s=BUILD_TIMEOUT_S,
            log=log,
        )  # fmt: skip


def _place(content: Path | str, target: Path) -> None:
    if isinstance(content, str):
        target.write_text(content, encoding="utf-8")
    elif content.is_dir():
        shutil.copytree(content, target)
        for path in target.rglob("*"):  # Go's module cache is read-only, and the copy must be removable
            path.chmod(path.stat().st_mode | 0o200)
        target.chmod(0o755)
    else:
        try:
            os.link(content, target)
        except OSError:
            shutil.copy(content, target)


def debian_sources(suite: str) -> str:
    """This host's own apt sources, for *suite* instead of the host's release.

    Raises
    ------
    LabError
        This host is no Debian, or its apt sources do not name its release.
    """
    release = OS_RELEASE.read_text(encoding="utf-8") if OS_RELEASE.exists() else ""
    codename = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    source = next((path for path in APT_SOURCES if path.exists() and path.stat().st_size), None)
    if codename is None or source is None or not re.search(r"^ID=debian$", release, re.MULTILINE):
        raise LabError(
            "an air-gapped lab is made of Debian packages: it needs a Debian host with apt sources"
        )
    text = source.read_text(encoding="utf-8")
    if codename[1] not in text:
        raise LabError(f"{source}: does not name this host's release {codename[1]}")
    return re.sub(rf"\b{codename[1]}\b", suite, text)


def root_is_built(reference: str, suite: str, packages: tuple[str, ...]) -> bool:
    """Whether image *reference* is the root that `ensure_root` would make."""
    return key_in(reference) == key_of(suite, *packages)


def ensure_root(reference: str, suite: str, packages: tuple[str, ...], log: Path) -> None:
    """A minimal Debian root with *packages*, as image *reference*; reused while suite and packages stay."""
    if root_is_built(reference, suite, packages):
        return
    sources = debian_sources(suite)
    with scratch_folder() as folder:
        archive = folder / "root.tar"
        run(
            ["mmdebstrap", "--variant=minbase", "--dpkgopt=path-exclude=/usr/share/man/*",
             "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
             f"--include={','.join(packages)}", suite, str(archive), "-"],
            stdin=sources,
            timeout_s=BUILD_TIMEOUT_S,
            log=log,
        )  # fmt: skip
        docker(
            "import",
            "--change",
            f"LABEL {KEY_LABEL}={key_of(suite, *packages)}",
            str(archive),
            reference,
            timeout_s=600,
            log=log,
        )
