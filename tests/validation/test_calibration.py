"""The measured profiles come from the calibration's own data and from nothing else."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import simpy
from typer.testing import CliRunner

from sim.cluster.node_cpu import BURST_S, NodeCpu
from sim.node_load import NodeLoad
from sim.scenario import load_one
from sim.scenario.model import Image, OpenLoop, ServerKind
from sim.scenario.timing import load_timing
from sim.simulate import simulate
from tests.traffic.tiny import PLAIN, Tiny
from validation import machines
from validation.calibration import profile
from validation.calibration.beside_deletions import relative_rates
from validation.calibration.cli import STEPS, app
from validation.calibration.forgets import bounds
from validation.calibration.milestones import RELIST_S, Logged, read_log, removals, successors_of, waves
from validation.calibration.recorder import Recorder
from validation.calibration.rows import read_rows
from validation.lab.cluster import Lab
from validation.lives import Moment, of_simulated
from validation.observations import FOLDER

DATA = Path(profile.__file__).with_name("data")
FIRST = DATA / "2026-11-24"
MEASURED = [(FIRST, machines.FIRST), (DATA / "2026-11-30", machines.SECOND)]
CONNECTIONS = 20
"""Of the calibration's paced client."""
PROFILES = Path(profile.__file__).parents[2] / "configs" / "timing"

opened: list[str] = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)


@pytest.mark.parametrize(("data", "name"), MEASURED)
def test_shipped_profiles_are_what_the_data_give(data, name, tmp_path):
    """Written anew from the kept data they are the same to the last byte; every measured one is shipped."""
    path = tmp_path / f"{name}.yaml"
    profile.write_profile(data, path)
    assert path.read_text() == (PROFILES / path.name).read_text()
    assert {name for _, name in MEASURED} == set(machines.PROFILES)


def test_no_validation_run_is_read(tmp_path):
    """Calibration and validation share no run: making the profiles opens no kept observation."""
    opened.clear()
    for data, name in MEASURED:
        profile.write_profile(data, tmp_path / f"{name}.yaml")
    read = {Path(name).resolve() for name in opened if name.endswith((".csv", ".gz", ".json"))}
    assert read
    assert all(path.is_relative_to(DATA) for path in read)
    assert not any(path.is_relative_to(FOLDER) for path in read)


def test_each_step_has_its_file():
    """Each file that the profiles are made from is written by one step of `rollsim calibrate`."""
    files = [step.file for step in STEPS]
    assert len(set(files)) == len(files)
    for data, _ in MEASURED:
        assert {path.name for path in data.glob("*.csv")} <= {
            *files,
            "cycles-young.csv",
            "cycles-share-1.csv",
        }


def test_a_log_is_read_as_it_was_written(tmp_path):
    """In the order of its times, without what is not kept."""
    recorder = Recorder("here")
    recorder.add(2.5, "link", "veth1", "gone")
    recorder.add(1.25, "pod.ready", "a-uid")
    recorder.add(1.5, "process.exec", "", "true")
    recorder.write(tmp_path / "log.csv", lambda event: event.kind != "process.exec")
    assert read_log(tmp_path / "log.csv") == [
        Logged(1.25, "pod.ready", "a-uid", ""),
        Logged(2.5, "link", "veth1", "gone"),
    ]


def test_between_the_last_refusal_and_the_first_that_is_kept():
    """Forgotten are those in between; without one only the gap is known."""
    fates = [
        (0.0, "refused"),
        (60e-6, "refused"),
        (120e-6, "forgotten"),
        (180e-6, "forgotten"),
        (240e-6, "kept"),
    ]
    assert bounds(fates) == {"forgotten": 2, "at_least_us": 60.0, "at_most_us": 180.0}
    assert bounds([(0.0, "refused"), (1e-3, "kept")]) == {
        "forgotten": 0,
        "at_least_us": 0.0,
        "at_most_us": 1000.0,
    }


