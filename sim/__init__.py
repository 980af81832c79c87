"""Predict how many client requests a Kubernetes rolling update will fail, why, and what to change.

>>> from sim import load, predict, simulate
>>> [scenario] = load("configs/tutorial/2-keepalive.yaml")
>>> simulate(scenario, seed=1).failures
>>> predict(scenario, runs=200).p_zero
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sim.errors import InputError, ModelBug, UnsupportedInput

if TYPE_CHECKING:
    from sim.prediction import Prediction, predict
    from sim.scenario import load, load_one
    from sim.simulate import Result, simulate
    from sim.sweep.api import sweep

_LAZY = {
    "load": "sim.scenario",
    "load_one": "sim.scenario",
    "simulate": "sim.simulate",
    "Result": "sim.simulate",
    "predict": "sim.prediction",
    "Prediction": "sim.prediction",
    "sweep": "sim.sweep.api",
}
"""Where each public name lives: looked up when it is first used, so that `import sim` is quick."""

__all__ = [
    "InputError",
    "ModelBug",
    "Prediction",
    "Result",
    "UnsupportedInput",
    "load",
    "load_one",
    "predict",
    "simulate",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """The import of the submodule `sim.simulate` would hide the function of that name: it may not."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
