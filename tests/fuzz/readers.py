"""Every reader of user input by name: what it is fed, and how it is called."""

import functools
import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inputs
import yaml
from hypothesis import strategies as st
from scipy.stats import qmc  # noqa: F401 - heavy: imported before anything is timed

from sim.scenario.documents import documents_in, read_documents
from sim.scenario.haproxy_cfg import parse_haproxy
from sim.scenario.nginx_conf import parse_nginx
from sim.scenario.scenario import from_documents
from sim.scenario.timing import load_timing
from sim.sweep.api import sets_of
from sim.sweep.parameters import parse_parameter
from sim.sweep.plan import Plan
from sim.sweep.sweep_file import read_sweep_file
from validation import observations

RICH = (Path(__file__).parent / "rich.yaml").read_text(encoding="utf-8")
SCENARIO, *OBJECTS = yaml.safe_load_all(RICH)
RUN = next((inputs.TESTS.parent / "validation" / "observations").glob("*/0001.json.gz"))
SWEEP: dict[str, Any] = {
    "apiVersion": "rollsim/v1",
    "kind": "Sweep",
    "metadata": {"name": "x"},
    "spec": {
        "scenario": "rich.yaml",
        "set": {"load.connections": 50},
        "parameters": {
            "load.thinkTime": ["10ms", "100ms"],
            "load.connections": "1..9:5",
            "pre-stop": {"none": {"load.retries": 1}, "long": {"load.retries": 2, "load.path": "/y"}},
        },
        "sample": "sobol:64",
        "runs": 200,
        "seed": 0,
    },
}
TIMING: dict[str, Any] = {
    "kind": "TimingProfile",
    "base": "defaults",
    "metadata": {"name": "x"},
    "spec": {"round_trip": "1ms", "vanished": "silent", "p_first_kick": {"value": 0.5, "source": "x"}},
}


def read_bytes(raw: bytes, read: Callable[[Path], Any] = read_documents, name: str = "f.yaml") -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        read(path)


def read_scenario(text: str, sets: list[str] | None = None) -> None:
    """As `rollsim predict` reads it, up to the first request."""
    for scenario in from_documents("f.yaml", documents_in(text, "f.yaml"), sets or []):
        load_timing(scenario.timing, beside=Path("/nonexistent"))


def read_sweep(text: str) -> None:
    read_bytes(text.encode(), lambda path: _plan(read_sweep_file(path)))


def read_parameter(text: str) -> None:
    parse_parameter(text)


def _plan(request: Any) -> None:
    """What a sweep makes of its parameters before anything runs: the first and the last point."""
    plan = Plan(
        files=None,  # type: ignore[arg-type] - not looked at for the points
        sets=sets_of(request.sets),
        parameters=request.parameters,
        sample=request.sample,
        runs=request.runs or 100,
        until=request.until,
        seed=request.seed or 0,
    )
    if plan.n_points <= 100_000:
        plan.sets_at(0)
        plan.sets_at(plan.n_points - 1)


def read_run(raw: bytes) -> None:
    read_bytes(raw, lambda path: observations.table_row(observations.read(path)), "0001.json.gz")


def _packed(run: Any) -> bytes:
    return gzip.compress(json.dumps(run).encode(), 1)


def _runs() -> st.SearchStrategy[bytes]:
    run = json.loads(gzip.decompress(RUN.read_bytes()))
    run["timeline"], run["failures"]["rows"] = run["timeline"][:3], run["failures"]["rows"][:2]
    whole = inputs.changed(run).map(_packed)
    cut = st.tuples(whole, st.integers(0, 2000)).map(lambda pair: pair[0][: pair[1]])
    return whole | cut | st.binary(max_size=40) | inputs.values.map(_packed)


@dataclass(frozen=True, slots=True)
class Reader:
    read: Callable[..., Any]
    arguments: st.SearchStrategy[tuple[Any, ...]]
    examples: int
    """Of the short form: some 10 s of CPU."""


def _one(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any]]:
    return st.tuples(strategy)


def _scenario(document: Any) -> str:
    return inputs.as_yaml(document, *OBJECTS)


def _objects(documents: Any) -> str:
    return inputs.as_yaml(SCENARIO, *documents)


READERS = {
    "yaml": Reader(read_bytes, _one(inputs.raw_bytes), 700),
    "scenario": Reader(read_scenario, _one(inputs.changed(SCENARIO).map(_scenario)), 250),
    "objects": Reader(read_scenario, _one(inputs.changed(OBJECTS).map(_objects)), 250),
    "nginx": Reader(functools.partial(parse_nginx, where="nginx.conf"), _one(inputs.nginx_texts), 700),
    "haproxy": Reader(
        functools.partial(parse_haproxy, where="haproxy.cfg", env={"A": "1 2"}),
        _one(inputs.haproxy_texts),
        700,
    ),
    "overrides": Reader(
        read_scenario, st.tuples(st.just(RICH), st.lists(inputs.set_texts, min_size=1, max_size=2)), 250
    ),
    "sweep": Reader(read_sweep, _one(inputs.changed(SWEEP).map(inputs.as_yaml)), 500),
    "parameters": Reader(read_parameter, _one(inputs.parameter_texts), 700),
    "observations": Reader(read_run, _one(_runs()), 500),
    "timing": Reader(
        lambda text: read_bytes(
            text.encode(), lambda path: load_timing(path.name, beside=path.parent), "t.yaml"
        ),
        _one(inputs.changed(TIMING).map(inputs.as_yaml)),
        300,
    ),
}