def test_without_a_lab_it_says_so(tmp_path, monkeypatch):
    """One line and code 1; nothing is written."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    done = CliRunner().invoke(app, ["--data", str(tmp_path / "data")])
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_missing_client_is_named_before_anything_is_measured(tmp_path, monkeypatch):
    """A stop without its client would be recorded as one that nobody noticed."""
    monkeypatch.setattr(Lab, "find", classmethod(lambda cls, name: None))
    monkeypatch.setattr(shutil, "which", lambda name: None if name in {"ab", "wrk"} else f"/usr/bin/{name}")
    done = CliRunner().invoke(app, ["--data", str(tmp_path / "data")])
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("ab, wrk: not on this host; apt-get install apache2-utils wrk")
    assert not (tmp_path / "data").exists()


def test_the_model_is_held_up_as_the_client_was():
    """ab without keep-alive for half a minute: as many connections by then, from as many in the first two seconds.

    Nothing of the model is made from this curve but the share of SYNs that are not let in; the machine's speed, which
    the first seconds show, is another one's than the profile's.
    """
    rows = [{k: float(v) for k, v in row.items()} for row in read_rows(FIRST / "time-waits.csv")]
    timing = load_timing(machines.FIRST, beside=PROFILES)
    scenario = load_one(PROFILES.parent / "tutorial" / "0-naive.yaml", ["load.duration=30s"])
    free = simulate(scenario, timing=replace(timing, p_time_wait_refuses=0.0), update=False).n_requests / 30
    early = next(row for row in rows if row["at_s"] > 2.0)
    slower = free / (early["opened"] / early["at_s"])
    cpu = {part: cpu_s * slower for part, cpu_s in timing.request_cpu_s.items()}
    timing = replace(timing, request_cpu_s=cpu)
    runs = [
        simulate(scenario, timing=timing, update=False, replication=each).tally.answered.spans(30.0)
        for each in range(5)
    ]
    for until_s in (5.0, 10.0, 20.0, 29.0):
        seen = next(row["opened"] for row in rows if row["at_s"] > until_s)
        modelled = sum(n for run in runs for at_s, _, n in run if at_s < until_s) / len(runs)
        assert modelled == pytest.approx(seen, rel=0.1), until_s


@pytest.mark.parametrize(("data", "name"), MEASURED)
def test_a_load_without_pause_slows_the_start_of_a_pod_as_it_was_measured(data, name):
    """ab and a server beside one start: what `NodeCpu` makes of it, and the steps of cycles-busy over cycles-idle."""
    timing = load_timing(name, beside=PROFILES)
    idle, busy = (profile.steps_of(data, f"cycles-{which}-1.csv") for which in ("idle", "busy"))
    steps = ((0, "cni_to_pause"), (0, "pause_to_server"), (1, "exit_to_netns_gone"))
    measured = [np.median(busy[part][step]) / np.median(idle[part][step]) for part, step in steps]
    own = 2 * timing.node_utilisation
    env = simpy.Environment()
    cpu = NodeCpu(env, cores=2, operation_cores=timing.operation_cores, slowdown=lambda k: (k + own + 2) / 2)
    env.process(cpu.work(1.0))
    env.run()
    assert env.now == pytest.approx(np.median(measured), rel=0.2)


def test_a_paced_load_slows_the_start_of_a_container_as_it_was_measured():
    """Beside the paced client of cycles-replace, and after the deletion's burst, over cycles-idle; both machines."""
    measured, modelled = [], []
    for data, name in MEASURED:
        timing = load_timing(name, beside=PROFILES)
        (idle, _), (paced, _) = (
            profile.steps_of(data, f"cycles-{which}-1.csv") for which in ("idle", "replace")
        )
        measured.append(np.median(paced["pause_to_server"]) / np.median(idle["pause_to_server"]))
        share = {row["client"]: float(row["machine_share"]) for row in read_rows(data / "steady.csv")
                 if row["tier"] in ("none", "direct")}  # fmt: skip
        utilisation = share["paced"] - share["none"]
        load = NodeLoad(timing, cores=2)
        load.traffic = SimpleNamespace(
            over=False, no_pause=None, has_proxy=False, share_at_work=1.0, utilisation=utilisation
        )
        modelled.append(load.slowdown(timing.operation_cores))
    assert np.mean(modelled) == pytest.approx(np.mean(measured), rel=0.05)
    assert modelled == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("data", "name"), MEASURED)
