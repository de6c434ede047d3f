"""What all plots of a report share: colours, axes, names of lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmlab.errors import InputError, did_you_mean
from mmlab.results.cell_files import FinishedCell
from mmlab.results.summary import label, varying

COLOURS = ("#2f6db5", "#dd7a2b", "#2f9a72", "#a5478f", "#8b7a3a", "#5d5aa8", "#c2474b", "#3e98a8")
#: width that a plot's legend can count on
LEGEND_PX = 480
_AXIS = {"gridcolor": "#e9ecf1", "zerolinecolor": "#d5dae2", "linecolor": "#c3cad5", "ticks": "outside", "tickcolor": "#c3cad5"}
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": "#2b3442"}


def name_of(cell: FinishedCell, among: Sequence[FinishedCell]) -> str:
    """What tells a cell from the others."""
    return label({key: cell.axes[key] for key in varying(among)})


def cell_named(cells: Sequence[FinishedCell], name: str) -> FinishedCell:
    """The first cell with this label, or whose key begins so; "" is the first of all. Raises InputError with the known labels."""
    names = [name_of(cell, cells) for cell in cells]
    chosen = [cell for cell, known in zip(cells, names) if not name or known == name or cell.key.startswith(name)]
    if not chosen:
        raise InputError(f"--cell: no run {name!r} (known: {'; '.join(names)}){did_you_mean(name, names)}")
    return chosen[0]


def axes_layout(title: str, x_title: str, y_title: str, legend: Sequence[str] = ()) -> dict[str, Any]:
    """A layout with titles of axes. legend: names that stand below it, for which the plot gets higher; one alone needs none."""
    legend = legend if len(legend) > 1 else ()
    across = max(1, LEGEND_PX // (48 + 7 * max(map(len, legend), default=0)))
    below = 19 * math.ceil(len(legend) / across)
    return {
        "title": {"text": title, "x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 15}},
        "font": _FONT,
        "margin": {"l": 64, "r": 16, "t": 44, "b": 52 + below},
        "height": 300 + below,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hovermode": "x unified" if legend else "closest",
        "showlegend": bool(legend),
        "legend": {"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"},
        "xaxis": {**_AXIS, "title": {"text": x_title}},
        "yaxis": {**_AXIS, "title": {"text": y_title}, "rangemode": "tozero", "automargin": True},
    }


def numbers(values: np.ndarray) -> list[float]:
    """Plain numbers, whole ones without a point, which keeps the page small."""
    return [int(v) if v == int(v) else round(float(v), 6) for v in values.tolist()]
