"""The main job: load, say what will be run, run what is missing, collect the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from mmlab.errors import InputError, MmlabError, PluginError
from mmlab.experiment.cells import Cell
from mmlab.experiment.executor import Outcome, Progress, RunCell, execute
from mmlab.experiment.load import load_experiment
from mmlab.experiment.progress import watching
from mmlab.experiment.schema import Experiment
from mmlab.results.cell_result import CellResult
from mmlab.results.collect import collect
from mmlab.results.report import MACHINE_KEYS, WORKLOAD_KEYS, describe
from mmlab.results.result import Result


def simulate(cell: Cell, progress: Progress, out_dir: Path) -> CellResult:
    """The simulator's `run_cell`, imported in the process that runs it and not before."""
    from mmlab.simulation import run_cell

    return run_cell(cell, progress, out_dir)


def run(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    jobs: int | None = None,
    results: str | Path = "results",
    quiet: bool = False,
) -> Result:
    """Run an experiment (.toml) or a script (.ops); cells that were finished before are not run again.

    changes: dotted key -> value over what the file says: `{"reclaimer.use": "fifo", "seeds.count": 5}`. jobs: cells at once, as in
    `[run]`. results: the folder in which the experiment's folder lies. quiet: print nothing.
    Raises InputError before anything runs; after everything ran, MmlabError if cells failed (the others are kept).
    """
    result, outcome = run_experiment(load_experiment(path, changes), Path(results), jobs, Console(quiet=quiet, stderr=True))
    if outcome.failed or result is None:
        raise failure(outcome)
    return result


def run_experiment(
    experiment: Experiment, results: Path, jobs: int | None, console: Console, run_cell: RunCell = simulate
) -> tuple[Result | None, Outcome]:
    """Run what is missing and collect; the result is None when no cell is finished."""
    folder = results / experiment.name
    jobs = experiment.jobs if jobs is None else jobs
    with watching(len(experiment.cells), console) as listener:
        outcome = execute(experiment.cells, folder, run_cell, jobs, listener)
    return (collect(experiment, folder) if outcome.done + outcome.skipped else None), outcome


def failure(outcome: Outcome) -> MmlabError:
    """The error that the failed cells amount to; equal messages once."""
    by_message: dict[str, list[Cell]] = {}
    for cell, message, _ in outcome.failed:
        by_message.setdefault(message, []).append(cell)
    lines = [
        f"{cells[0].label}{f' and {len(cells) - 1} more' if len(cells) > 1 else ''}: {message}" for message, cells in by_message.items()
    ]
    codes = {code for _, _, code in outcome.failed}
    if codes == {2}:
        return InputError(list(by_message))
    text = "\n".join([f"{len(outcome.failed)} of {outcome.done + outcome.skipped + len(outcome.failed)} cells failed", *lines])
    return PluginError(text) if codes == {3} else MmlabError(text)


def describe_experiment(experiment: Experiment) -> list[tuple[str, str]]:
    """What is about to be run, as (heading, text) lines: machine, workload, policies with versions, cells."""
    machines = _different(
        describe(c.config["machine"], MACHINE_KEYS, "default machine") for c in experiment.cells
    )
    sources = [f"{name}: " if (name := c.axes.get("workload.source")) else "" for c in experiment.cells]
    workloads = _different(source + describe(c.config["workload"], WORKLOAD_KEYS, "") for source, c in zip(sources, experiment.cells))
    by_slot: dict[str, list[str]] = {}
    for (slot, name), about in experiment.policies.items():
        by_slot.setdefault(slot, []).append(f"{name} ({about['distribution']} {about['version']})")
    combinations = len(experiment.cells) // max(len({c.seed for c in experiment.cells}), 1)
    seeds = len({c.seed for c in experiment.cells})
    cells = f"{len(experiment.cells)}: {combinations} combination{'s' if combinations != 1 else ''}" + (f" of {', '.join(experiment.axes)}" if experiment.axes else "")
    return [
        ("machine", machines),
        ("workload", workloads),
        *((slot, ", ".join(names)) for slot, names in by_slot.items()),
        ("cells", cells + f", {seeds} seed{'s' if seeds > 1 else ''}"),
    ]


def _different(texts: Any) -> str:
    return " | ".join(dict.fromkeys(texts))