def test_a_start_under_a_load_without_pause_takes_as_long_as_was_measured(data, name):
    """From bound to the server's process, mean of cycles-busy: the profile's `saturated`, stretched by the cores."""
    timing = load_timing(name, beside=PROFILES)
    start, _ = profile.steps_of(data, "cycles-busy-1.csv")
    whole_s = [a + b for a, b in zip(start["bound_to_pause"], start["pause_to_server"], strict=True)]
    measured_s = np.mean([s for s in whole_s if s < profile.RETRIED_S + 1.0])
    load = NodeLoad(timing, cores=2)
    load.traffic = SimpleNamespace(over=False, no_pause=SimpleNamespace(n_runnable=3))
    slowdown = load.slowdown(timing.operation_cores)
    own_s = timing.saturated["sandbox"].mean_s + timing.saturated["container_start"].mean_s
    assert timing.saturated["volume_wait"].mean_s + slowdown * own_s == pytest.approx(measured_s, rel=0.1)


def test_servers_fall_behind_after_a_deletion_as_was_measured():
    """What ab makes in the half second after a pod is replaced beside its servers, kept or new connections alike."""
    data, name = MEASURED[-1]
    timing = load_timing(name, beside=PROFILES)
    rows = [row for row in read_rows(data / "beside-deletions.csv") if row["what"] == "replace"]
    for client in ("ab", "ab -k"):
        rates = [float(r["rate"]) for r in rows if r["client"] == client and 0 <= float(r["at_s"]) < BURST_S]
        behind = timing.proxy_sync.mean_s / timing.proxy_sync_at_rest.mean_s
        assert 1 / np.mean(rates) == pytest.approx(behind, rel=0.2)


def test_rates_are_held_against_the_time_before():
    """A counter that goes on at half its pace from 10 s on."""
    read = [
        (at_s, round(1000 * (min(at_s, 10.0) + max(0.0, at_s - 10.0) / 2))) for at_s in np.arange(8, 12, 0.02)
    ]
    rates = relative_rates(read, at_s=10.0)
    before = [rate for at_s, rate in rates if at_s < 0]
    assert before == pytest.approx([1.0] * len(before), rel=0.1)
    assert np.mean([rate for at_s, rate in rates if at_s > 0]) == pytest.approx(0.5, rel=0.02)


def test_a_deletions_successor_is_the_next_pod_and_comes_soon():
    """Two pods that are replaced, and one deletion that nothing follows but the next cycle's pod."""
    log = [
        Logged(at_s, f"pod.{what}", "", "")
        for at_s, what in ((1.0, "deleted"), (1.03, "created"), (5.0, "deleted"), (5.04, "created"),
                           (9.0, "deleted"), (11.0, "created"), (12.0, "deleted"))
    ]  # fmt: skip
    assert successors_of(log) == pytest.approx([0.03, 0.04])


def test_an_objects_end_is_told_from_the_relist_and_not_from_the_pods_own():
    """Addresses 40 ms after their relists; objects that go 30 ms before and 300 ms after such an instant."""
    log = [Logged(at_s, f"pod.{what}", "", "") for at_s, what in (
        (10.04, "address"), (10.04 + 3 * RELIST_S - 0.03, "removed"),
        (20.04, "address"), (20.04 - 2 * RELIST_S + 0.3, "removed"),
    )]  # fmt: skip
    assert removals(log) == pytest.approx([-0.03, 0.3])


def test_pods_started_together_are_one_wave():
    """Each change of size starts one; its wait is the median of its pods'."""
    log = []
    for sent_s, waits_s in ((10.0, (0.3, 0.4, 0.5)), (20.0, (1.8, 1.9, 1.7))):
        log.append(Logged(sent_s, "scale.sent", "", "up"))
        for number, wait_s in enumerate(waits_s):
            pod, bound_s = f"{sent_s}-{number}".ljust(36, "-"), sent_s + 0.1  # as long as a UID
            log += [
                Logged(sent_s + 0.05, "pod.created", pod, ""), Logged(bound_s, "pod.bound", pod, ""),
                Logged(bound_s + wait_s, "process.exec", "", "/opt/cni/bin/ptp"),
                Logged(bound_s + wait_s + 0.01, "process.exec", pod, "/pause"),
                Logged(bound_s + 3.0, "pod.address", pod, "10.0.0.1"),
            ]  # fmt: skip
    log.sort(key=lambda each: each.at_s)
    first, second = waves(log)
    assert 0.3 <= first <= 0.5
    assert 1.6 <= second <= 1.9


