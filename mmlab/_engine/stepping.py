"""A cell of an experiment run by hand, some events at a time: what a notebook looks at between two steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlab._engine.cell import entries_of_stream, load_stream
from mmlab._engine.sampler import Sampler
from mmlab._engine.stream_run import StreamRun
from mmlab.errors import InputError
from mmlab.experiment.cells import Cell
from mmlab.experiment.load import load_experiment
from mmlab.machine.config import machine_from_table
from mmlab.results.cell_files import FinishedCell
from mmlab.results.cell_result import CellResult
from mmlab.results.figures import lines

if TYPE_CHECKING:
    import plotly.graph_objects

    from mmlab.simulation import Simulation

STREAMS = ("trace", "synthetic", "masim", "damo")


class Stepper:
    """A stream on a simulation that has not begun. cell: its workload is a bulk stream."""

    def __init__(self, sim: Simulation, cell: Cell, run: StreamRun):
        self.sim, self.cell, self.run = sim, cell, run

    def plot(self, name: str) -> plotly.graph_objects.Figure:
        """A series so far. Raises InputError for a name that is none."""
        import plotly.graph_objects as go

        series = self.run.sampler.series()
        known = sorted({column.partition(":")[0] for column in series} - {"time_ns"})
        if name not in known:
            raise InputError(f"plot: no series {name!r} (known: {', '.join(known)})")
        meta = {"cost_model": self.sim.policies["cost_model"].policy.name}
        return go.Figure(lines([FinishedCell(self.cell.key, self.cell.axes, self.cell.config, CellResult({}, series, meta=meta))], name))


def _axis(cell: Cell, name: str) -> Any:
    """The cell's value on the axis of a slot (`reclaimer`), or whose key ends in the name (`memory`); None without one."""
    return next((value for key, value in cell.axes.items() if key in (name, f"{name}.use") or key.endswith(f".{name}")), None)


def open_simulation(cls: type[Simulation], path: str | Path, choice: dict[str, Any]) -> Simulation:
    """The simulation of the experiment's first cell whose axes are as chosen (see Simulation.from_experiment()). Raises InputError."""
    experiment = load_experiment(path)
    cells = [cell for cell in experiment.cells if all(_axis(cell, name) == value for name, value in choice.items())]
    if not cells:
        varied = "; ".join(f"{key}: {', '.join(sorted({str(cell.axes[key]) for cell in experiment.cells}))}" for key in experiment.cells[0].axes)
        wanted = ", ".join(f"{name} {value!r}" for name, value in choice.items())
        raise InputError(f"{path}: no cell has {wanted} (the matrix varies {varied or 'nothing'})")
    cell = cells[0]
    config = cell.config
    if config["workload"]["kind"] not in STREAMS:
        raise InputError(f"{path}: workload.kind {config['workload']['kind']!r} is no stream of accesses to step through (those are: {', '.join(STREAMS)})")
    machine = machine_from_table(config["machine"], "", sysctl=config.get("sysctl"), sysfs=config.get("sysfs"))
    stream = load_stream(cell)
    sim = cls(
        machine, config["policies"], seed=cell.seed, nr_tasks=len(stream.tasks) + 8, base_dir=cell.base_dir, entries=entries_of_stream(stream), stream=stream,
    )  # fmt: skip
    sim.stepper = Stepper(sim, cell, StreamRun(sim, stream, Sampler(sim, config["run"]["sample_ns"])))
    return sim
