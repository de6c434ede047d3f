"""Allocator streams: allocations and frees of pages and of kernel objects, as columns; no tasks, no address spaces.

Who frees what is said by ids. A block of 2^order pages has the ids id .. id + 2^order - 1, so that parts of it can be freed by themselves,
as a trace's frame numbers tell it; an object has one. Ids of pages and of objects are counted apart, and may be used again after a free.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from attrs import field, frozen

from mmlab.errors import InputError
from mmlab.model.const import MAX_ORDER
from mmlab.model.gfp import GFP_KERNEL
from mmlab.workload.readers import existing_file

ALLOC_PAGES, FREE_PAGES, ALLOC_OBJECT, KMALLOC, FREE_OBJECT = range(5)
OP_NAMES = ("alloc_pages", "free_pages", "alloc_object", "kmalloc", "free_object")
NS_PER_EVENT = 1000  # the clock of streams that do not tell the time
#: bounds of the columns, which the machine gets packed into words
MAX_CPU, MAX_NODE, MAX_BYTES = 1023, 1023, 1 << 22
MAX_IDS = 1 << 40


@frozen(eq=False)
class Allocations:
    """Events in order; the columns have one length.

    op       uint8: OP_NAMES
    id       int64 from 0: who is allocated or freed
    arg      int64: order of a block; bytes of kmalloc(); for an object of a cache, its place in `caches`; frees of objects: 0
    gfp      int64: GFP_* bits (model/gfp.py) of allocations
    cpu      int64: on which CPU; node: int64: of which NUMA node, -1 the CPU's
    time_ns  int64, not decreasing, or None: 1000 ns an event
    caches   object sizes in bytes of the slab caches that are used
    meta     where the stream comes from, and what its reader counted (plain JSON values)
    """

    op: np.ndarray
    id: np.ndarray
    arg: np.ndarray
    gfp: np.ndarray
    cpu: np.ndarray
    node: np.ndarray
    time_ns: np.ndarray | None = None
    caches: tuple[int, ...] = ()
    meta: dict[str, Any] = field(factory=dict)

    def __len__(self) -> int:
        return len(self.op)

    @property
    def events(self) -> int:
        """How many there are."""
        return len(self.op)

    @property
    def nr_page_ids(self) -> int:
        """Ids of pages are below this."""
        pages = self.op <= FREE_PAGES
        return int((self.id[pages] + (1 << self.arg[pages])).max(initial=0))

    @property
    def nr_object_ids(self) -> int:
        """Ids of objects are below this."""
        return int(self.id[self.op > FREE_PAGES].max(initial=-1)) + 1

    def parts(self) -> Iterator[Allocations]:
        """The whole stream, as one part."""
        yield self


class AllocationStream(Protocol):
    """What a machine runs: a stream that is there (`Allocations`), or one that is made part by part (`GeneratedAllocations`)."""

    @property
    def caches(self) -> tuple[int, ...]: ...

    @property
    def meta(self) -> dict[str, Any]: ...

    @property
    def events(self) -> int: ...

    @property
    def nr_page_ids(self) -> int: ...

    @property
    def nr_object_ids(self) -> int: ...

    def parts(self) -> Iterator[Allocations]: ...


_COLUMNS = ("op", "id", "arg", "gfp", "cpu", "node", "time_ns", "caches")


def read_allocations(path: str | Path) -> Allocations:
    """An .npz file with the columns of `Allocations`: op and id, and optionally arg (0), gfp (GFP_KERNEL), cpu (0), node (-1), time_ns, caches.

    Raises InputError with the file, the column and the row of everything that cannot be.
    """
    path = existing_file(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in _COLUMNS if name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as .npz ({error}); numpy.savez(file, op=…, id=…, arg=…) makes one") from None
    errors = [f"{path}: {message}" for message in _shape_errors(columns)]
    if errors:
        raise InputError(errors)
    n = len(columns["op"])
    filled = {name: np.full(n, default, np.int64) for name, default in (("arg", 0), ("gfp", GFP_KERNEL), ("cpu", 0), ("node", -1))}
    filled |= {name: columns[name].astype(np.int64) for name in columns if name not in ("op", "caches")}
    caches = tuple(int(size) for size in columns.get("caches", ()))
    stream = Allocations(op=columns["op"].astype(np.uint8), caches=caches, meta={"source": "allocations", "file": path.name}, **filled)
    errors = [f"{path}: {message}" for message in _value_errors(stream)]
    if errors:
        raise InputError(errors)
    return stream


def _shape_errors(columns: dict[str, np.ndarray]) -> list[str]:
    missing = [name for name in ("op", "id") if name not in columns]
    if missing:
        return [f"has no column {' and no column '.join(map(repr, missing))} (wanted: op, id, and optionally {', '.join(_COLUMNS[2:])})"]
    errors = []
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "iu":
            errors.append(f"{name}: must be whole numbers in one dimension, got {column.dtype} of shape {column.shape}")
        elif name != "caches" and len(column) != len(columns["op"]):
            errors.append(f"{name}: must be as long as op ({len(columns['op'])}), got {len(column)}")
    return errors


def _value_errors(s: Allocations) -> Iterator[str]:
    pages, kmalloc, cached = s.op <= FREE_PAGES, s.op == KMALLOC, s.op == ALLOC_OBJECT
    for name, column, where, low, high in (
        ("op", s.op, slice(None), 0, FREE_OBJECT), ("id", s.id, slice(None), 0, MAX_IDS), ("arg (an order)", s.arg, pages, 0, MAX_ORDER),
        ("arg (bytes)", s.arg, kmalloc, 1, MAX_BYTES), ("arg (a cache)", s.arg, cached, 0, len(s.caches) - 1), ("cpu", s.cpu, slice(None), 0, MAX_CPU),
        ("node", s.node, slice(None), -1, MAX_NODE), ("gfp", s.gfp, slice(None), 0, (1 << 23) - 1),
    ):  # fmt: skip
        rows = np.arange(len(s))[where]
        bad = rows[(column[rows] < low) | (column[rows] > high)]
        if len(bad):
            yield f"{name}[{bad[0]}]: must be between {low} and {high}, got {column[bad[0]]} ({len(bad)} such)"
    if s.time_ns is not None and (back := np.flatnonzero(np.diff(s.time_ns) < 0)).size:
        yield f"time_ns[{back[0] + 1}]: must not go back, got {s.time_ns[back[0] + 1]} after {s.time_ns[back[0]]} ({len(back)} such)"
    yield from (f"caches[{i}]: must be 1 to 8192 bytes, got {size}" for i, size in enumerate(s.caches) if not 1 <= size <= 8192)
