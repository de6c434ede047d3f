"""What a monitor found against what was really accessed, as plotly specifications; and a heat map as PNG or SVG (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmlab.errors import InputError, MmlabError
from mmlab.results.cell_files import FinishedCell
from mmlab.results.plotting import COLOURS, axes_layout, name_of, numbers

HEAT: list[list[Any]] = [[0, "#f4f6fa"], [0.3, "#f7d58b"], [0.65, "#e1703c"], [1, "#7a1230"]]
HEAT_UNITS = {"true": "accesses to a page", "found": "heat of a page"}  # means over a row's pages; heat in the monitor's own unit
#: columns of monitor_score, a plot each: title and what its axis says
SCORES = (
    ("precision", "Precision of hot bytes", "share of the bytes found hot"), ("recall", "Recall of hot bytes", "share of the hot bytes"),
    ("rank_correlation", "Rank correlation with the accesses", "Spearman's rho"), ("age_error_ms", "Error of ages", "ms, mean over pages"),
)  # fmt: skip
#: columns of monitor_score_by_size, a plot each: title and whose size it is
BY_SIZE = (
    ("precision", "Precision by the size of areas found hot", "found hot side by side"),
    ("recall", "Recall by the size of hot areas", "hot side by side"),
    ("rank_correlation", "Rank correlation by the size of hot areas", "hot side by side, against all that is cold"),
)  # fmt: skip


def monitor_plots(cells: Sequence[FinishedCell]) -> list[dict[str, Any]]:
    """The plots of cells whose monitor was scored; none if none was."""
    scored = [cell for cell in cells if cell.result.tables.get("monitor_score")]
    if not scored:
        return []
    plots = [_score(scored, column, title, unit) for column, title, unit in SCORES]
    plots += [_by_size(scored, column, title, what) for column, title, what in BY_SIZE]
    plots.append(heatmap(scored[0], "true", "Accesses"))
    return plots + [heatmap(cell, "found", f"As {_seen_by(cell, scored)} sees it") for cell in scored[: len(COLOURS)]]


def _seen_by(cell: FinishedCell, among: Sequence[FinishedCell]) -> str:
    """What tells a cell from the others; the monitor's name where it is alone."""
    return name_of(cell, among) if len(among) > 1 else str(cell.config["policies"]["monitor"]["use"])


def _score(cells: Sequence[FinishedCell], column: str, title: str, unit: str) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    for index, cell in enumerate(cells):
        rows = cell.result.tables["monitor_score"]
        line = {"color": COLOURS[index % len(COLOURS)], "width": 2}
        x, y = [row["time_ms"] for row in rows], [None if row[column] is None else round(row[column], 4) for row in rows]
        data.append({"type": "scatter", "mode": "lines", "name": name_of(cell, cells), "x": x, "y": y, "line": line})
    return {"data": data, "layout": axes_layout(title, "simulated time (ms)", unit, [trace["name"] for trace in data])}


def _by_size(cells: Sequence[FinishedCell], column: str, title: str, what: str) -> dict[str, Any]:
    classes = sorted({row["upto_bytes"] or 1 << 62 for cell in cells for row in cell.result.tables["monitor_score_by_size"]})
    names = [f"up to {size >> 10} KiB" if size < 1 << 20 else f"up to {size >> 20} MiB" if size < 1 << 62 else "larger" for size in classes]
    data: list[dict[str, Any]] = []
    for index, cell in enumerate(cells):
        value = {row["upto_bytes"] or 1 << 62: row[column] for row in cell.result.tables["monitor_score_by_size"]}
        y = [None if (v := value.get(size)) is None else round(v, 4) for size in classes]
        data.append({"type": "bar", "name": name_of(cell, cells), "x": names, "y": y, "marker": {"color": COLOURS[index % len(COLOURS)]}})
    return {"data": data, "layout": axes_layout(title, f"bytes {what}", column.replace("_", " "), [trace["name"] for trace in data])}


def heat_matrix(cell: FinishedCell, which: str) -> tuple[np.ndarray, list[float], list[str]]:
    """(heat float64[rows, times], ms of each time, address of each row) of a scored cell; which: "true" or "found"."""
    times, rows = cell.result.tables["monitor_heatmap"], cell.result.tables["monitor_heatmap_rows"]
    return np.array([time[which] for time in times]).T, [time["time_ms"] for time in times], [f"{row['start']:#x}" for row in rows]


def heatmap(cell: FinishedCell, which: str, title: str) -> dict[str, Any]:
    """Time x address; gaps of the address space are left out."""
    heat, times, addresses = heat_matrix(cell, which)
    data = {
        "type": "heatmap", "x": times, "y": list(range(len(addresses))), "z": [numbers(row) for row in heat], "colorscale": HEAT, "zmin": 0,
        "hovertemplate": "%{x} ms<br>row %{y}: %{z}<extra></extra>", "colorbar": {"thickness": 10, "title": {"text": HEAT_UNITS[which], "side": "right"}},
    }  # fmt: skip
    layout = axes_layout(title, "simulated time (ms)", "address")
    picks = sorted({0, len(addresses) // 2, len(addresses) - 1})
    layout["yaxis"] |= {"tickvals": picks, "ticktext": [addresses[i] for i in picks], "showgrid": False}
    return {"data": [data], "layout": layout}


def draw_heatmap(cell: FinishedCell, path: Path) -> None:
    """Write the truth and what the monitor found side by side; the format by the path's ending (.png, .svg, .pdf). Raises InputError for cells
    without a score, MmlabError without matplotlib."""
    if not cell.result.tables.get("monitor_heatmap"):
        raise InputError("this run has no heat map: its monitor was not scored ([run] score_ms)")
    try:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure
    except ImportError:
        raise MmlabError("heat maps as pictures need matplotlib: pip install 'mmlab[figures]'") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    colours = LinearSegmentedColormap.from_list("heat", [(at, colour) for at, colour in HEAT])
    name = cell.config["policies"]["monitor"]["use"]
    for axes, which, title in zip(figure.subplots(1, 2, sharey=True), ("true", "found"), ("accesses", f"as {name} sees it"), strict=True):
        heat, times, addresses = heat_matrix(cell, which)
        drawn = axes.imshow(heat, aspect="auto", origin="lower", cmap=colours, interpolation="nearest", extent=(0, times[-1], 0, len(addresses)), vmin=0)
        picks = sorted({0, len(addresses) // 2, len(addresses) - 1})
        axes.set_yticks([pick + 0.5 for pick in picks], [addresses[i] for i in picks])
        axes.set_title(title)
        axes.set_xlabel("simulated time (ms)")
        figure.colorbar(drawn, ax=axes, label=HEAT_UNITS[which])
        if which == "true":
            axes.set_ylabel("address")
    figure.savefig(path, dpi=150)
