"""mmlab: a wind tunnel for Linux memory-management policies.

Public names, loaded when they are first used: `run` (an experiment to a `Result`), `load_experiment`, `Simulation` (a machine to step,
inspect and plot), `Result`. Policy authors use `mmlab.policies`, `mmlab.hookspecs`, `mmlab.kernels`, `mmlab.model`, `mmlab.testing`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Result", "Simulation", "__version__", "load_experiment", "run"]

if TYPE_CHECKING:
    from mmlab.experiment.load import load_experiment
    from mmlab.experiment.run import run
    from mmlab.results.result import Result
    from mmlab.simulation import Simulation

    __version__: str

_HOMES = {
    "run": "mmlab.experiment.run",
    "load_experiment": "mmlab.experiment.load",
    "Simulation": "mmlab.simulation",
    "Result": "mmlab.results.result",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("mmlab")
        except PackageNotFoundError:
            return "0+source"
    if name not in _HOMES:
        raise AttributeError(f"module 'mmlab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
