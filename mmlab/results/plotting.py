"""What all plots of a report share: colours, axes, names of lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmlab.errors import InputError, did_you_mean
from mmlab.results.cell_files import FinishedCell
from mmlab.results.summary import label, varying

COLOURS = ("#2f6db5", "#dd7a2b", "#2f9a72", "#a5478f", "#8b7a3a", "#5d5aa8", "#c2474b", "#3e98a8")
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


def axes_layout(title: str, x_title: str, y_title: str, legend: bool) -> dict[str, Any]:
    """A layout with titles of axes; room for a legend below."""
    return {
        "title": {"text": title, "x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 15}},
        "font": _FONT,
        "margin": {"l": 64, "r": 16, "t": 44, "b": 96 if legend else 48},
        "height": 330,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hovermode": "x unified" if legend else "closest",
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": -0.32, "yanchor": "top"},
        "xaxis": {**_AXIS, "title": {"text": x_title}},
        "yaxis": {**_AXIS, "title": {"text": y_title}, "rangemode": "tozero"},
    }


def numbers(values: np.ndarray) -> list[float]:
    """Plain numbers, whole ones without a point, which keeps the page small."""
    return [int(v) if v == int(v) else round(float(v), 6) for v in values.tolist()]
