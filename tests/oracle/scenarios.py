"""The scenarios that both layers play: the tutorial's stages, cut short, and random ones."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import hypothesis
import strategies
from builders import shipped_timing

from sim.scenario import load_one
from sim.scenario.model import ClosedLoop, OpenLoop, Scenario
from sim.scenario.timing import Timing

FOLDER = Path(__file__).parents[2] / "configs" / "tutorial"
STAGES = ("0-naive", "1-draining", "2-keepalive", "3-proxy", "4-proxy-rollout", "4b-proxy-rollout-lossless")
RANDOM_SEED = 20261124

_SHORT = ("update.at=500ms",)
_APP = "deployment/myapp.spec.template.spec"
_DRAINS = (
    f"{_APP}.terminationGracePeriodSeconds=3",
    f'{_APP}.containers.myapp.lifecycle.preStop.exec.command=["/bin/sh", "-c", "rm /www/healthy.html && sleep 3"]',
)
_SETS = {
    "0-naive": (*_SHORT, "load.duration=6s"),
    "1-draining": (*_SHORT, *_DRAINS, "load.duration=9s"),
    "2-keepalive": (*_SHORT, *_DRAINS, "load.duration=8s", "load.connections=120"),
    "3-proxy": (*_SHORT, *_DRAINS, "load.duration=9s"),
    "4-proxy-rollout": (*_SHORT, "load.duration=4s", "load.connections=40"),
    "4b-proxy-rollout-lossless": (*_SHORT, "load.duration=8s"),
}


def stage(name: str, *more: str) -> Scenario:
    """A stage of the tutorial whose drains take 3 s instead of 10; many connections where each loses one request."""
    return load_one(FOLDER / f"{name}.yaml", [*_SETS[name], *more])


def slowed(by: float) -> Timing:
    """The default latencies on a machine that needs *by* times the CPU for a request."""
    timing = shipped_timing()
    cpu = {part: cpu_s * by for part, cpu_s in timing.request_cpu_s.items()}
    return replace(timing, request_cpu_s=cpu, refused_cpu_s=timing.refused_cpu_s * by)


@cache
def random_scenarios(n: int) -> tuple[Scenario, ...]:
    """Always the same *n*, under a load that meets much: more connections and arrivals than the strategies' own.

    Each is drawn by a search of its own, since one search goes on with variations of what it has seen.
    """
    return tuple(busy(_drawn(RANDOM_SEED + index)) for index in range(n))


def _drawn(seed: int) -> Scenario:
    drawn: list[Scenario] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=2,  # the first one is always the simplest
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategies.scenarios())
    def draw(scenario: Scenario) -> None:
        drawn.append(scenario)

    draw()
    return drawn[-1]


def busy(scenario: Scenario) -> Scenario:
    load = scenario.load
    if isinstance(load.arrivals, OpenLoop):
        arrivals = replace(load.arrivals, rate_per_s=10 * load.arrivals.rate_per_s)
        return replace(scenario, load=replace(load, arrivals=arrivals, connections=300))
    if isinstance(load.arrivals, ClosedLoop) and load.arrivals.think_time is not None:
        return replace(scenario, load=replace(load, connections=10 * load.connections))
    return scenario
