"""The folder of one finished cell: `cell.json` and `series.npz` (the same bytes for the same cell) and `timing.json` (not so)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from mmlab.results.cell_result import CellResult

if TYPE_CHECKING:
    from mmlab.experiment.cells import Cell


@frozen(eq=False)
class FinishedCell:
    """A cell read back. axes, config, key as in `mmlab.experiment.cells.Cell`."""

    key: str
    axes: dict[str, Any]
    config: dict[str, Any]
    result: CellResult

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


def write_cell(folder: Path, cell: Cell, result: CellResult) -> None:
    """Write the files of a finished cell into `folder`, beside what the simulator left there."""
    content = {
        "experiment": cell.experiment,
        "key": cell.key,
        "config": cell.config,
        "counters": {name: _number(value) for name, value in sorted(result.counters.items())},
        "tables": result.tables,
        "meta": result.meta,
    }
    write_json(folder / "cell.json", content)
    write_json(folder / "timing.json", {name: float(value) for name, value in result.timing.items()})
    columns: dict[str, Any] = {name: result.series[name] for name in sorted(result.series)}
    np.savez_compressed(folder / "series.npz", **columns)


def read_cell(folder: Path, axes: dict[str, Any]) -> FinishedCell:
    """The cell in `folder`; `axes` come from the experiment, since one cell may stand in several."""
    content = json.loads((folder / "cell.json").read_text())
    with np.load(folder / "series.npz", allow_pickle=False) as series:
        columns = {name: series[name] for name in series.files}
    timing = json.loads((folder / "timing.json").read_text())
    result = CellResult(content["counters"], columns, content["tables"], content["meta"], timing)
    return FinishedCell(content["key"], axes, content["config"], result)


def write_json(path: Path, content: Any) -> None:
    """Sorted keys, two spaces, a final newline; numpy numbers become plain ones."""
    path.write_text(json.dumps(content, sort_keys=True, indent=2, default=_number) + "\n")


def _number(value: Any) -> int | float:
    return value.item() if isinstance(value, np.generic) else value
