"""Records of damo (`damo record`, or a run's own `damon.data`) as access streams: what DAMON estimated, drawn at random again.

DAMON says for each aggregation interval which address ranges were found accessed, and how often of so many samples; not by which access, nor
whether it was a write. So an interval's accesses fall on its regions in proportion to their pages times `nr_accesses`, and on the pages of
a region alike: the assumption that DAMON itself makes. They are no recorded accesses, and reports say so. Read are damo's JSON and
`json_compressed` (zlib), of damo 2 and 3. Left out: perf's own files (`damo report` or `damo convert_record_format` makes JSON of them), age,
schemes. Pages that no region ever covers do not exist: the ranges of a target lie behind one another in one map.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from mmlab.errors import InputError
from mmlab.workload.maps import BASE_PAGE, mapped_stream
from mmlab.workload.operation import PAGE_SIZE
from mmlab.workload.ops import make_operation
from mmlab.workload.readers import MAX_PAGE, existing_file
from mmlab.workload.stream import KIND_OPERATION, KIND_READ, KIND_WRITE, MAX_TASKS, EventStream, pack

PAGES_OF_DAMON = "page accesses, drawn from what DAMON estimated"
NS_PER_MS = 1_000_000
#: end of what five levels of page tables can map, and of what is physical
LAST_ADDRESS = 1 << 57


@frozen
class Snapshot:
    """One aggregation interval of a target. start, end: pages of each region, int64[n]; found: samples that found it accessed, float64[n]."""

    start_ns: int
    end_ns: int
    start: np.ndarray
    end: np.ndarray
    found: np.ndarray


@frozen
class DamoRecord:
    """A file, read: the snapshots of each target, in order, and what the file is called."""

    targets: tuple[tuple[Snapshot, ...], ...]
    file: str

    def stream(self, accesses_per_ms: int, write_fraction: float, seed: int) -> EventStream:
        """All intervals as accesses, the same for the same seed (PCG64); between two intervals the targets sleep until the first is over."""
        rng = np.random.Generator(np.random.PCG64(seed))
        begin = min(snapshots[0].start_ns for snapshots in self.targets)
        sizes, due = [], []
        for task, snapshots in enumerate(self.targets):
            firsts, places, size = _ranges(snapshots)
            if size > MAX_PAGE:
                raise InputError(f"{self.file}: target {task} covers {size} pages, at most {MAX_PAGE} are possible in a map")
            sizes.append(size)
            for snapshot in snapshots:
                page = _draw(snapshot, round((snapshot.end_ns - snapshot.start_ns) * accesses_per_ms / NS_PER_MS), rng)
                at = np.searchsorted(firsts, page, side="right") - 1
                kind = np.where(rng.random(len(page)) < write_fraction, KIND_WRITE, KIND_READ)
                due.append((snapshot.end_ns, pack(kind, task, BASE_PAGE + page - firsts[at] + places[at])))
        due.sort(key=lambda interval: interval[0])
        names = [f"target{number}" for number in range(len(self.targets))]
        front = mapped_stream(np.zeros(0, np.int64), names, sizes, {})
        parts, ops = [front.words], list(front.ops)
        for end_ns, words in due:
            ms = -(-(end_ns - begin) // NS_PER_MS)
            parts += [words, pack(KIND_OPERATION, 0, np.array([len(ops)]))]
            ops.append(make_operation("sleep", None, f"sleep until {ms} ms", ms=ms))
        meta = {"source": "damo", "file": self.file, "unit": PAGES_OF_DAMON, "accesses_per_ms": accesses_per_ms, "seed": seed}
        return EventStream(np.concatenate(parts), tuple(ops), tuple(names), meta)


def _ranges(snapshots: tuple[Snapshot, ...]) -> tuple[np.ndarray, np.ndarray, int]:
    """Where ranges of pages that some region covers begin, at which page of the map each lies, and how many pages that map has."""
    bounds = np.unique(np.concatenate([column for s in snapshots for column in (s.start, s.end)]))
    covered = np.zeros(len(bounds), np.int64)
    for s in snapshots:
        np.add.at(covered, np.searchsorted(bounds, s.start), 1)
        np.add.at(covered, np.searchsorted(bounds, s.end), -1)
    size = np.where(np.cumsum(covered) > 0, np.diff(bounds, append=bounds[-1:]), 0)
    return bounds, np.cumsum(size) - size, int(size.sum())


def _draw(snapshot: Snapshot, accesses: int, rng: np.random.Generator) -> np.ndarray:
    """Pages that an interval's accesses touch, int64; none where nothing was found accessed."""
    pages = snapshot.end - snapshot.start
    weight = pages * snapshot.found
    if not weight.sum() > 0:
        return np.zeros(0, np.int64)
    region = rng.choice(len(weight), size=accesses, p=weight / weight.sum())
    return snapshot.start[region] + (rng.random(accesses) * pages[region]).astype(np.int64)


