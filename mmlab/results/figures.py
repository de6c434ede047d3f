"""Plots as plain plotly specifications (`{"data": [...], "layout": {...}}`), so that a report needs no plotting library to be made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmlab.results.cell_files import FinishedCell
from mmlab.results.monitor_figures import monitor_plots
from mmlab.results.plotting import COLOURS, axes_layout, name_of, numbers

DASHES = ("solid", "dash", "dot", "dashdot")
#: Points per line: more cannot be seen at the width of a page.
POINTS = 400
_NOTHING = np.zeros(0)
TITLES = {
    "pgfault": ("Page faults", "faults so far"),
    "pgmajfault": ("Major faults", "major faults so far"),
    "refaults": ("Refaults", "refaults so far"),
    "rss_pages": ("Resident set, all tasks", "pages"),
    "tlb_misses": ("TLB misses", "walks so far"),
    "bloat_pages": ("Bloat: resident, never touched", "pages"),
    "free_huge_frames": ("Free huge frames", "frames"),
    "unusable_index": ("Free memory of no use for huge pages", "per mille"),
}


def page_plots(cells: Sequence[FinishedCell]) -> list[dict[str, Any]]:
    """Every plot of a report for runs that differ in policy alone, in the order they are shown; none of what was 0 all the time."""
    columns = dict.fromkeys(name for cell in cells for name in cell.result.series)
    plots = []
    moved = {column.partition(":")[0] for column in columns if any(cell.result.series.get(column, _NOTHING).any() for cell in cells)}
    plots += [lines(cells, name) for name in TITLES if name in moved]
    plots += [lines(cells, name) for name in columns if name.startswith("nr_free:")]
    if any(name.startswith("free_blocks:") for name in columns):
        plots += [free_blocks(cell, name_of(cell, cells)) for cell in cells[: len(COLOURS)]]
    return monitor_plots(cells) + plots


def lines(cells: Sequence[FinishedCell], name: str) -> dict[str, Any]:
    """A series over simulated time, a line per cell; per cell and label when `name` comes without the label that the columns have."""
    unit, scale = _time_unit(cells)
    data: list[dict[str, Any]] = []
    for index, cell in enumerate(cells):
        for number, column in enumerate(c for c in cell.result.series if c == name or c.partition(":")[0] == name):
            tail = column.partition(":")[2] if column != name else ""
            picks = _picks(len(cell.result.series[column]))
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": " ".join(filter(None, [name_of(cell, cells), tail])),
                    "x": numbers(cell.result.series["time_ns"][picks] / scale),
                    "y": numbers(cell.result.series[column][picks]),
                    "line": {
                        "color": COLOURS[index % len(COLOURS)],
                        "width": 2,
                        "dash": DASHES[(index // len(COLOURS) + number) % len(DASHES)],
                    },
                }
            )
    title, y_title = TITLES.get(name, (name, ""))
    if name.startswith("nr_free:"):
        node, _, zone = name.partition(":")[2].partition(",")
        title, y_title = f"Free memory, zone {zone}" + (f" of node {node}" if node != "0" else ""), "free pages"
    return {"data": data, "layout": axes_layout(title, f"simulated time ({unit})", y_title, [trace["name"] for trace in data])}


def free_blocks(cell: FinishedCell, name: str) -> dict[str, Any]:
    """Free blocks of each order over time; the colour is the logarithm, the hover text the count."""
    unit, scale = _time_unit([cell])
    series = cell.result.series
    columns = sorted((c for c in series if c.startswith("free_blocks:")), key=lambda c: int(c.partition(":")[2]))
    picks = _picks(len(series["time_ns"]))
    counts = np.array([series[column][picks] for column in columns])
    heat = {
        "type": "heatmap",
        "x": numbers(series["time_ns"][picks] / scale),
        "y": [int(column.partition(":")[2]) for column in columns],
        "z": [numbers(np.round(row, 3)) for row in np.log10(1 + np.maximum(counts, 0))],
        "customdata": [numbers(row) for row in counts],
        "hovertemplate": f"%{{x}} {unit}<br>order %{{y}}: %{{customdata}} free blocks<extra></extra>",
        "colorscale": [[0, "#f4f6fa"], [0.35, "#a9c7e6"], [0.7, "#3f7fc0"], [1, "#123a6b"]],
        "zmin": 0,
        "colorbar": {
            "title": {"text": "blocks"},
            "thickness": 10,
            "tickvals": [0, 1, 2, 3, 4, 5],
            "ticktext": ["0", "10", "100", "1k", "10k", "100k"],
        },
    }
    layout = axes_layout(f"Free blocks by order: {name}", f"simulated time ({unit})", "order")
    layout["yaxis"].update({"dtick": 2, "showgrid": False})
    return {"data": [heat], "layout": layout}


def _time_unit(cells: Sequence[FinishedCell]) -> tuple[str, float]:
    last = max((float(cell.result.series["time_ns"][-1]) for cell in cells if len(cell.result.series.get("time_ns", ()))), default=0.0)
    return next(((unit, size) for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)) if last >= 5 * size), ("ns", 1.0))


def _picks(length: int) -> np.ndarray:
    return np.unique(np.linspace(0, max(length - 1, 0), min(length, POINTS)).astype(np.int64))
