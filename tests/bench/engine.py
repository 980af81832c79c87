"""How fast the engine is: `python tests/bench/engine.py [--json]`, under three minutes on one core.

Ratios are taken between CPU seconds of this run alone. The machine's speed drifts from minute to minute, so what is
held against each other is played in turn. The oracle plays a tenth of each stage's duration; its time is taken times
ten.

- `stage2_speedup`, `stage3_speedup`: CPU seconds of the oracle over those of the engine, for the whole stage;
- `rate_x10_cost`: time of stage 2 at ten times the request rate, over its time as it is;
- `stage2_ms`: one rollout of stage 2;
- `oracle_rps`: requests that the oracle steps through in a second, `direct` (stage 2) and `proxied` (stage 3);
- `scale`: seconds and peak MiB for 1,000 replicas and 10,000 connections.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from oracle.judge import Judge  # noqa: E402

from sim.scenario import load_one  # noqa: E402
from sim.scenario.distributions import Constant, Exponential  # noqa: E402
from sim.scenario.model import ClosedLoop, RollingUpdate, Scenario, Update  # noqa: E402
from sim.scenario.timing import Timing, load_timing  # noqa: E402
from sim.simulate import Result, simulate  # noqa: E402

ORACLE_SHARE = 0.1
PODS_ON_A_NODE = 50
STAGES = {"stage2": "2-keepalive", "stage3": "3-proxy"}
TARGETS = {
    "stage2_speedup": "at least 300",
    "stage3_speedup": "at least 100",
    "rate_x10_cost": "at most 1.2",
    "stage2_ms": "at most 20",
    "oracle_rps": "at least 100,000 direct and 20,000 proxied",
    "scale": "at most 20 s and 500 MiB",
}


def stage(name: str) -> Scenario:
    return load_one(ROOT / "configs" / "tutorial" / f"{STAGES[name]}.yaml")


def timing_of(scenario: Scenario) -> Timing:
    return load_timing(scenario.timing, beside=scenario.source.parent)


def faster(scenario: Scenario, timing: Timing, by: float) -> tuple[Scenario, Timing]:
    """A machine that needs so much less time for a request: the closed loop's rate is so much higher."""
    images = {
        reference: replace(image, service_time=Constant(value_s=image.service_time.mean_s / by))
        for reference, image in scenario.images.items()
    }
    cpu = {part: cpu_s / by for part, cpu_s in timing.request_cpu_s.items()}
    return replace(scenario, images=images), replace(timing, request_cpu_s=cpu)


def lasting(scenario: Scenario, share: float) -> Scenario:
    """The load's duration and all times of the updates, cut to *share*."""
    duration_s = (scenario.load.duration_s or 0.0) * share
    updates = tuple(replace(update, at_s=update.at_s * share) for update in scenario.updates)
    return replace(scenario, load=replace(scenario.load, duration_s=duration_s), updates=updates)


def large(replicas: int, connections: int) -> Scenario:
    """Stage 2 with so many pods in steps of a tenth, 50 on a node, and a client with pauses."""
    scenario = load_one(
        ROOT / "configs" / "tutorial" / f"{STAGES['stage2']}.yaml",
        [f"nginx.events.worker_connections={2 * connections + 512}"],
    )
    step = max(1, replicas // 10)
    strategy = RollingUpdate(max_surge=step, max_unavailable=0)
    deployments = tuple(replace(d, replicas=replicas, strategy=strategy) for d in scenario.deployments)
    updates = tuple(
        Update(at_s=u.at_s, to=replace(u.to, replicas=replicas, strategy=strategy)) for u in scenario.updates
    )
    load = replace(
        scenario.load,
        client="plain",
        options={},
        connections=connections,
        arrivals=ClosedLoop(think_time=Exponential(scale_s=0.1)),
    )
    cluster = replace(scenario.cluster, nodes=max(1, replicas // PODS_ON_A_NODE))
    return replace(scenario, deployments=deployments, updates=updates, load=load, cluster=cluster)


def in_turn_s(plays: Sequence[Callable[[int], Result]], runs: int) -> list[list[float]]:
    """The CPU time of each rollout of each of *plays*; the first, which imports and keeps things, is not counted."""
    times: list[list[float]] = [[] for _ in plays]
    for seed in range(runs + 1):
        for play, taken in zip(plays, times, strict=True):
            began_s = time.process_time()
            play(seed)
            taken.append(time.process_time() - began_s)
    return [taken[1:] for taken in times]


def oracle(name: str, share: float) -> tuple[float, float]:
    """CPU seconds that the oracle needs for a whole stage, and its requests a second; from *share* of it."""
    scenario = lasting(stage(name), share)
    timing = timing_of(scenario)
    began_s = time.process_time()
    result = simulate(scenario, seed=1, timing=timing, layer=Judge)
    took_s = time.process_time() - began_s
    return took_s / share, result.n_requests / took_s


def _scale_in_own_process(replicas: int, connections: int, answer: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    scenario = large(replicas, connections)
    began_s = time.process_time()
    result = simulate(scenario, seed=1)
    took_s = time.process_time() - began_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.put((took_s, peak_mib, result.n_requests))


def scale(replicas: int, connections: int, *, limit_s: float = 90.0) -> dict[str, float | int | None]:
    """In a process of its own, since the peak is a process'; None where it takes longer than *limit_s*."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_scale_in_own_process, args=(replicas, connections, answer))
    process.start()
    try:
        took_s, peak_mib, n = answer.get(timeout=limit_s)
    except Exception:  # noqa: BLE001 - queue.Empty: over the limit
        process.kill()
        took_s, peak_mib, n = None, None, None
    process.join()
    return {
        "replicas": replicas,
        "connections": connections,
        "seconds": None if took_s is None else round(took_s, 2),
        "peak_mib": None if peak_mib is None else round(peak_mib, 1),
        "requests": n,
    }


def measure(
    *, runs: int = 60, share: float = ORACLE_SHARE, replicas: int = 1000, connections: int = 10_000
) -> dict[str, object]:
    stage2, stage3 = stage("stage2"), stage("stage3")
    timing2, timing3 = timing_of(stage2), timing_of(stage3)
    tenfold, timing = faster(stage2, timing2, 10.0)
    plays: list[Callable[[int], Result]] = [
        lambda seed: simulate(stage2, seed=seed, timing=timing2),
        lambda seed: simulate(tenfold, seed=seed, timing=timing),
        lambda seed: simulate(stage3, seed=seed, timing=timing3),
    ]
    engine2_s, tenfold_s, engine3_s = (median(times) for times in in_turn_s(plays, runs))
    oracle2_s, direct_per_s = oracle("stage2", share)
    oracle3_s, proxied_per_s = oracle("stage3", share)
    return {
        "stage2_speedup": round(oracle2_s / engine2_s, 1),
        "stage3_speedup": round(oracle3_s / engine3_s, 1),
        "rate_x10_cost": round(tenfold_s / engine2_s, 3),
        "stage2_ms": round(1000 * engine2_s, 2),
        "oracle_rps": {"direct": round(direct_per_s), "proxied": round(proxied_per_s)},
        "scale": scale(replicas, connections),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    as_json = parser.parse_args(argv).json
    measured = measure()
    if as_json:
        print(json.dumps(measured, indent=2))
        return
    for name, value in measured.items():
        text = ", ".join(f"{k} {v:,}" for k, v in value.items()) if isinstance(value, dict) else f"{value:,}"
        print(f"{name:15} {text}   (target: {TARGETS[name]})")


if __name__ == "__main__":
    main()