def read_damo(path: str | Path) -> DamoRecord:
    """Read a record. Raises InputError with the file, the record and the snapshot for what is missing, cut short, or no record of damo."""
    path = existing_file(path)
    targets = []
    for snapshots in snapshots_of(_records(path), str(path)):
        if found := [snapshot for snapshot in snapshots if len(snapshot.start)]:
            targets.append(tuple(sorted(found, key=lambda snapshot: snapshot.end_ns)))
    if not targets:
        raise InputError(f"{path}: has no regions; damo record leaves them while DAMON runs")
    if len(targets) > MAX_TASKS:
        raise InputError(f"{path}: has {len(targets)} targets, at most {MAX_TASKS} are possible")
    return DamoRecord(tuple(targets), path.name)


def snapshots_of(records: list[Any], where: str) -> list[list[Snapshot]]:
    """The snapshots of each record (JSON values). Raises InputError with the record and the snapshot for what is not as damo has it."""
    read = []
    for number, record in enumerate(records):
        snapshots = record.get("snapshots") if isinstance(record, dict) else None
        if not isinstance(snapshots, list):
            raise InputError(f"{where}: record {number} has no snapshots: not a record of damo?")
        read.append([_snapshot(f"{where}: record {number}, snapshot {at}", snapshot) for at, snapshot in enumerate(snapshots)])
    return read


def _records(path: Path) -> list[Any]:
    data = path.read_bytes()
    try:
        content = json.loads(zlib.decompress(data) if data[:1] == b"\x78" else data)
    except (zlib.error, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as JSON, plain or compressed, is it cut short? ({error}) `damo convert_record_format json_compressed` makes such of other records"
        ) from None
    while isinstance(content, dict):
        inner = next((content[key] for key in ("damo_records", "damon_records", "record_list") if key in content), None)
        if inner is None:
            raise InputError(f"{path}: has none of damo_records, damon_records and record_list: not a record of damo?")
        content = inner
    if not isinstance(content, list):
        raise InputError(f"{path}: must hold a list of records, got {type(content).__name__}: not a record of damo?")
    return content


def _snapshot(where: str, snapshot: Any) -> Snapshot:
    try:
        times = [_number(snapshot[key]) for key in ("start_time", "end_time")]
        rows = [(_number(r["start"]), _number(r["end"]), _found(r["nr_accesses"])) for r in snapshot["regions"]]
    except (KeyError, TypeError, ValueError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{where}: {what}; wanted are start_time, end_time and regions with start, end and nr_accesses, as damo writes them") from None
    rows = [row for row in rows if row[2] >= 0]  # damo marks regions that it made up by -1
    for start, end, _ in rows:
        if not 0 <= start < end <= LAST_ADDRESS:
            raise InputError(f"{where}: a region must end behind its start and not above {LAST_ADDRESS:#x}, got {start:#x} to {end:#x}")
    if times[1] < times[0]:
        raise InputError(f"{where}: end_time must not be before start_time, got {times[1]} and {times[0]}")
    table = np.array(rows, np.float64).reshape(-1, 3)
    pages = np.array([(start // PAGE_SIZE, -(-end // PAGE_SIZE)) for start, end, _ in rows], np.int64).reshape(-1, 2)
    return Snapshot(times[0], times[1], pages[:, 0], pages[:, 1], table[:, 2])


def _number(value: Any) -> int:
    """A whole number as damo writes it: `4096`, or text such as `4,096`. Raises ValueError."""
    text = str(value).replace(",", "")
    if isinstance(value, bool) or not text.lstrip("-").isdigit():
        raise ValueError(f"{value!r} is no whole number (damo writes such with --raw)")
    return int(text)


def _found(value: Any) -> float:
    """Samples that found a region accessed, or the percentage of all."""
    if not isinstance(value, dict):
        return float(_number(value))
    return float(_number(value["samples"]) if value.get("samples") is not None else str(value["percent"]).rstrip("% "))