def test_what_a_paced_load_takes_is_what_was_measured():
    """Our own client from 250 to 4,800 requests/s, directly and through HAProxy, connections kept and not.

    The bounds were set after the measurement, in which the machine ran a quarter faster while the connections to the
    proxy were kept.
    """
    data, name = MEASURED[1]
    rows = [
        {k: v if k == "tier" else float(v) for k, v in row.items()}
        for row in read_rows(data / "paced-cost.csv")
    ]
    idle = np.mean([row["machine_us"] * 1e-6 / row["wall_s"] for row in rows if row["tier"] == "none"])
    ratios = {}
    for row in rows:
        if row["tier"] != "none":
            behind, kept = row["tier"] == "proxy", bool(row["keep_alive"])
            told = told_cores(
                load_timing(name, beside=PROFILES), row["rate_per_s"], behind_proxy=behind, kept=kept
            )
            ratios[row["tier"], kept, row["connections"]] = told / (
                row["machine_us"] * 1e-6 * row["rate_per_s"] - idle
            )
    assert np.median(list(ratios.values())) == pytest.approx(1.0, abs=0.1)
    assert all(0.7 < ratio < 1.7 for ratio in ratios.values()), ratios


def told_cores(timing, per_s, *, behind_proxy, kept):
    """Of the calibration's load, as the model takes it."""
    nginx = Image(reference="nginx", server=ServerKind.NGINX, version="1.22", body_bytes=10)
    load = replace(
        PLAIN, keep_alive=kept, connections=10, arrivals=OpenLoop(rate_per_s=per_s), connect_timeout_s=5.0
    )
    haproxy = "option http-server-close" if behind_proxy else None
    return Tiny(load, pods=3, image=nginx, haproxy=haproxy, timing=timing).traffic.utilisation * 2


@pytest.fixture(scope="module")
def three_replaced():
    """Means of three pods that are replaced at once, told and measured: from CREATED to a server, from EXITED to gone.

    No figure of the profile comes from this run: its rules for what goes on at once are held against it. [s]
    """
    started, stopped = profile.steps_of(DATA / "2026-11-30", "three-replaced.csv")
    app = "deployment/myapp.spec"
    scenario = load_one(
        "configs/tutorial/1-draining.yaml",
        [
            "load.options=null",
            "load.client=plain",
            f"load.connections={CONNECTIONS}",
            "load.thinkTime={exponential: 20ms}",
            "load.duration=12s",
            f"{app}.replicas=4",
            f"{app}.strategy.rollingUpdate.maxUnavailable=3",
            f"{app}.strategy.rollingUpdate.maxSurge=0",
            f"{app}.template.spec.containers[myapp].lifecycle=null",
            f"{app}.template.spec.containers[myapp].readinessProbe.periodSeconds=1",
            f"timing={machines.SECOND}",
        ],
    )
    starts_s, ends_s = [], []
    for replication in range(25):
        lives = of_simulated(simulate(scenario, seed=1, replication=replication)).lives
        first_s = min(life.at_s[Moment.DELETED] for life in lives if life.old)
        for at_s in (life.at_s for life in lives):
            if at_s.get(Moment.CREATED, 9e9) < first_s + 1.0:
                starts_s.append(at_s[Moment.STARTED] - at_s[Moment.CREATED])
            if at_s.get(Moment.DELETED, 9e9) < first_s + 1.0:
                ends_s.append(at_s[Moment.SILENT] - at_s[Moment.EXITED])
    assert len(starts_s) == len(ends_s) == 75
    return {
        "start": (np.mean(starts_s), np.nanmean(started["created_to_server"])),
        "end": (np.mean(ends_s), np.nanmean(stopped["exit_to_netns_gone"])),
    }


TOO_SHORT = pytest.mark.xfail(reason="told a sixth too short, 0.57 s for 0.69: a mechanism is missing")


@pytest.mark.parametrize("what", ["start", pytest.param("end", marks=TOO_SHORT)])
def test_three_pods_replaced_at_once_take_as_long_as_was_measured(three_replaced, what):
    """Within 15 %. The ends were so by chance, in 15 rollouts of the one seed."""
    told_s, measured_s = three_replaced[what]
    assert told_s == pytest.approx(measured_s, rel=0.15)
