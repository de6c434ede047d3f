"""What each policy gains against what it pays: a point a policy and a field a condition, with which a report begins (plotly specifications)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from mmlab.results.plotting import COLOURS, axes_layout
from mmlab.results.summary import Row, label

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
#: fields side by side, and of a plot at most
COLUMNS, FIELDS = 5, 15
FIELD_PX = 250


@frozen
class TradeOff:
    """Two counters of a run; x counts as 0 where a run that has y lacks it. Both are per `scale` units of the counter."""

    title: str
    x: str
    y: str
    x_title: str
    y_title: str
    x_scale: float = 1.0


TRADE_OFFS = (
    TradeOff("F1 of hot bytes against what finding them costs (the best: to the upper left)", "monitor_cpu_percent", "monitor_f1", "% of a CPU", "F1 of hot bytes"),
    TradeOff("Accesses to slow memory against pages moved (the best: to the lower left)", "pgmigrate_success", "accesses_slow", "pages moved", "slow accesses"),
    TradeOff("TLB misses against bloat (the best: to the lower left)", "bloat_pages", "tlb_misses", "resident pages never touched", "TLB misses"),
    TradeOff("Work lost against waiting for memory (the best: to the lower left)", "memory_some_ns", "work_lost", "ms waited by some task", "accesses lost", 1e6),
)  # fmt: skip


def trade_offs(rows: Sequence[Row], arms: Sequence[str], keys: Sequence[str]) -> list[dict[str, Any]]:
    """The plots of those that the runs have both counters of and that tell policies apart. arms: the axes that are compared; keys: all that vary."""
    found = []
    for one in TRADE_OFFS:
        points = [(row, _mean(row, one.x, 0.0), _mean(row, one.y, None)) for row in rows]
        known = [(row, x / one.x_scale, y) for row, x, y in points if x is not None and y is not None]
        if any(one.x in cell.result.counters for row, *_ in known for cell in row.cells) and any(y for *_, y in known) and len({point[1:] for point in known}) > 1:
            found.append(_plot(one, known, arms, keys))
    return found


def _mean(row: Row, counter: str, missing: float | None) -> float | None:
    values = [cell.result.counters.get(counter, missing) for cell in row.cells]
    return None if None in values else float(sum(v for v in values if v is not None)) / len(values)


def _plot(one: TradeOff, points: Sequence[tuple[Row, float, float]], arms: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    names = list(dict.fromkeys(row.label(arms) for row, *_ in points))
    fields: dict[str, list[tuple[str, float, float]]] = {}
    for row, x, y in points:
        others = {key: row.axes.get(key) for key in keys if key not in arms}
        fields.setdefault(label(others) if others else "", []).append((row.label(arms), x, y))
    shown = list(fields)[:FIELDS]
    columns = min(COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    layout = axes_layout(one.title, "", "", legend=names)
    axis_x, axis_y = layout.pop("xaxis"), layout.pop("yaxis")
    layout["height"] += FIELD_PX * (lines - 1)
    layout["annotations"] = []
    data: list[dict[str, Any]] = []
    for number, condition in enumerate(shown):
        line, column = divmod(number, columns)
        suffix = str(number + 1) if number else ""
        left, right = (column + 0.06) / columns, (column + 0.94) / columns
        top, bottom = 1 - (line + 0.08) / lines, 1 - (line + (0.78 if lines > 1 else 1)) / lines
        layout[f"xaxis{suffix}"] = {**axis_x, "domain": [left, right], "anchor": f"y{suffix}", "title": {"text": one.x_title}, "rangemode": "tozero", "nticks": 5}
        layout[f"yaxis{suffix}"] = {**axis_y, "domain": [bottom, top], "anchor": f"x{suffix}", "title": {"text": "" if column else one.y_title}}
        if number:
            layout[f"yaxis{suffix}"] |= {"matches": "y", "showticklabels": column == 0}
        layout["annotations"].append({
            "text": condition, "x": (left + right) / 2, "y": top, "xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "bottom", "showarrow": False,
        })  # fmt: skip
        for name, x, y in fields[condition]:
            index = names.index(name)
            data.append({
                "type": "scatter", "mode": "markers", "name": name, "legendgroup": name, "x": [x], "y": [y], "xaxis": f"x{suffix}", "yaxis": f"y{suffix}",
                "showlegend": name not in {drawn["name"] for drawn in data}, "cliponaxis": False, "hovertemplate": f"{name}: %{{x}}, %{{y}}<extra></extra>",
                "marker": {"size": 10, "color": COLOURS[index % len(COLOURS)], "symbol": SYMBOLS[index // len(COLOURS) % len(SYMBOLS)]},
            })  # fmt: skip
    layout["hovermode"] = "closest"
    return {"data": data, "layout": layout}
