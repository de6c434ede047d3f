"""Reads allocator streams from the text of a trace: ftrace's `trace`, trace-cmd report or perf script, with the events of kmem:*.

Read: mm_page_alloc, mm_page_free (mm_page_free_batched where a trace has nothing else), kmalloc, kfree, kmem_cache_alloc, kmem_cache_free,
their _node variants and older names, frame numbers hexadecimal or decimal, with or without `node` and `accounted`. Other lines are counted.
A trace with page events gives page events: the pages of slabs are among them, and the objects in them would count twice.
Left out: names of caches (a cache is known by its object size).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from attrs import define, field

from mmlab.errors import InputError
from mmlab.workload.allocations import ALLOC_OBJECT, FREE_OBJECT, FREE_PAGES, Allocations
from mmlab.workload.gfp_names import gfp_flags
from mmlab.workload.kmem_scan import (
    AT, BAD_ORDER, FAILED, FREE_BATCHED, FROM, GFP_PLACES, LINE, LOST, MISSING, NOTHING, NR_STATE, OTHER, ROWS, TO, UNKNOWN_GFP, gfp_hash, scan,
)
from mmlab.workload.readers import existing_file

EVENTS = ("auto", "pages", "objects", "all")
COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_BLOCK = 1 << 23  # bytes read at a time
_NEWLINE = 10
_COUNT = re.compile(r"(?:LOST|lost)\s+(\d+)|(\d+)\s+EVENTS? DROPPED|entries-written: (\d+)/(\d+)")
_COLUMNS = ("id", "arg", "gfp", "cpu", "node", "time_ns")


def read_kmem_trace(path: str | Path, events: str = "auto") -> Allocations:
    """The allocator stream of a trace's text, also .gz, .zst or .bz2. events: of EVENTS; auto: pages if there are any, else objects.

    meta counts lines that are something else (`other_lines`), events that the trace says it lost (`lost_events`), and allocations that had
    failed when they were recorded (`failed_in_trace`). Raises InputError with file and line for a trace that is cut short in the middle of
    a line, an event without a field that it needs, an order above 10 or a GFP name that is not known.
    """
    path = existing_file(path)
    reading = _Reading(path)
    for block, stop in _blocks(path, reading):
        reading.read(block, stop)
    op, columns = reading.columns()
    if not len(op):
        raise InputError(f"{path}: has no kmem event in {reading.state[LINE]} lines (wanted: lines with mm_page_alloc, mm_page_free, kmalloc, kfree ...)")
    return _stream(path, op, columns, events, reading)


@define
class _Reading:
    """A trace on its way through scan()."""

    path: Path
    state: np.ndarray = field(factory=lambda: np.zeros(NR_STATE, np.int64))
    gfps: np.ndarray = field(factory=lambda: np.zeros(2 * GFP_PLACES, np.int64))
    lost: int = 0
    parts: list[list[np.ndarray]] = field(factory=list)

    def read(self, text: np.ndarray, stop: int) -> None:
        """The whole lines of a block."""
        rows = int(np.count_nonzero(text[:stop] == _NEWLINE))
        op = np.empty(rows, np.uint8)
        columns: list[np.ndarray] = [np.empty(rows, np.int64) for _ in _COLUMNS]
        self.state[AT] = self.state[ROWS] = 0
        while reason := scan(text, stop, op, *columns, self.gfps, self.state):
            start, end = int(self.state[FROM]), int(self.state[TO])
            words = bytes(text[start:end]).decode(errors="replace")
            if reason == LOST:
                self._count_lost(words)
                self.state[AT] = end + 1
                self.state[LINE] += 1
            elif reason == UNKNOWN_GFP:
                self._learn(words)
            elif reason == MISSING:
                raise self.error(f"an event without a field that it needs, or one that is no number: {words.strip()!r}")
            elif reason == BAD_ORDER:
                raise self.error(f"order must be 0 to 10: {words.strip()!r}")
        done = int(self.state[ROWS])
        self.parts.append([column[:done].copy() for column in [op, *columns]])

    def _learn(self, text: str) -> None:
        try:
            flags = gfp_flags(text)
        except ValueError as error:
            raise self.error(f"gfp_flags={text}: {error}") from None
        key = gfp_hash(text.encode())
        place = key % GFP_PLACES
        while self.gfps[2 * place]:
            place = (place + 1) % GFP_PLACES
        if np.count_nonzero(self.gfps[::2]) > GFP_PLACES // 2:
            raise self.error(f"has more than {GFP_PLACES // 2} different gfp_flags: is it a trace?")
        self.gfps[2 * place], self.gfps[2 * place + 1] = key, flags

    def _count_lost(self, line: str) -> None:
        match = _COUNT.search(line)
        if match is None:
            self.lost += "DROPPED" in line  # how many is not said: at least one
        elif match[3]:
            self.lost += int(match[4]) - int(match[3])
        else:
            self.lost += int(match[1] or match[2])

    def error(self, message: str) -> InputError:
        """About the line that is being read."""
        return InputError(f"{self.path}:{self.state[LINE] + 1}: {message}")

    def columns(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """op, and the other columns by name."""
        joined = [np.concatenate(column) for column in zip(*self.parts)] if self.parts else [np.zeros(0, np.int64)] * 7
        self.parts.clear()
        return joined[0], dict(zip(_COLUMNS, joined[1:]))


def _blocks(path: Path, reading: _Reading) -> Iterator[tuple[np.ndarray, int]]:
    """The text in blocks, each with the end of its last whole line. A block is good until the next is asked for."""
    buffer, kept = bytearray(_BLOCK), 0
    try:
        with pa.input_stream(str(path), compression=COMPRESSION.get(path.suffix)) as stream:
            while True:
                got = stream.readinto(memoryview(buffer)[kept:])
                if not got:
                    break
                filled = kept + got
                stop = buffer.rfind(b"\n", kept, filled) + 1
                if stop:
                    yield np.frombuffer(buffer, np.uint8, filled), stop
                    buffer[: filled - stop] = buffer[stop:filled]
                    kept = filled - stop
                else:
                    kept = filled
                    if kept == len(buffer):
                        raise reading.error(f"a line of more than {_BLOCK} bytes: is it a trace?")
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}:{reading.state[LINE] + 1}: cannot be unpacked any further, is it cut short? ({error})") from None
    if kept:
        raise reading.error(f"the file ends in the middle of a line: {bytes(buffer[:kept][:80]).decode(errors='replace')!r}")


def _stream(path: Path, op: np.ndarray, columns: dict[str, np.ndarray], events: str, reading: _Reading) -> Allocations:
    if (op == FREE_PAGES).any():
        keep = op != FREE_BATCHED
    else:
        keep = np.ones(len(op), np.bool_)
        op[op == FREE_BATCHED] = FREE_PAGES
    if events == "auto":
        events = "pages" if (op <= FREE_PAGES).any() else "objects"
    if events != "all":
        keep &= (op <= FREE_PAGES) == (events == "pages")
    if not keep.any():
        raise InputError(f"{path}: has no events of {events}")
    if not keep.all():
        op, columns = op[keep], {name: column[keep] for name, column in columns.items()}
    ids, arg, pages = columns["id"], columns["arg"], op <= FREE_PAGES
    if pages.any():
        lowest = int(ids[pages].min()) & ~1023
        ids[pages] -= lowest
    if not pages.all():
        ids[~pages] = np.unique(ids[~pages], return_inverse=True)[1]
    cached = op == ALLOC_OBJECT
    sizes, arg[cached] = np.unique(arg[cached], return_inverse=True)
    arg[op == FREE_OBJECT] = 0
    times = columns.pop("time_ns")
    time_ns = None if times[0] < 0 else np.maximum.accumulate(times) - times[0]
    state = reading.state
    counted = {"lines": LINE, "other_lines": OTHER, "failed_in_trace": FAILED, "frees_of_nothing": NOTHING}
    meta = {"source": "kmem trace", "file": path.name, "events": events, "lost_events": reading.lost, **{name: int(state[at]) for name, at in counted.items()}}
    return Allocations(op=op, time_ns=time_ns, caches=tuple(sizes.tolist()), meta=meta, **columns)
