"""Miss-ratio curves as files: a table (mrc.csv) and a page with the plot (mrc.html)."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmlab._engine.mrc import Point


def curve_table(points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """Titles and texts: a row a size, a column a policy, `0.1234`, or `0.1234 ±0.0021` where it was sampled."""
    policies = list(dict.fromkeys(p.policy for p in points))
    by = {(p.policy, p.size): p for p in points}
    body = [[f"{size:,}", *(_text(by.get((policy, size))) for policy in policies)] for size in sorted({p.size for p in points})]
    return ["objects", *policies], body


def _text(point: Point | None) -> str:
    if point is None:
        return "-"
    return f"{point.miss_ratio:.4f}" + (f" ±{point.error:.4f}" if point.error and not math.isnan(point.error) else "")


def write_curves(points: Sequence[Point], title: str, folder: Path) -> Path:
    """Write mrc.csv (policy, objects, miss_ratio, standard_error, method) and mrc.html; the page's path."""
    import plotly.graph_objects as go

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "mrc.csv", "w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(["policy", "objects", "miss_ratio", "standard_error", "method"])
        rows.writerows([p.policy, p.size, p.miss_ratio, "" if math.isnan(p.error) else p.error, p.method] for p in points)
    figure = go.Figure()
    for policy in dict.fromkeys(p.policy for p in points):
        own = [p for p in points if p.policy == policy]
        figure.add_scatter(
            x=[p.size for p in own], y=[p.miss_ratio for p in own], name=f"{policy} ({own[0].method})", mode="lines+markers",
            error_y={"type": "data", "array": [p.error for p in own], "visible": any(p.error > 0 for p in own)},
        )  # fmt: skip
    figure.update_layout(title=title, xaxis={"title": "objects in the cache", "type": "log"}, yaxis={"title": "miss ratio", "rangemode": "tozero"})
    page = folder / "mrc.html"
    figure.write_html(page, include_plotlyjs=True)
    return page
