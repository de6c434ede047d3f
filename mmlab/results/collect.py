"""From the folders of finished cells to the experiment's tables, `result.json` and `report.html`.

`result.json` has two halves: what decides the result (resolved experiment, policies, seeds, cells), the same bytes for the same
experiment, and `provenance` and `timing`, which tell about this host and this time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmlab.experiment.schema import Experiment
from mmlab.results.cell_files import FinishedCell, read_cell, write_json
from mmlab.results.provenance import provenance
from mmlab.results.result import Result
from mmlab.results.tables import cells_table, series_table, write_table


def collect(experiment: Experiment, folder: Path) -> Result:
    """Write what belongs to the whole experiment, from those of its cells that are finished. folder: results/EXPERIMENT."""
    from mmlab.results.report import write_report

    finished = [read_cell(folder / "cells" / cell.key, cell.axes) for cell in experiment.cells if (folder / "cells" / cell.key).is_dir()]
    write_table(folder / "cells.parquet", cells_table(finished))
    write_table(folder / "series.parquet", series_table(finished))
    temporary = folder / ".result.json.partial"
    write_json(temporary, _content(experiment, finished))
    os.replace(temporary, folder / "result.json")
    result = Result(folder)
    write_report(result)
    return result


def _content(experiment: Experiment, finished: Sequence[FinishedCell]) -> dict[str, object]:
    return {
        "experiment": experiment.name,
        "question": experiment.head.question,
        "description": experiment.head.description,
        "resolved": experiment.resolved,
        "axes": list(experiment.axes),
        "report": {"baseline": experiment.report.baseline, "counters": list(experiment.report.counters), "judged": experiment.report.judged},
        "seeds": sorted({cell.seed for cell in experiment.cells}),
        "policies": [{"slot": slot, "name": name, **about} for (slot, name), about in experiment.policies.items()],
        "cells": [{"key": cell.key, "axes": cell.axes, "seed": cell.seed} for cell in finished],
        "missing": [{"key": cell.key, "axes": cell.axes, "seed": cell.seed} for cell in _missing(experiment, finished)],
        "timing": [{"key": cell.key, **cell.result.timing} for cell in finished],
        "provenance": provenance(experiment.source.parent),
    }


def _missing(experiment: Experiment, finished: Sequence[FinishedCell]) -> list:
    keys = {cell.key for cell in finished}
    return [cell for cell in experiment.cells if cell.key not in keys]
