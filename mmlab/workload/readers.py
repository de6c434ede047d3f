"""Readers of access streams: `.npz` and Parquet with columns page[, write, task].

Each gives an `EventStream` in which every task has one anonymous map. Files that are missing, cut short or hold something else raise
`InputError` with the file, what is wrong and what would be right.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmlab.errors import InputError
from mmlab.workload.maps import BASE_PAGE, mapped_stream
from mmlab.workload.stream import KIND_READ, KIND_WRITE, MAX_TASKS, EventStream, pack

#: a page number must fit a task's half of the address space above STREAM_BASE
MAX_PAGE = (1 << 35) - BASE_PAGE - 1


def read_accesses(path: str | Path) -> EventStream:
    """An access stream by the file's ending: .npz or .parquet.

    Columns: `page` (whole numbers from 0, as they lie in the task's map), `write` (bool or 0/1, default all reads), `task` (whole numbers
    or, in Parquet, names; default one task). Page numbers are kept as they are: the map reaches up to the largest.
    """
    path = existing_file(path)
    readers = {".npz": _npz_columns, ".parquet": _parquet_columns, ".pq": _parquet_columns}
    if path.suffix not in readers:
        raise InputError(f"{path}: an access stream is a .npz or a .parquet file, got '{path.suffix or path.name}'")
    columns = readers[path.suffix](path)
    errors = [f"{path}: {message}" for message in _column_errors(columns)]
    if errors:
        raise InputError(errors)
    page = columns["page"].astype(np.int64, copy=False)
    kind = np.where(columns["write"], KIND_WRITE, KIND_READ) if "write" in columns else KIND_READ
    names, task = _tasks(columns.get("task"), path)
    if len(names) == 1:
        sizes = [int(page.max(initial=-1)) + 1]
    else:
        sizes = [int(page[task == number].max(initial=-1)) + 1 for number in range(len(names))]
    words = pack(kind, task, BASE_PAGE + page)
    return mapped_stream(words, names, sizes, {"source": "accesses", "file": path.name})


def existing_file(path: str | Path) -> Path:
    """The path, if it is a file. Raises InputError otherwise."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    return path


def _npz_columns(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ("page", "write", "task") if name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as .npz ({error}); numpy.savez(file, page=…, write=…, task=…) makes one") from None


def _parquet_columns(path: Path) -> dict[str, np.ndarray]:
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            names = [name for name in ("page", "write", "task") if name in file.schema_arrow.names]
            table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from None
    nulls = [f"{path}: {name}: has {table[name].null_count} nulls, must have none" for name in names if table[name].null_count]
    if nulls:
        raise InputError(nulls)
    return {name: table[name].to_numpy() for name in names}


def _column_errors(columns: dict[str, np.ndarray]) -> list[str]:
    if "page" not in columns:
        return ["has no column 'page' (wanted: page, and optionally write and task)"]
    page, errors = columns["page"], []
    for name, column in columns.items():
        if column.ndim != 1:
            errors.append(f"{name}: must have one dimension, got {column.ndim}")
        elif len(column) != len(page):
            errors.append(f"{name}: must be as long as page ({len(page)}), got {len(column)}")
        elif name != "task" and column.dtype.kind not in ("iu" if name == "page" else "biu"):
            errors.append(f"{name}: must be whole numbers{' or booleans' if name == 'write' else ''}, got {column.dtype}")
    if not errors and len(page):
        bad = np.flatnonzero((page < 0) | (page > MAX_PAGE))
        if len(bad):
            errors.append(f"page[{bad[0]}]: must be between 0 and {MAX_PAGE}, got {page[bad[0]]} ({len(bad)} such)")
        write = columns.get("write")
        if write is not None and write.dtype.kind != "b" and (odd := np.flatnonzero((write != 0) & (write != 1))).size:
            errors.append(f"write[{odd[0]}]: must be 0 or 1, got {write[odd[0]]} ({len(odd)} such)")
    return errors


def _tasks(column: np.ndarray | None, path: Path) -> tuple[list[str], np.ndarray | int]:
    """Names by number, and each access' task number."""
    if column is None or not len(column):
        return ["T0"], 0
    if column.dtype.kind == "O" and all(isinstance(name, str) for name in column):
        column = column.astype(str)
    if column.dtype.kind not in "iuU":
        raise InputError(f"{path}: task: must be whole numbers or names, got {column.dtype}")
    distinct, task = np.unique(column, return_inverse=True)
    if len(distinct) > MAX_TASKS:
        raise InputError(f"{path}: task: has {len(distinct)} tasks, at most {MAX_TASKS} are possible")
    return [str(name) if column.dtype.kind == "U" else f"T{name}" for name in distinct], task.astype(np.int64)
