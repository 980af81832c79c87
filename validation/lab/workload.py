"""The images of a scenario, built and given to the nodes of a running lab."""

from pathlib import Path
from typing import Final

from rich.console import Console

from sim.scenario.model import Image, Scenario, ServerKind
from validation.lab import bases
from validation.lab.binaries import binary, go_build
from validation.lab.cluster import Lab, cache_dir, docker
from validation.lab.commands import CommandFailed, LabError
from validation.lab.definition import Definition, definition, used_images
from validation.lab.host import IMAGES
from validation.lab.images import build, key_in, key_of
from validation.lab.lifecycle import is_airgapped
from validation.lab.network import node_image_of
from validation.lab.registry import registry_of
from validation.lab.steps import Steps

LOADED: Final = "/run/rollsim-images"
"""In a node: which image it was given under which reference; gone with the node."""


def ensure_images(lab: Lab, scenario: Scenario, steps: Steps | None = None) -> None:
    """Build every image of *scenario* under its own reference and give it to each node that lacks it.

    Raises
    ------
    LabError
        What the scenario says of an image cannot be made true here, or a build failed.
    """
    steps = steps or _default_steps()
    for reference in sorted(used_images(scenario)):
        image = scenario.images.get(reference)
        if image is None:
            raise LabError(f"{scenario.name}: image {reference} is not described in spec.images")
        _ensure_image(lab, image, definition(scenario, image), steps)
    hand_over(lab, sorted(used_images(scenario)), steps)


def server_binary(steps: Steps) -> Path:
    """The generic server, built anew when its sources change."""
    sources = [*sorted((IMAGES / "generic").glob("*.go")), IMAGES / "generic" / "go.mod"]
    target = binary(f"rollsim-server-{key_of(*(source.read_bytes() for source in sources))}")
    if not target.exists():
        with steps.step("build the generic server") as log:
            go_build(IMAGES / "generic", ".", target, "-s -w", log)
    return target


def _ensure_image(lab: Lab, image: Image, what: Definition, steps: Steps) -> None:
    airgapped = is_airgapped(lab)
    if airgapped:
        bases.ensure_debian_bases(steps)
    elif what.needs_echo:
        raise LabError(
            f"image {image.reference}: the official nginx has no echo module: rollsim lab up --airgap"
        )
    base = _base(lab, image, airgapped=airgapped)
    base_id = docker("image", "inspect", "--format", "{{.Id}}", base).strip()
    server = server_binary(steps) if what.needs_server else None
    key = key_of(base_id, what.dockerfile, *what.files.values(), server.name if server else "")
    if key_in(image.reference) == key:
        return
    with steps.step(f"image {image.reference}") as log:
        files: dict[str, Path | str] = dict(what.files)
        if server:
            files["rollsim-server"] = server
        build(image.reference, what.dockerfile, files, arguments={"BASE": base}, key=key, log=log)


def _base(lab: Lab, image: Image, *, airgapped: bool) -> str:
    server = (
        image.server.value if image.server is not ServerKind.GENERIC else "nginx"
    )  # it has a shell for hooks
    version = image.version if image.server is not ServerKind.GENERIC else None
    registry = None if airgapped else registry_of(node_image_of(lab.node_container))
    return bases.server_base(server, version, airgapped=airgapped, registry=registry)


def hand_over(lab: Lab, references: list[str], steps: Steps | None = None) -> None:
    """Give Docker's images to each node that has not had them yet as they are now."""
    steps = steps or _default_steps()
    wanted = {
        reference: docker("image", "inspect", "--format", "{{.Id}}", reference).strip()
        for reference in references
    }
    for node in lab.nodes:
        given = _given(lab, node)
        missing = [reference for reference, image_id in wanted.items() if given.get(reference) != image_id]
        if missing:
            with steps.step(f"images to {node}"):
                lab.load_images(*missing, node=node)
                lines = (f"{reference} {image_id}\n" for reference, image_id in (given | wanted).items())
                lab.in_node("tee", LOADED, node=node, input="".join(lines))


def _given(lab: Lab, node: str) -> dict[str, str]:
    try:
        return dict(line.split() for line in lab.in_node("cat", LOADED, node=node).splitlines())
    except CommandFailed:
        return {}


def _default_steps() -> Steps:
    return Steps(Console(stderr=True, soft_wrap=True), cache_dir() / "logs")
