"""Whether a container registry can be reached, and what is pulled from it."""

import urllib.error
import urllib.request

from validation.lab.cluster import docker
from validation.lab.commands import CommandFailed, LabError
from validation.lab.steps import Steps
from validation.lab.versions import NODE_IMAGE

DOCKER_HUB = "registry-1.docker.io"
ANSWER_TIMEOUT_S = 3.0
PULL_TIMEOUT_S = 900.0


def reachable(registry: str | None) -> bool:
    """Whether *registry* (None: Docker's own) answers a HEAD of its API within ANSWER_TIMEOUT_S."""
    host = registry or DOCKER_HUB
    scheme = "http" if host.split(":")[0] in {"127.0.0.1", "localhost"} else "https"
    request = urllib.request.Request(f"{scheme}://{host.split('/')[0]}/v2/", method="HEAD")  # noqa: S310 - http(s) only
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S):  # noqa: S310
            return True
    except urllib.error.HTTPError as answer:
        return answer.code < 500  # 401: it wants a token, and `docker pull` gets one
    except OSError:
        return False


def qualified(image: str, registry: str | None) -> str:
    """The reference of a Docker Hub image, or of its copy in *registry*."""
    return f"{registry}/{image}" if registry else image


def registry_of(node_image: str) -> str | None:
    """The registry that a running node's image came from; None: Docker's own.

    Raises
    ------
    LabError
        The node is not made of kind's image.
    """
    prefix, found, _ = node_image.partition("kindest/node")
    if not found:
        raise LabError(f"{node_image} is no image of kind's")
    return prefix.rstrip("/") or None


def pull_node_image(steps: Steps, registry: str | None) -> str | None:
    """Pull kind's node image; None where the registry answers but does not give it."""
    reference = qualified(NODE_IMAGE, registry)
    try:
        with steps.step(f"pull {reference}") as log:
            ensure_pulled(reference)
            log.write_text(f"{reference}\n", encoding="utf-8")
    except LabError as error:
        steps.note(f"not from the registry: {error}".splitlines()[0])
        return None
    return reference


def ensure_pulled(reference: str) -> None:
    """Pull *reference* unless Docker has it."""
    try:
        docker("image", "inspect", reference)
    except CommandFailed:
        docker("pull", "--quiet", reference, timeout_s=PULL_TIMEOUT_S)
