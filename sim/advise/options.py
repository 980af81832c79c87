"""What may be changed: settings with their values, each with what it costs.

A price orders the search and nothing else: about 1 for touching a setting at all, and more for what it takes
(time, pods, latency, a rebuilt image). What a change really costs is measured on the simulated rollouts.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.model import (
    Container,
    Deployment,
    HttpMode,
    Probe,
    Recreate,
    RollingUpdate,
    Scenario,
    ServerKind,
)

SETTINGS: Final = ("preStop", "grace", "readiness", "strategy", "signal", "retries", "mode")
PRE_STOP_S: Final = (5, 10, 15, 20, 30)
GRACE_S: Final = (60, 120)
DRAIN_S: Final = 10
"""Left of the grace period after the sleep, at least: a stop signal, and answers that are under way."""
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
SOFT_STOP: Final = {ServerKind.NGINX: "SIGQUIT", ServerKind.HAPROXY: "SIGUSR1"}

Sets = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One value of a setting; fields that only work together are set together."""

    text: str
    sets: Sets
    price: float
    costs: str
    needs: str = ""
    """What the patch alone does not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Options that exclude one another; leaving it as it is is always one more."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Some options together, at most one of each setting."""

    options: tuple[Option, ...]

    @property
    def price(self) -> float:
        return sum(option.price for option in self.options)

    @property
    def sets(self) -> dict[str, Any]:
        return {path: value for option in self.options for path, value in option.sets}


def changes(settings: Sequence[Setting]) -> list[Change]:
    """Every combination that changes something, the cheapest first."""
    choices = [(None, *setting.options) for setting in settings]
    found = [
        Change(tuple(option for option in chosen if option is not None))
        for chosen in itertools.product(*choices)
    ]
    return sorted((change for change in found if change.options), key=lambda change: change.price)


def n_changes(settings: Sequence[Setting]) -> int:
    return math.prod(1 + len(setting.options) for setting in settings) - 1


def settings_of(scenario: Scenario, raw_images: Mapping[str, Any], allowed: Sequence[str]) -> list[Setting]:
    """The allowed settings that *scenario* has, with the values worth trying.

    Parameters
    ----------
    raw_images : mapping
        `spec.images` as it is written: an image that is not there is known by its name alone.
    """
    found: list[Setting] = []
    olds = {deployment.name: deployment for deployment in scenario.deployments}
    for name in dict.fromkeys(update.to.name for update in scenario.updates):
        news = [update.to for update in scenario.updates if update.to.name == name]
        found += _of_deployment(scenario, olds[name], news, raw_images, allowed)
    found += _of_proxies(scenario, allowed)
    return [setting for setting in found if setting.options]


# ---------------------------------------------------------------- the Deployment that is updated


def _of_deployment(
    scenario: Scenario,
    old: Deployment,
    news: Sequence[Deployment],
    raw_images: Mapping[str, Any],
    allowed: Sequence[str],
) -> Iterator[Setting]:
    if "preStop" in allowed or "grace" in allowed:
        yield Setting(name="preStop and grace", options=tuple(_termination(old, allowed)))
    if "readiness" in allowed:
        yield Setting(name="readiness", options=tuple(_readiness(scenario, old)))
    if "strategy" in allowed:
        yield Setting(name="strategy", options=tuple(_strategy(old)))
    if "signal" in allowed:
        yield Setting(name="signal", options=tuple(_signal(scenario, old, news, raw_images)))


def _pod_spec(deployment: Deployment) -> str:
    return f"deployment/{deployment.name}.spec.template.spec"


def _container(deployment: Deployment, container: Container) -> str:
    return f"{_pod_spec(deployment)}.containers[{container.name}]"


def _termination(old: Deployment, allowed: Sequence[str]) -> Iterator[Option]:
    """A longer sleep needs a grace period that holds it, so that both move together."""
    grace_s = old.template.termination_grace_period_s
    hooks = [container.pre_stop for container in old.template.containers]
    slept_s = min((0.0 if hook is None else hook.duration_s for hook in hooks), default=0.0)
    sleeps = [0, *(s for s in PRE_STOP_S if s > slept_s)] if "preStop" in allowed else [0]
    graces = [0, *(s for s in GRACE_S if s > grace_s)] if "grace" in allowed else [0]
    for sleep_s, longer_s in itertools.product(sleeps, graces):
        needed_s = sleep_s + DRAIN_S if sleep_s and grace_s < sleep_s + DRAIN_S else 0
        if (needed_s and "grace" not in allowed) or (longer_s and longer_s < needed_s):
            continue
        new_s = longer_s or needed_s
        if not sleep_s and not new_s:
            continue
        sets: list[tuple[str, Any]] = []
        texts, costs = [], []
        if sleep_s:
            for container in old.template.containers:
                path = f"{_container(old, container)}.lifecycle.preStop"
                sets.append((path, {"sleep": {"seconds": sleep_s}}))
            texts.append(f"preStop sleep {sleep_s} s")
            costs.append(f"each old pod lives {sleep_s - slept_s:g} s longer")
        if new_s:
            sets.append((f"{_pod_spec(old)}.terminationGracePeriodSeconds", new_s))
            texts.append(f"grace period {new_s} s")
            costs.append(f"a pod that hangs lives {new_s - grace_s:g} s longer")
        yield Option(
            text=f"{' with '.join(texts)} ({old.name})",
            sets=tuple(sets),
            price=(1 + (sleep_s - slept_s) / 20 if sleep_s else 0) + (0.5 + new_s / 240 if new_s else 0),
            costs="; ".join(costs),
        )


