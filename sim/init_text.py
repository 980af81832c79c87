"""A guessed scenario as the text of its file: every field that a user may want to change, with a comment."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sim.init_images import GuessedImage
from sim.scenario.presets import PRESETS

CONNECTIONS: Final = 20
THINK_TIME: Final = "20ms"
UPDATE_AT: Final = "5s"
LEFT_OUT: Final = "clients ask the Service themselves, replicas stay as written"
"""What it means that a guess leaves out an Ingress or an autoscaler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessedHook:
    """An entry under `spec.hooks`, for a line that cannot be read."""

    key: str
    command: str
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A scenario for somebody's manifests."""

    deployment: str
    container: str
    new_image: str
    service: str
    port: int
    images: tuple[GuessedImage, ...]
    """Of every container; the new image is like the old one."""
    hooks: tuple[GuessedHook, ...] = ()
    through: str | None = None
    """The proxy's Deployment that the load goes through."""
    left_out: tuple[str, ...] = ()
    """Kinds of objects among the manifests that it predicts without."""
    others: tuple[str, ...] = ()
    """Further Deployments: not updated."""
    duration_s: int = 60
    rollout_s: float | None = None
    """How long one simulated rollout took until its last old pod was gone."""

    @property
    def old_image(self) -> GuessedImage:
        return self.images[0]


def in_short(guess: Guess) -> list[str]:
    """What was assumed, a line each."""
    through = f" (Deployment {guess.through} in front)" if guess.through else ""
    target = f"Service {guess.service}:{guess.port}{through}"
    lines = [
        f"update  {guess.deployment}: container {guess.container} gets a new image that behaves as the old one",
        f"load    plain, {CONNECTIONS} kept connections to {target}, pauses of {THINK_TIME}, {guess.duration_s} s",
    ]
    if guess.left_out:
        lines.append(f"without {', '.join(guess.left_out)}: {LEFT_OUT}")
    lines += [
        f"image   {each.reference}: {each.server}, stops on {each.stop_signal} ({each.why})"
        for each in guess.images
    ]
    return lines + [
        f"hook    {each.key}: takes {each.duration_s:g} s and changes nothing" for each in guess.hooks
    ]


def scenario_text(guess: Guess, manifests: Sequence[str]) -> str:
    """The Scenario document; without *manifests* the objects stand behind it in the same file."""
    blocks = [_head(guess, manifests), _update(guess), _load(guess), _images(guess), _hooks(guess), _FOOT]
    return "".join(blocks)


_FOOT: Final = """\
  cluster: {nodes: 1, client: pod}        # client: pod (inside the cluster) or node
  timing: defaults                        # defaults (sources) | kind-1.34 (measured) | a file of your own
"""


def _head(guess: Guess, manifests: Sequence[str]) -> str:
    lines = [
        "# A first scenario, guessed from the manifests: every line is yours to change. What it means: README, Input.",
        "apiVersion: rollsim/v1",
        "kind: Scenario",
        f"metadata: {{name: {_word(guess.deployment)}}}",
        "spec:",
    ]
    if manifests:
        lines.append(f"  manifests: [{', '.join(map(_word, manifests))}]")
    if guess.left_out:
        lines += [f"  # Not modelled: {LEFT_OUT}.", f"  leaveOut: [{', '.join(guess.left_out)}]"]
    return "\n".join(lines) + "\n"


def _update(guess: Guess) -> str:
    others = f"  # Not updated: {', '.join(guess.others)}.\n" if guess.others else ""
    return f"""\
  # What is rolled out. The new image is a placeholder: nothing is pulled, its entry under images counts.
  # Or: {{deployment: {guess.deployment}, restart: true, at: {UPDATE_AT}}}, {{manifests: [new.yaml], at: {UPDATE_AT}}}.
{others}  update:
    deployment: {_word(guess.deployment)}
    container: {_word(guess.container)}
    image: {json.dumps(guess.new_image)}
    at: {UPDATE_AT}
"""


def _load(guess: Guess) -> str:
    lasts = (
        f"a rollout took {guess.rollout_s:.0f} s until its last old pod was gone; outlast it"
        if guess.rollout_s is not None
        else "no rollout was complete in time: see what `rollsim predict` says"
    )
    through = f", here through the proxy of Deployment {guess.through}" if guess.through else ""
    return f"""\
  # Who sends requests while it is rolled out{through}.
  load:
    client: plain                         # plain | go-http | requests | ab | wrk: what each repeats, sees and counts
    target: {{service: {_word(guess.service)}, port: {guess.port}}}
    path: /
    connections: {CONNECTIONS}
    keepAlive: true                       # false: a connection for every request
    thinkTime: {{exponential: {THINK_TIME}}}        # pause of each connection; or rate: 500/s; or neither
    duration: {f"{guess.duration_s}s":27} # {lasts}
"""


def _images(guess: Guess) -> str:
    lines = [
        "  # What manifests cannot tell. The image that stops is the old one: its server and stopSignal decide most.",
        "  #   server: nginx, haproxy, generic (say onStop), or a preset:",
        *(f"  #     {line}" for line in _wrapped([*PRESETS])),
        "  #   stopSignal: STOPSIGNAL of the image (docker image inspect -f '{{.Config.StopSignal}}' IMAGE)",
        "  #   startup: container start to the first accepted connection;  serviceTime: request to answer",
        "  images:",
    ]
    for each in guess.images:
        lines += [f"    # {each.why}", _entry(each.reference, each)]
        if each is guess.old_image:
            lines += ["    # the new one, taken to be like the old one", _entry(guess.new_image, each)]
    return "\n".join(lines) + "\n"


def _entry(reference: str, image: GuessedImage) -> str:
    fields = {
        "server": image.server,
        "version": json.dumps(image.version) if image.version else None,
        "stopSignal": image.stop_signal,
        "startup": image.startup,
        "serviceTime": image.service_time,
        "bodyBytes": str(image.body_bytes) if image.body_bytes else None,
    }
    entry = ", ".join(f"{key}: {value}" for key, value in fields.items() if value)
    return f"    {json.dumps(reference)}: {{{entry}}}"


def _hooks(guess: Guess) -> str:
    if not guess.hooks:
        return ""
    lines = [
        "  # Hooks whose command cannot be read: say how long each takes, and which files it removes.",
        "  hooks:",
    ]
    for each in guess.hooks:
        lines += [f"    # {each.command[:100]}", f"    {_word(each.key)}: {{duration: {each.duration_s:g}s}}"]
    return "\n".join(lines) + "\n"


def _wrapped(words: Sequence[str], width: int = 100) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{word}"
    return lines


def _word(text: str) -> str:
    """*text* as a YAML flow scalar: plain where that is safe."""
    return (
        text
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", text) and text.lower() not in _YAML_WORDS
        else json.dumps(text)
    )


_YAML_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
