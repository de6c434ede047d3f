"""What a comparison comes to: every policy under every condition, as how much worse it is than the best that is known. A picture and a table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from mmlab.results.cell_files import FinishedCell
from mmlab.results.plotting import axes_layout
from mmlab.results.summary import REGRET, Column, Row, arm_axes, axis_title, label, varying

#: percent at which the colour is darkest
DARKEST = 300
_SCALE = [[0, "#f3f8f4"], [0.25, "#cfe3d6"], [0.5, "#f0d9a8"], [0.75, "#e09a5f"], [1, "#a2432b"]]


@frozen
class Grid:
    """Policies (the best on average first) by conditions. value: the figure that policies are judged by, above: by how many percent it is above
    the best that is known (below, where more is better); both by (policy, condition), None where it was not measured. keys: the axes that conditions are made of."""

    title: str
    names: list[str]
    conditions: list[str]
    keys: list[str]
    judged: Column
    value: dict[tuple[str, str], float | None]
    above: dict[tuple[str, str], float | None]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Titles and texts: a line a policy, a column a condition."""
        return ["%", *self.conditions], [[n, *(_short(self.above.get((n, c))) or "-" for c in self.conditions)] for n in self.names]


def grid(rows: Sequence[Row], columns: Sequence[Column], cells: Sequence[FinishedCell], judged_by: str = "") -> Grid | None:
    """None where there are no two policies and two conditions. The best is opt's figure where that is known (so above is the regret), else the
    least under the same conditions (the most where more is better). judged_by: a column's title; "": monitors by what they found, others by the
    first that is tested and not the same everywhere."""
    arms = arm_axes(cells)
    tested = [c for c in columns if c.tested and judged_by in ("", c.title) and len({row.values[c.title] for row in rows} - {None}) > 1]
    judged = next((c for c in tested if c.more_is_better and "monitor.use" in arms), next(iter(tested), None))
    others = [key for key in varying(cells) if key not in arms]
    if judged is None or not others:
        return None
    names = list(dict.fromkeys(row.label(arms) for row in rows))
    conditions = list(dict.fromkeys(_condition(row, others) for row in rows))
    if len(names) < 2 or len(conditions) < 2:
        return None
    value = {(row.label(arms), _condition(row, others)): row.values[judged.title] for row in rows}
    regret = REGRET in columns and judged.title == "misses"
    above: dict[tuple[str, str], float | None]
    if regret:
        above = {(row.label(arms), _condition(row, others)): row.values[REGRET.title] for row in rows}
    else:
        pick = max if judged.more_is_better else min
        best = {c: pick((v for n in names if (v := value.get((n, c))) is not None), default=0.0) for c in conditions}
        above = {(n, c): 100 * abs(v - best[c]) / best[c] if (v := value.get((n, c))) is not None and best[c] else None for n in names for c in conditions}
    names.sort(key=lambda n: _mean([above.get((n, c)) for c in conditions]))
    than = "the optimum (regret)" if regret else "the best under the same conditions"
    title = f"{judged.title[0].upper()}{judged.title[1:]}: percent {'below' if judged.more_is_better else 'above'} {than}"
    return Grid(title, names, conditions, others, judged, value, above)


def overview(found: Grid) -> dict[str, Any]:
    """The grid as a plot: a line of squares a policy, a column a condition, and in each square its number."""
    names, conditions, value, above = found.names, found.conditions, found.value, found.above
    z = [[_shade(above.get((n, c))) for c in conditions] for n in names]
    text = [[_short(above.get((n, c))) for c in conditions] for n in names]
    texts = [[_hover(found.judged, value.get((n, c)), above.get((n, c))) for c in conditions] for n in names]
    heat = {
        "type": "heatmap", "x": conditions, "y": names, "z": z, "text": text, "texttemplate": "%{text}", "customdata": texts,
        "hovertemplate": "%{y}<br>%{x}<br>%{customdata}<extra></extra>", "colorscale": _SCALE, "zmin": 0, "zmax": _shade(DARKEST), "xgap": 1, "ygap": 1,
        "colorbar": {
            "title": {"text": "%"}, "thickness": 10, "tickvals": [_shade(p) for p in (0, 3, 10, 30, 100, 300)], "ticktext": ["0", "3", "10", "30", "100", "300"],
        },
    }  # fmt: skip
    layout = axes_layout(found.title, ", ".join(axis_title(key) for key in found.keys), "")
    layout["height"] = 110 + 24 * len(names) + 7 * max(map(len, conditions))
    layout["margin"].update({"l": 30 + 7 * max(map(len, names)), "b": 40 + 6 * max(map(len, conditions))})
    layout["xaxis"].update({"type": "category", "tickangle": -40, "showgrid": False})
    layout["yaxis"].update({"type": "category", "autorange": "reversed", "showgrid": False})
    layout["yaxis"].pop("rangemode", None)
    return {"data": [heat], "layout": layout}


def _condition(row: Row, keys: Sequence[str]) -> str:
    """`zipf, 0.1`: what policies are compared under."""
    return ", ".join(str(v) if isinstance(v := row.axes.get(key), str | int | float) else json.dumps(v) for key in keys) or label(row.axes)


def _shade(percent: float | None) -> float | None:
    return None if percent is None else round(math.log10(1 + max(0.0, percent)), 3)


def _short(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.0f}" if abs(percent) >= 10 else f"{percent:.1f}"


def _hover(column: Column, value: float | None, percent: float | None) -> str:
    if value is None:
        return "not measured"
    number = f"{value:.2f}" if column.more_is_better else f"{value:,.0f}"
    return f"{number} {column.title}" + ("" if percent is None else f", {-percent if column.more_is_better else percent:+.1f} %")


def _mean(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else math.inf
