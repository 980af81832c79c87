"""A sweep that is too long for a line, as YAML.

```yaml
apiVersion: rollsim/v1
kind: Sweep
metadata: {name: sleep-and-grace}
spec:
  scenario: ../configs/tutorial/1-draining.yaml   # relative to this file; left out where the command names it
  set: {load.connections: 50}                     # the same at every point
  parameters:
    load.thinkTime: [10ms, 100ms]                 # a list, or a text as behind -p: 1..9:5
    pre-stop:                                     # fields that move together, by name
      none: {deployment/myapp.spec.template.spec.containers[0].lifecycle: null}
      long:
        deployment/myapp.spec.template.spec.containers[0].lifecycle.preStop: {sleep: {seconds: 20}}
        deployment/myapp.spec.template.spec.terminationGracePeriodSeconds: 60
  sample: sobol:64                                # without: every combination
  runs: 200                                       # or until: interval:2
  seed: 0
```
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.documents import Document, is_file, read_documents
from sim.scenario.reader import Fields
from sim.sweep.parameters import Choice, Parameter, listed, parameter_of, together
from sim.sweep.plan import SAMPLES, Sample
from sim.sweep.unit import MAX_RUNS, Until

KIND: Final = "Sweep"
MOST_RUNS: Final = 1_000_000
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_UNTIL: Final = ("interval", "p_zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a sweep file or a command line asks for; None or empty: it says nothing of that."""

    scenario: str | None = None
    sets: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    sample: Sample | None = None
    runs: int | None = None
    until: Until | None = None
    seed: int | None = None

    def under(self, above: "Request") -> "Request":
        """This one, with what *above* says instead; parameters of the same name are replaced."""
        named = {p.name: p for p in self.parameters} | {p.name: p for p in above.parameters}
        ends = above if above.runs is not None or above.until is not None else self
        return Request(
            scenario=self.scenario if above.scenario is None else above.scenario,
            sets={**self.sets, **above.sets},
            parameters=tuple(named.values()),
            sample=self.sample if above.sample is None else above.sample,
            runs=ends.runs,
            until=ends.until,
            seed=self.seed if above.seed is None else above.seed,
        )


def is_sweep_file(path: Path | str) -> bool:
    """Whether the file holds a Sweep document (and no Scenario)."""
    return is_file(path) and [d.kind for d in read_documents(path)] == [KIND]


def read_sweep_file(path: Path | str) -> Request:
    """The only document of the file.

    Raises
    ------
    InputError
        With file and field.
    """
    documents = read_documents(path)
    if len(documents) != 1 or documents[0].kind != KIND:
        raise InputError(f"{path}: expected one document with kind {KIND} (apiVersion rollsim/v1)")
    return _request(documents[0])


def _request(document: Document) -> Request:
    fields = Fields(document.data, document.place, [])
    fields.text("apiVersion", allowed=("rollsim/v1",))
    fields.text("kind")
    fields.raw("metadata")
    spec = fields.required("spec")
    fields.finish()
    scenario = spec.text("scenario", None)
    sets = spec.mapping("set")
    parameters = spec.mapping("parameters")
    if "runs" in spec and "until" in spec:
        raise spec.error("until", "give runs or until, not both")
    sample, until = spec.text("sample", None), spec.text("until", None)
    request = Request(
        scenario=None if scenario is None else str(Path(document.file).parent / scenario),
        sets={} if sets is None else {name: sets.data[name] for name in sets.data},
        parameters=()
        if parameters is None
        else tuple(_parameter(parameters, name) for name in parameters.data),
        sample=None if sample is None else parse_sample(sample, str(spec.place.field("sample"))),
        runs=spec.integer("runs", None, least=1, most=MOST_RUNS),
        until=None if until is None else parse_until(until, MAX_RUNS, str(spec.place.field("until"))),
        seed=spec.integer("seed", None, least=0),
    )
    spec.finish()
    return request


def _parameter(parameters: Fields, name: str) -> Parameter:
    where = str(parameters.place.field(name))
    given = parameters.data[name]
    if isinstance(given, list):
        return listed(name, given, where)
    if isinstance(given, Mapping):
        choices = [
            Choice(label, tuple(parameters.required(name).required(label).data.items())) for label in given
        ]
        return together(name, choices, where)
    return parameter_of(name, given, where) if isinstance(given, str) else listed(name, [given], where)


def parse_sample(text: str, where: str = "--sample") -> Sample:
    """From `sobol:N` or `random:N`.

    Raises
    ------
    InputError
        Anything else.
    """
    kind, _, n = text.partition(":")
    if kind not in SAMPLES or not _COUNT.fullmatch(n) or not 1 <= int(n) <= 10_000_000:
        raise InputError(f"{where}: got {text!r}, expected sobol:N or random:N")
    return Sample(kind, int(n))


def parse_until(text: str, max_runs: int, where: str = "--until") -> Until:
    """From `interval:W` (failed requests) or `p_zero:W` (a share).

    Raises
    ------
    InputError
        Anything else.
    """
    what, _, width = text.partition(":")
    try:
        value = float(width)
    except ValueError:
        value = -1.0
    if what not in _UNTIL or not 0 < value < float("inf"):
        raise InputError(
            f"{where}: got {text!r}, expected interval:W (failed requests) or p_zero:W (a share)"
        )
    return Until(what=what, width=value, max_runs=max_runs)
