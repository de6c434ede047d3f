"""`Result`: a finished experiment, from its folder; for notebooks, the report and the command line."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlab.errors import InputError
from mmlab.results.cell_files import FinishedCell, read_cell
from mmlab.results.overview import Grid, grid
from mmlab.results.stats import Difference, compare
from mmlab.results.summary import Column, Row, axis_title, columns_for, cost_models, rows, table_columns, text_number, varying

if TYPE_CHECKING:
    import plotly.graph_objects
    import pyarrow


class Result:
    """What `results/EXPERIMENT` holds. In a notebook it shows itself as the table per policy."""

    def __init__(self, folder: str | Path):
        """folder: results/EXPERIMENT; InputError if it holds no result."""
        self.folder = Path(folder)
        try:
            self.about: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        except OSError as error:
            raise InputError(f"{folder}: no result here ({error.strerror}: result.json); `mmlab run` makes one") from None
        except ValueError as error:
            raise InputError(f"{self.folder / 'result.json'}: damaged: {error}") from None

    @cached_property
    def cells(self) -> list[FinishedCell]:
        """Every finished cell, in the experiment's order."""
        axes = self.about["axes"]
        return [read_cell(self.folder / "cells" / c["key"], {key: c["axes"][key] for key in axes}) for c in self.about["cells"]]

    def table(self) -> pyarrow.Table:
        """`cells.parquet`: a row per cell and counter, as a pyarrow table (`.to_pandas()` where pandas is installed)."""
        return _read(self.folder / "cells.parquet")

    def series(self, name: str | None = None) -> pyarrow.Table:
        """`series.parquet`: a row per cell, sample and column; only the series `name` (such as "pgfault") if one is given."""
        import pyarrow.compute

        table = _read(self.folder / "series.parquet")
        return table if name is None else table.filter(pyarrow.compute.equal(table["series"], name))

    def columns(self) -> tuple[Column, ...]:
        """The figures of the table per policy."""
        return table_columns(self._measured(), self.cells)

    def _measured(self) -> tuple[Column, ...]:
        return columns_for(self.cells, self.about["report"]["counters"])

    def rows(self) -> list[Row]:
        """A row per policy or combination with means over seeds."""
        return rows(self.cells, self.columns())

    def differences(self) -> list[Difference]:
        """Each policy against the baseline, the largest certain differences first."""
        return compare(self.cells, self.about["report"]["baseline"], self._measured())

    def plot(self, name: str = "pgfault") -> plotly.graph_objects.Figure:
        """A series over simulated time, a line per policy (and label), of the first seed; see `mmlab.results.cell_result.SERIES`."""
        import plotly.graph_objects as go

        from mmlab.results.figures import lines

        known = sorted({column.partition(":")[0] for cell in self.cells for column in cell.result.series} - {"time_ns"})
        if name not in known:
            raise InputError(f"plot: no series {name!r} (known: {', '.join(known)})")
        first = [cell for cell in self.cells if cell.seed == self.cells[0].seed]
        return go.Figure(lines(first, name))

    def summary(self) -> tuple[list[str], list[list[str]]]:
        """Titles and texts of the table per policy."""
        keys = varying(self.cells)
        columns = self.columns()
        titles = [" ".join(axis_title(k) for k in keys) or "run"]
        titles += [f"{c.title} ({cost_models(self.cells)})" if c.is_time else c.title for c in columns] + ["events/s"]
        body = [
            [row.label(keys), *(text_number(row.values[c.title], c.is_time) for c in columns), text_number(row.events_per_s)]
            for row in self.rows()
        ]
        return titles, body

    def grid(self) -> Grid | None:
        """Every policy under every condition, against the best; None where there are no two of each."""
        return grid(self.rows(), self.columns(), self.cells, self.about["report"].get("judged", ""))

    def __str__(self) -> str:
        titles, body = self.summary()
        widths = [max(len(line[i]) for line in [titles, *body]) for i in range(len(titles))]
        return "\n".join(
            "  ".join(text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(line, widths, strict=True)))
            for line in [titles, *body]
        )

    def __repr__(self) -> str:
        return f"Result({str(self.folder)!r}: {len(self.about['cells'])} cells)"

    def _repr_html_(self) -> str:
        titles, body = self.summary()
        return f"<p><b>{html.escape(self.about['experiment'])}</b> {html.escape(self.about['question'])}</p>{html_table(titles, body)}"


def html_table(titles: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """An HTML table of plain texts."""
    head = "".join(f"<th>{html.escape(t)}</th>" for t in titles)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in line)}</tr>" for line in body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _read(path: Path) -> pyarrow.Table:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)