def _readiness(scenario: Scenario, old: Deployment) -> Iterator[Option]:
    container = _serving(scenario, old)
    probe, path = container.readiness, f"{_container(old, container)}.readinessProbe"
    if probe is None:
        yield _new_probe(scenario, old, container, path)
        return
    for period_s, threshold in ((1, None), (None, 1), (None, 3), (1, 1), (1, 3)):
        sets = []
        if period_s is not None and period_s < probe.period_s:
            sets.append((f"{path}.periodSeconds", period_s))
        if threshold is not None and threshold != probe.failure_threshold:
            sets.append((f"{path}.failureThreshold", threshold))
        if len(sets) == (period_s is not None) + (threshold is not None):
            yield Option(
                text=f"readiness {_in_words(sets)} ({old.name})",
                sets=tuple(sets),
                price=float(len(sets)),
                costs=_probe_costs(probe, period_s, threshold),
            )


def _new_probe(scenario: Scenario, old: Deployment, container: Container, path: str) -> Option:
    port = _target_port(scenario, old)
    if scenario.images[container.image].server is ServerKind.NGINX:
        ask: dict[str, Any] = {"httpGet": {"path": scenario.load.path, "port": port}}
    else:
        ask = {"tcpSocket": {"port": port}}
    return Option(
        text=f"a readiness probe every second ({old.name})",
        sets=((path, {**ask, "periodSeconds": 1}),),
        price=1.5,
        costs="the rollout waits for each new server's real start",
    )


def _in_words(sets: Sequence[tuple[str, Any]]) -> str:
    return " and ".join(f"{path.rpartition('.')[2]} {value}" for path, value in sets)


def _probe_costs(probe: Probe, period_s: int | None, threshold: int | None) -> str:
    costs = []
    if period_s is not None:
        costs.append(f"{probe.period_s / period_s:g} times as many probes")
    if threshold is not None:
        lost = threshold < probe.failure_threshold
        costs.append("one lost probe takes a pod out" if lost else "a sick pod stays in for longer")
    return "; ".join(costs)


def _strategy(old: Deployment) -> Iterator[Option]:
    for surge in dict.fromkeys([1, math.ceil(old.replicas / 4), old.replicas]):
        wanted = RollingUpdate(max_surge=surge, max_unavailable=0)
        if surge < 1 or old.strategy == wanted:
            continue
        of_now = 0 if isinstance(old.strategy, Recreate) else old.strategy.max_surge
        more = max(0, surge - of_now)
        yield Option(
            text=f"maxSurge {surge}, maxUnavailable 0 ({old.name})",
            sets=(
                (
                    f"deployment/{old.name}.spec.strategy",
                    {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 0}},
                ),
            ),
            price=1 + 0.5 * more,
            costs=f"room for {more} more {'pod' if more == 1 else 'pods'} during the rollout"
            if more
            else "a slower rollout",
        )


def _signal(
    scenario: Scenario, old: Deployment, news: Sequence[Deployment], raw_images: Mapping[str, Any]
) -> Iterator[Option]:
    """The server's own graceful stop; the image that stops is the old one, and at the next update the new one."""
    for container in old.template.containers:
        image = scenario.images.get(container.image)
        wanted = SOFT_STOP.get(image.server) if image is not None else None
        if image is None or wanted is None or image.stop_signal == wanted:
            continue
        references = dict.fromkeys(
            each.image
            for deployment in (old, *news)
            for each in deployment.template.containers
            if each.name == container.name and each.image in scenario.images
        )
        sets = [
            (f'images."{reference}".stopSignal', wanted)
            if reference in raw_images
            else (f'images."{reference}"', {"server": image.server.value, "stopSignal": wanted})
            for reference in references
        ]
        yield Option(
            text=f"stop signal {wanted} ({old.name}/{container.name})",
            sets=tuple(sets),
            price=2.0,
            costs="a pod lives until its longest answer is out",
            needs=f"STOPSIGNAL {wanted} in the Dockerfile of {', '.join(references)}",
        )


