"""What a container's server may be, by its image's name, command line, variables and mounts."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sim.scenario.images import official_image
from sim.scenario.presets import PRESETS

UNKNOWN: Final = "go-http"
"""Ends at once on SIGTERM, as any process does that does not handle it: the bad case is shown first."""
SIGNS: Final = (
    ("gunicorn", frozenset({"gunicorn"})),
    ("uvicorn", frozenset({"uvicorn", "fastapi"})),
    ("spring-boot", frozenset({"spring", "springboot", "java", "jar", "jdk", "jre", "openjdk", "temurin", "tomcat"})),
    ("node", frozenset({"node", "nodejs", "npm", "yarn", "pnpm", "nextjs", "express"})),
    ("gunicorn", frozenset({"python", "django", "flask"})),
    ("go-http", frozenset({"go", "golang"})),
)  # fmt: skip
"""Preset and the words that speak for it; the first that is met counts."""
NOT_A_SERVER: Final = frozenset({"exporter", "agent", "ingress"})
STARTUP: Final = "300ms"
SERVICE_TIME: Final = "5ms"
BODY_BYTES: Final = 10_000
"""Where nginx limits its rate, the length of an answer decides its time."""


_SIGNAL: Final = "SIGTERM, unless its STOPSIGNAL is another (the official image: {})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One container of a Deployment, raw, with the texts that ConfigMaps mount into it."""

    name: str
    image: str
    data: Mapping[str, Any] = field(repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Path inside the container → text."""

    @property
    def ports(self) -> dict[str, int]:
        """Declared ports by name, or by number where they have none."""
        entries = self.data.get("ports")
        found = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
        return {
            str(each.get("name") or each.get("containerPort")): each.get("containerPort", 0) for each in found
        }

    def mounts(self, ending: str) -> bool:
        return any(path.endswith(ending) for path in self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessedImage:
    """An image's entry under `spec.images`, and what it was guessed from."""

    reference: str
    server: str
    why: str
    stop_signal: str = "SIGTERM"
    version: str | None = None
    startup: str = STARTUP
    service_time: str | None = SERVICE_TIME
    body_bytes: int = 0


def guess_image(box: Box, target_port: int | str | None) -> GuessedImage:
    """The server of one container; *target_port* is where its Service sends, None where none does."""
    words = set(_words(box))
    in_name = set(re.split(r"[^a-z0-9]+", _name(box.image)))
    if known := official_image(box.image):
        return _official(box, known[0].server.value, known[0].version, known[0].stop_signal)
    if box.mounts("haproxy.cfg") or ("haproxy" in in_name and not in_name & NOT_A_SERVER):
        return GuessedImage(
            reference=box.image,
            server="haproxy",
            why=f"its name or its haproxy.cfg; {_SIGNAL.format('SIGUSR1')}",
            version=_haproxy_version(box.image),
            service_time=None,
        )
    if box.mounts("nginx.conf") or any("/etc/nginx/" in path for path in box.texts):
        return _nginx(box, f"its configuration is mounted; {_SIGNAL.format('SIGQUIT')}")
    if "nginx" in words and not in_name & NOT_A_SERVER:
        if target_port is None or box.ports.get(str(target_port), target_port) == 80:
            return _nginx(box, f"its name or command; {_SIGNAL.format('SIGQUIT')}")
        return _preset(
            box,
            UNKNOWN,
            "nginx, whose nginx.conf is inside the image: taken to end at once; mount it to have it read",
        )
    for preset, signs in SIGNS:
        if signs & words:
            found = ", ".join(sorted(signs & words))
            return _preset(box, preset, f"the word {found} in its name, command or variables")
    return _preset(
        box, UNKNOWN, "nothing tells what it runs: taken as one that ends at once on SIGTERM, the bad case"
    )


def is_proxy(box: Box) -> bool:
    return guess_image(box, None).server == "haproxy"


def _official(box: Box, server: str, version: str | None, stop_signal: str) -> GuessedImage:
    if server == "haproxy":
        return GuessedImage(
            reference=box.image,
            server=server,
            why="the official image",
            version=version,
            stop_signal=stop_signal,
            service_time=None,
        )
    return _nginx(box, "the official image", version=version, stop_signal=stop_signal)


def _nginx(box: Box, why: str, *, version: str | None = None, stop_signal: str = "SIGTERM") -> GuessedImage:
    limited = any("limit_rate" in text for text in box.texts.values())
    return GuessedImage(
        reference=box.image,
        server="nginx",
        why=why,
        version=version,
        stop_signal=stop_signal,
        service_time="1ms",
        body_bytes=BODY_BYTES if limited else 0,
    )


def _preset(box: Box, preset: str, why: str) -> GuessedImage:
    return GuessedImage(
        reference=box.image, server=preset, why=why, startup=_shown_s(PRESETS[preset].startup.mean_s)
    )


def _shown_s(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{1000 * seconds:g}ms"


def _name(reference: str) -> str:
    """The last part of an image's name, without tag and digest: `docker.io/me/my-app:1` → `my-app`."""
    return posixpath.basename(reference.partition("@")[0]).partition(":")[0].lower()


def _haproxy_version(reference: str) -> str:
    found = re.search(r":v?(\d+\.\d+)", reference)
    return found[1] if found else "2.6"


def _words(box: Box) -> Iterator[str]:
    """The words of command, arguments, variables' names and image, in lower case."""
    texts = [_name(box.image)]
    for key in ("command", "args"):
        values = box.data.get(key)
        texts += [str(value) for value in values] if isinstance(values, list) else []
    env = box.data.get("env")
    texts += (
        [str(each.get("name")) for each in env if isinstance(each, dict)] if isinstance(env, list) else []
    )
    for text in texts:
        yield from re.split(r"[^a-z0-9]+", text.lower())
