"""The tidy tables of an experiment: `cells.parquet` (a row per cell and counter) and `series.parquet` (a row per cell, sample and column).

Both hold nothing that depends on the wall clock, so the same experiment gives the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmlab.results.cell_files import FinishedCell


def cells_table(cells: Sequence[FinishedCell]) -> pa.Table:
    """Columns: cell, `SLOT.use` of every slot, the matrix' keys, seed, counter (text), value (float64)."""
    counters = [sorted(cell.result.counters) for cell in cells]
    repeats = [len(names) for names in counters]
    columns = _parameters(cells, repeats)
    columns["counter"] = pa.array([name for names in counters for name in names], pa.string())
    columns["value"] = pa.array([cell.result.counters[n] for cell, names in zip(cells, counters, strict=True) for n in names], pa.float64())
    return pa.table(columns)


def series_table(cells: Sequence[FinishedCell]) -> pa.Table:
    """Columns as in `cells_table`, then time_ns (int64), series and label (`nr_free` and `0,DMA32`; label is empty for most), value."""
    names = [[n for n in sorted(cell.result.series) if n != "time_ns"] for cell in cells]
    lengths = [len(cell.result.series.get("time_ns", ())) for cell in cells]
    columns = _parameters(cells, [len(n) * length for n, length in zip(names, lengths, strict=True)])
    time, value, series, labels = [], [], [], []
    for cell, mine, length in zip(cells, names, lengths, strict=True):
        for name in mine:
            time.append(np.asarray(cell.result.series["time_ns"], dtype=np.int64))
            value.append(np.asarray(cell.result.series[name], dtype=np.float64))
            head, _, tail = name.partition(":")
            series += [head] * length
            labels += [tail] * length
    columns["time_ns"] = pa.array(np.concatenate(time) if time else np.array([], dtype=np.int64))
    columns["series"] = pa.array(series, pa.string())
    columns["label"] = pa.array(labels, pa.string())
    columns["value"] = pa.array(np.concatenate(value) if value else np.array([], dtype=np.float64))
    return pa.table(columns)


def write_table(path: Path, table: pa.Table) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)


def _parameters(cells: Sequence[FinishedCell], repeats: Sequence[int]) -> dict[str, pa.Array]:
    """What identifies each row: the cell's key (16 digits), its policies, its place in the matrix and its seed."""
    keys = [f"{slot}.use" for slot in sorted({slot for cell in cells for slot in cell.config["policies"]})]
    keys += [key for key in (cells[0].axes if cells else {}) if key not in keys]
    columns = {"cell": _repeat(pa.array([cell.key[:16] for cell in cells], pa.string()), repeats)}
    for key in keys:
        columns[key] = _repeat(_column([_value(cell, key) for cell in cells]), repeats)
    columns["seed"] = _repeat(pa.array([cell.seed for cell in cells], pa.int64()), repeats)
    return columns


def _value(cell: FinishedCell, key: str) -> Any:
    if key in cell.axes:
        return cell.axes[key]
    return cell.config["policies"].get(key.removesuffix(".use"), {}).get("use")


def _column(values: list[Any]) -> pa.Array:
    """Of one type: as it is where all agree, else JSON text."""
    kinds = {type(v) for v in values if v is not None}
    for kind, arrow in ((bool, pa.bool_()), (int, pa.int64()), (str, pa.string())):
        if kinds <= {kind}:
            return pa.array(values, arrow)
    if kinds <= {int, float}:
        return pa.array(values, pa.float64())
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v, sort_keys=True) for v in values], pa.string())


def _repeat(column: pa.Array, repeats: Sequence[int]) -> pa.Array:
    return column.take(pa.array(np.repeat(np.arange(len(column)), repeats)))
