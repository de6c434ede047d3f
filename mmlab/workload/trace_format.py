"""Recorded page-level traces: one Parquet file, a row an event, in order.

Columns (what is not listed for a kind is null):

    kind    uint8   0 read, 1 write, 2 execute, 16 mmap, 17 munmap, 18 mprotect, 19 brk, 20 mremap, 21 fork, 22 exit, 23 exec, 24 madvise
    task    uint16  number of the task that does it
    page    int64   virtual page number: of the access; first page of the range; brk: first page behind the heap before the change
    npages  int64   length of the range; brk: pages that the heap grows by, negative where it shrinks; mremap: length before
    prot    int8    mmap, mprotect: PROT_ bits
    flags   int32   mmap, mremap: the system call's flags
    arg     int64   mmap of a file: its number; mremap: first page afterwards; fork: the child's task number; madvise: the advice's number
    offset  int64   mmap of a file: offset in pages; mremap: length afterwards

The key-value metadata `mmlab` holds JSON: `version`, `command` (arguments only), `filter` (pages of the window, see stack_filter.py),
`references` (accesses the program made), `exit_code`, `tasks` (program names by task number), `files` ([base name, size in pages] by
number). exec drops the whole address space; the maps that the new program starts with follow as mmap rows, as they do at the start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from attrs import field, frozen

from mmlab.errors import InputError
from mmlab.workload.operation import ADVICE, PAGE_SIZE, Operation, Place
from mmlab.workload.ops import make_operation
from mmlab.workload.stream import KIND_OPERATION, EventStream, pack, unpack

VERSION = 1
MMAP, MUNMAP, MPROTECT, BRK, MREMAP, FORK, EXIT, EXEC, MADVISE = range(16, 25)
MAP_SHARED, MAP_NORESERVE, MAP_GROWSDOWN, MAP_LOCKED, MAP_POPULATE = 0x1, 0x4000, 0x100, 0x2000, 0x8000
MREMAP_DONTUNMAP = 4
USER_END = 1 << 47

_FIELDS = {"npages": pa.int64(), "prot": pa.int8(), "flags": pa.int32(), "arg": pa.int64(), "offset": pa.int64()}
_SCHEMA = pa.schema([("kind", pa.uint8()), ("task", pa.uint16()), ("page", pa.int64()), *_FIELDS.items()])
_ADVICE_NAME = {number: name for name, number in ADVICE.items()}


def _numpy_type(arrow_type: pa.DataType) -> np.dtype:
    """The same integer type in numpy (pyarrow's own conversion needs pandas in some versions)."""
    return np.dtype(str(arrow_type))


@frozen
class Change:
    """One change of an address space: a row of kind 16 and above; the fields are the columns."""

    kind: int
    task: int
    page: int = 0
    npages: int | None = None
    prot: int | None = None
    flags: int | None = None
    arg: int | None = None
    offset: int | None = None


@frozen(eq=False)
class Trace:
    """A recorded program.

    accesses   int64[n] words of kind 0-2 (stream.py) with virtual page numbers
    changes    in order; positions int64[len(changes)]: how many accesses come before each, ascending
    meta       the metadata, see the module
    """

    accesses: np.ndarray
    changes: tuple[Change, ...]
    positions: np.ndarray
    meta: dict[str, Any] = field(factory=dict)


def write_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace; a file half written is never left under `path`."""
    path = Path(path)
    n, rows = len(trace.accesses) + len(trace.changes), trace.positions + np.arange(len(trace.changes))
    is_access = np.ones(n, np.bool_)
    is_access[rows] = False
    kind, task, page = (np.empty(n, np.int64) for _ in range(3))
    kind[is_access], task[is_access], page[is_access] = unpack(trace.accesses)
    columns = {"kind": kind, "task": task, "page": page}
    arrays = []
    for name, column in columns.items():
        column[rows] = [getattr(change, name) for change in trace.changes]
        arrays.append(pa.array(column.astype(_numpy_type(_SCHEMA.field(name).type))))
    for name, kind_of in _FIELDS.items():
        values, missing = np.zeros(n, np.int64), np.ones(n, np.bool_)
        given = [(row, getattr(change, name)) for row, change in zip(rows.tolist(), trace.changes) if getattr(change, name) is not None]
        if given:
            at = [row for row, _ in given]
            values[at], missing[at] = [value for _, value in given], False
        arrays.append(pa.array(values.astype(_numpy_type(kind_of)), mask=missing))
    schema = _SCHEMA.with_metadata({"mmlab": json.dumps({"version": VERSION, **trace.meta}, sort_keys=True)})
    partial = path.with_name(path.name + ".partial")
    try:
        # no delta encoding: programs come back to the same pages, and zstd finds them again (a third of the size)
        pq.write_table(
            pa.table(arrays, schema=schema), partial, compression="zstd", compression_level=12,
            use_dictionary=["kind", "task"], row_group_size=1 << 22,
        )  # fmt: skip
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        partial.unlink(missing_ok=True)


def read_trace(path: str | Path) -> Trace:
    """Read a recorded trace. Raises `InputError` for a file that is missing, cut short, of another version or no trace of mmlab's."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        table = pq.read_table(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet, is it whole? ({error})") from None
    meta = json.loads((table.schema.metadata or {}).get(b"mmlab", b"{}"))
    if not meta or not table.schema.remove_metadata().equals(_SCHEMA):
        raise InputError(f"{path}: is not a recorded trace (`mmlab record` makes one); the columns are {', '.join(table.schema.names)}")
    if meta.pop("version", None) != VERSION:
        raise InputError(f"{path}: is of another version of the format, this mmlab reads version {VERSION}")
    kind, task, page = (table[name].to_numpy().astype(np.int64) for name in ("kind", "task", "page"))
    rows = np.flatnonzero(kind > 15)
    changes = table.take(rows).to_pylist()
    errors = _row_errors(kind, task, changes, rows, meta)
    if errors:
        raise InputError([f"{path}: {message}" for message in errors])
    is_access = kind < 16
    words = pack(kind[is_access], task[is_access], page[is_access])
    return Trace(words, tuple(Change(**change) for change in changes), rows - np.arange(len(rows)), meta)


def _row_errors(kind: np.ndarray, task: np.ndarray, changes: list[dict], rows: np.ndarray, meta: dict[str, Any]) -> list[str]:
    unknown = np.flatnonzero(((kind > 2) & (kind < 16)) | (kind > MADVISE))
    errors = [f"row {unknown[0]}: unknown kind {kind[unknown[0]]} ({len(unknown)} such)"] if len(unknown) else []
    if int(task.max(initial=0)) >= len(meta["tasks"]):
        errors.append(f"task: must be below {len(meta['tasks'])}, the number of tasks in the metadata, got {task.max()}")
    needs = {
        MMAP: ("npages", "prot", "flags"), MUNMAP: ("npages",), MPROTECT: ("npages", "prot"), BRK: ("npages",),
        MREMAP: ("npages", "flags", "arg", "offset"), FORK: ("arg",), MADVISE: ("npages", "arg"),
    }  # fmt: skip
    for row, change in zip(rows.tolist(), changes):
        empty = [name for name in needs.get(change["kind"], ()) if change[name] is None]
        if empty:
            errors.append(f"row {row}: kind {change['kind']} needs {', '.join(empty)}")
        elif change["kind"] == MMAP and change["arg"] is not None and not 0 <= change["arg"] < len(meta["files"]):
            errors.append(f"row {row}: file {change['arg']} is not one of the {len(meta['files'])} in the metadata")
        elif change["kind"] == FORK and not 0 < change["arg"] < len(meta["tasks"]):
            errors.append(f"row {row}: the child must be a task below {len(meta['tasks'])}, got {change['arg']}")
        elif change["kind"] == MADVISE and change["arg"] not in _ADVICE_NAME:
            errors.append(f"row {row}: unknown advice {change['arg']}")
    return errors


def task_names(programs: list[str]) -> list[str]:
    """A name for each task: its program's, with the task's number where two have the same."""
    names: list[str] = []
    for number, program in enumerate(programs):
        name = program[:16] or "task"
        names.append(f"{name}.{number}" if name in names else name)
    return names


def trace_stream(trace: Trace, source: str = "") -> EventStream:
    """The trace as an event stream.

    In front: `mkfile` for each mapped file and, if there is one, `sysctl vm.drop_caches 1` (the files lie on disk, not in memory), then
    the first task's `spawn`. Address-space operations carry absolute addresses: `mmap` has `at=Place(None, address)` and `over`,
    `munmap`, `mprotect` and `madvise` an int `region`. Beyond the script language's arguments: `brk` has `address` (the heap's end before),
    `mremap` has int `region` and `to` and `old_size`; exec is a `munmap` of the whole user half. Every task ends with `exit`.
    """
    names = task_names(trace.meta["tasks"])
    files = _file_names(trace.meta["files"])
    front: list[Operation] = []
    for name, (_, pages) in zip(files, trace.meta["files"]):
        front.append(make_operation("mkfile", None, f"mkfile {name} {pages}", file=name, size=pages * PAGE_SIZE))
    if files:
        front.append(make_operation("sysctl", None, "sysctl vm.drop_caches 1", key="vm.drop_caches", value="1"))
    front.append(make_operation("spawn", names[0], f"spawn {names[0]}"))
    ops = front + [_operation(change, names, files) for change in trace.changes]
    ended = {change.task for change in trace.changes if change.kind == EXIT}
    last = [make_operation("exit", names[task], f"exit {names[task]}") for task in range(len(names)) if task not in ended]
    positions = np.concatenate((np.zeros(len(front), np.int64), trace.positions, np.full(len(last), len(trace.accesses), np.int64)))
    ops += last
    number: dict[str | None, int] = {name: task for task, name in enumerate(names)}
    op_words = pack(KIND_OPERATION, [number.get(op.task, 0) for op in ops], np.arange(len(ops)))
    words = np.empty(len(trace.accesses) + len(ops), np.int64)
    rows = positions + np.arange(len(ops))
    is_access = np.ones(len(words), np.bool_)
    is_access[rows] = False
    words[rows], words[is_access] = op_words, trace.accesses
    return EventStream(words, tuple(ops), tuple(names), {"source": "recorded", "file": source, **trace.meta})


def read_recorded(path: str | Path) -> EventStream:
    """`trace_stream(read_trace(path))`."""
    return trace_stream(read_trace(path), Path(path).name)


def _file_names(files: list[list]) -> list[str]:
    bases = [base.replace(" ", "_") for base, _ in files]
    return [base if bases.count(base) == 1 else f"{base}.{number}" for number, base in enumerate(bases)]


def _operation(change: Change, names: list[str], files: list[str]) -> Operation:
    task, start, length = names[change.task], change.page * PAGE_SIZE, (change.npages or 0) * PAGE_SIZE
    here = {"region": start, "offset": 0, "length": length}
    at = f"{task} {start:#x} 0 {change.npages}"
    if change.kind == MMAP:
        flags = change.flags or 0
        file = None if change.arg is None else files[change.arg]
        return make_operation(
            "mmap", task, f"mmap {task} m{change.page:x} {change.npages} {'anon' if file is None else f'file:{file}'} at={start:#x} over",
            region=f"m{change.page:x}", size=length, file=file, prot=change.prot, at=Place(None, start), over=True, keep=file is not None,
            off=(change.offset or 0) * PAGE_SIZE, shared=bool(flags & MAP_SHARED), noreserve=bool(flags & MAP_NORESERVE),
            growsdown=bool(flags & MAP_GROWSDOWN), locked=bool(flags & MAP_LOCKED), populate=bool(flags & MAP_POPULATE),
        )  # fmt: skip
    if change.kind == MUNMAP:
        return make_operation("munmap", task, f"munmap {at}", **here)
    if change.kind == MPROTECT:
        return make_operation("mprotect", task, f"mprotect {at}", **here, prot=change.prot)
    if change.kind == MADVISE:
        advice = _ADVICE_NAME[change.arg or 0]
        return make_operation("madvise", task, f"madvise {at} {advice}", **here, advice=advice)
    if change.kind == BRK:
        return make_operation("brk", task, f"brk {task} {change.npages}", size=length, address=start)
    if change.kind == MREMAP:
        return make_operation(
            "mremap", task, f"mremap {at}", region=start, old_size=length, size=(change.offset or 0) * PAGE_SIZE,
            to=(change.arg or 0) * PAGE_SIZE, dontunmap=bool((change.flags or 0) & MREMAP_DONTUNMAP),
        )  # fmt: skip
    if change.kind == FORK:
        child = names[change.arg or 0]
        return make_operation("fork", task, f"fork {task} {child}", child=child)
    if change.kind == EXEC:
        return make_operation("munmap", task, f"munmap {task} (exec)", region=0, offset=0, length=USER_END)
    return make_operation("exit", task, f"exit {task}")