def _serving(scenario: Scenario, deployment: Deployment) -> Container:
    """The container that a Service leads to; the first one where none says so."""
    port = _target_port(scenario, deployment)
    for container in deployment.template.containers:
        if port in container.ports or port in container.ports.values():
            return container
    return deployment.template.containers[0]


def _target_port(scenario: Scenario, deployment: Deployment) -> int | str:
    for service in scenario.services:
        if service.selector and service.selector.items() <= deployment.template.labels.items():
            return service.ports[0].target_port
    return scenario.load.port


# ---------------------------------------------------------------- HAProxy


_SECTIONS: Final = ("haproxy.defaults", "haproxy.listen", "haproxy.backend", "haproxy.frontend")
"""Where a setting may stand: the first in which it has an effect (a section overrules the defaults)."""


def _of_proxies(scenario: Scenario, allowed: Sequence[str]) -> Iterator[Setting]:
    confs = [
        container.haproxy
        for deployment in scenario.deployments
        for container in deployment.template.containers
        if container.haproxy is not None
    ]
    if not confs:
        return
    backends = [backend for conf in confs for backend in conf.backends]
    if "retries" in allowed:
        bold = scenario.load.method in IDEMPOTENT
        options = [option for section in _SECTIONS for option in _retries(section, bold=bold)]
        yield Setting(name="retries", options=tuple(options))
    if "mode" in allowed:
        modes = {backend.http_mode for backend in backends}
        options = [option for section in _SECTIONS for option in _modes(section, modes)]
        yield Setting(name="mode", options=tuple(options))
        if _rolled_proxy(scenario):
            options = [_idle_close(section) for section in _SECTIONS]
            yield Setting(name="idle connections", options=tuple(options))


def _rolled_proxy(scenario: Scenario) -> bool:
    return any(
        container.haproxy is not None
        for update in scenario.updates
        for container in update.to.template.containers
    )


def _retries(section: str, *, bold: bool) -> Iterator[Option]:
    sets = ((f"{section}.retries", 3), (f"{section}.option redispatch", True))
    yield Option(
        text="HAProxy: retries 3 with redispatch",
        sets=sets,
        price=1.5,
        costs="up to a second more for a request whose connect is retried",
    )
    if bold:
        yield Option(
            text="HAProxy: retries 3 with redispatch, also after an empty answer",
            sets=(*sets, (f"{section}.retry-on", "conn-failure empty-response")),
            price=3.0,
            costs="a request may reach two pods; up to a second more for one that is retried",
        )


def _modes(section: str, now: set[HttpMode]) -> Iterator[Option]:
    names = [mode.value for mode in HttpMode]
    for mode, price, costs in (
        (HttpMode.SERVER_CLOSE, 1.5, "a connect to the pod for every request"),
        (HttpMode.CLOSE, 2.5, "two connects for every request, the client's and the proxy's"),
    ):
        if now != {mode}:
            others = tuple((f"{section}.option {name}", None) for name in names if name != mode.value)
            yield Option(
                text=f"HAProxy: option {mode.value}",
                sets=((f"{section}.option {mode.value}", True), *others),
                price=price,
                costs=costs,
            )


def _idle_close(section: str) -> Option:
    return Option(
        text="HAProxy: option idle-close-on-response with timeout http-keep-alive 10s",
        sets=(
            (f"{section}.option idle-close-on-response", True),
            (f"{section}.timeout http-keep-alive", "10s"),
        ),
        price=1.5,
        costs="a stopping proxy lives until its clients have sent one more request, or for 10 s",
    )


# ---------------------------------------------------------------- what is worth a try


def effective(settings: Sequence[Setting], load: Callable[[Mapping[str, Any]], Scenario]) -> list[Setting]:
    """The options that can be set and that change something; of the same text the first.

    Parameters
    ----------
    load : callable
        The scenario with these overrides; raises `InputError` where they are impossible.
    """
    as_it_is = _meaning(load({}))
    found = []
    for setting in settings:
        kept: dict[str, Option] = {}
        for option in setting.options:
            try:
                changes_something = _meaning(load(dict(option.sets))) != as_it_is
            except InputError:
                continue
            if changes_something:
                kept.setdefault(option.text, option)
        if kept:
            found.append(Setting(name=setting.name, options=tuple(kept.values())))
    return found


def _meaning(scenario: Scenario) -> Scenario:
    """Without what the model does not look at: the documents as they are written, and their place."""
    return replace(
        scenario,
        source=Path(),
        objects=(),
        actions=(),
        warnings=(),
        deployments=_bare(scenario.deployments),
        updates=tuple(replace(update, to=_bare([update.to])[0]) for update in scenario.updates),
    )


def _bare(deployments: Sequence[Deployment]) -> tuple[Deployment, ...]:
    return tuple(replace(each, template=replace(each.template, revision="")) for each in deployments)
