"""Figures of a DAMON trace (damon:damon_aggregated, damon:damos_before_apply).

L1,L2 are script lines: only what was traced between the moments when these two operations began counts. An aggregation is one
pass over all targets' regions. M is the most accesses a region can have: aggr_us / sample_us. Figures with a task A count only
the target whose pid_target the script set to @A, if it set one.

    damon[L1,L2].aggregations                   how many
    damon[L1,L2].regions.mean|min|max|first     regions in one aggregation
    damon[L1,L2].bytes                          bytes monitored, mean over aggregations
    damon[L1,L2].hot@P                          bytes in regions with nr_accesses >= P% of M, mean
    damon[L1,L2].cold_age                       largest age among regions with nr_accesses 0, last aggregation
    damon[L1,L2].ranges, .ranges.count          bytes of each run of adjoining regions, last aggregation
    damon[L1,L2].A.R[OFF,LEN].freq              nr_accesses/M over the range's bytes, mean
    damon[L1,L2].A.R[OFF,LEN].recall@P          part of the range in regions with nr_accesses >= P% of M, mean
    damon[L1,L2].A.R[OFF,LEN].precision@P       part of all bytes in such regions that is inside the range, mean
    damon[L1,L2].A.R[OFF,LEN].regions           regions that overlap the range, mean
    damon[L1,L2].A.R[OFF,LEN].age               age over the range's bytes, last aggregation
    damos[L1,L2].S.count|bytes|bytes_per_aggregation        what scheme S was applied to
    damos[L1,L2].S.min_age|min_nr_accesses|max_nr_accesses|max_bytes
    damos[L1,L2].S.A.R.min_off|max_off          lowest start and highest end, in bytes from the start of A's region R
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from mmlab.verify.ids import Forms, Unsupported, field, lookup, size_bytes
from mmlab.verify.logs import trace_lines

if TYPE_CHECKING:
    from mmlab.verify.folder import ResultFolder

_REGION = r"nr_regions=\d+ (\d+)-(\d+): (\d+) (\d+)"
_AGGREGATED = re.compile(r"(\d+\.\d+): damon_aggregated: target_id=(\d+) " + _REGION)
_APPLIED = re.compile(r"(\d+\.\d+): damos_before_apply: ctx_idx=\d+ scheme_idx=(\d+) target_idx=\d+ " + _REGION)


class Region(NamedTuple):
    """A traced region: ``who`` is the target's index, or the scheme's where a scheme was applied; addresses in bytes."""

    who: int
    start: int
    end: int
    nr_accesses: int
    age: int

    @property
    def bytes(self) -> int:
        return self.end - self.start


@attrs.frozen
class DamonTrace:
    """``aggregations`` and ``applied`` with the second of their first line; ``targets``: the target's index of a task."""

    aggregations: list[tuple[float, list[Region]]]
    applied: list[tuple[float, Region]]
    targets: dict[str, int]
    max_nr_accesses: int


def _read(folder: ResultFolder) -> DamonTrace:
    aggregations: list[tuple[float, list[Region]]] = []
    applied = []
    last: Region | None = None
    for line in trace_lines(folder):
        if match := _AGGREGATED.search(line):
            region = Region(*map(int, match.groups()[1:]))
            # a pass goes through targets and addresses upwards, so one that does not go up begins the next pass
            if last is None or region[:2] <= last[:2]:
                aggregations.append((float(match[1]), []))
            aggregations[-1][1].append(region)
            last = region
        elif match := _APPLIED.search(line):
            applied.append((float(match[1]), Region(*map(int, match.groups()[1:]))))
    targets, interval_us = {}, {"sample_us": 5000, "aggr_us": 100000}
    for row in folder.ops.values():
        if match := re.search(r"targets/(\d+)/pid_target @(\w+)", row["op"]):
            targets[match[2]] = int(match[1])
        elif match := re.search(r"intervals/(sample_us|aggr_us) (\d+)", row["op"]):
            interval_us[match[1]] = int(match[2])
    return DamonTrace(aggregations, applied, targets, max(1, interval_us["aggr_us"] // (interval_us["sample_us"] or 1)))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    if not numbers:
        raise Unsupported("no such region was traced in the window")
    return round(sum(numbers) / len(numbers), 4)


@attrs.frozen
class Window:
    """What was traced between two script lines; ``line2`` is the later one's number."""

    folder: ResultFolder
    trace: DamonTrace
    line2: int
    passes: list[list[Region]]
    applied: list[Region]

    def hot(self, regions: list[Region], percent: int) -> list[Region]:
        """Those accessed in at least this share of the sampling intervals."""
        return [r for r in regions if r.nr_accesses * 100 >= percent * self.trace.max_nr_accesses]

    def region_start(self, task: str, region: str) -> int:
        """Address of a task's region at the window's end."""
        return field(field(self.folder.regions_at(self.line2), task, "the script"), region, f"task {task}")[0]


def _window(folder: ResultFolder, line1: str, line2: str) -> Window:
    trace = folder.cached("damon", lambda: _read(folder))
    start, end = (field(folder.op(line), "at", f"operation {line}") / 1e9 for line in (line1, line2))
    return Window(folder, trace, int(line2), [regions for at, regions in trace.aggregations if start <= at < end],
                  [region for at, region in trace.applied if start <= at < end])


def _damon(folder: ResultFolder, line1: str, line2: str, what: str) -> Any:
    window = _window(folder, line1, line2)
    if what == "aggregations":
        return len(window.passes)
    if not window.passes:
        raise Unsupported("no aggregation in the window")
    found = lookup(_DAMON, what)
    if found is None:
        raise Unsupported(f"no DAMON figure has the form {what}")
    return found[0](window, *found[1])


def _bytes(window: Window) -> float:
    return _mean(sum(r.bytes for r in regions) for regions in window.passes)


def _cold_age(window: Window) -> int:
    return max((r.age for r in window.passes[-1] if r.nr_accesses == 0), default=0)


def _ranges(window: Window) -> list[int]:
    runs: list[int] = []
    last_end = None
    for region in window.passes[-1]:
        if (region.who, region.start) == last_end:
            runs[-1] += region.bytes
        else:
            runs.append(region.bytes)
        last_end = (region.who, region.end)
    return runs


def _regions(window: Window, how: str) -> float:
    counts = [len(regions) for regions in window.passes]
    if how == "mean":
        return _mean(counts)
    return counts[0] if how == "first" else min(counts) if how == "min" else max(counts)


def _hot(window: Window, percent: str) -> float:
    return _mean(sum(r.bytes for r in window.hot(regions, int(percent))) for regions in window.passes)


def _of_range(window: Window, task: str, region: str, offset: str, length: str, what: str, percent: str | None) -> float:
    start = window.region_start(task, region) + size_bytes(offset)
    size = size_bytes(length)
    target = window.trace.targets.get(task)
    passes = [[r for r in regions if target is None or r.who == target] for regions in window.passes]

    def inside(r: Region) -> int:
        return max(0, min(r.end, start + size) - max(r.start, start))

    if what == "regions":
        return _mean(sum(inside(r) > 0 for r in regions) for regions in passes)
    if what == "age":
        return round(sum(inside(r) * r.age for r in passes[-1]) / size, 2)
    if what == "freq":
        return _mean(sum(inside(r) * r.nr_accesses for r in regions) / size / window.trace.max_nr_accesses for regions in passes)
    if percent is None:
        raise Unsupported(f"{what} needs a percentage, {what}@50")
    hot = [window.hot(regions, int(percent)) for regions in passes]
    if what == "recall":
        return _mean(sum(map(inside, regions)) / size for regions in hot)
    return _mean(sum(map(inside, regions)) / sum(r.bytes for r in regions) for regions in hot if regions)


_DAMON: Forms = [
    (r"bytes", _bytes),
    (r"cold_age", _cold_age),
    (r"ranges", _ranges),
    (r"ranges\.count", lambda window: len(_ranges(window))),
    (r"regions\.(mean|min|max|first)", _regions),
    (r"hot@(\d+)", _hot),
    (r"(\w+)\.(\w+)\[([^,\]]+),([^,\]]+)\]\.(regions|age|freq|recall|precision)(?:@(\d+))?", _of_range),
]


def _damos(folder: ResultFolder, line1: str, line2: str, scheme: str, what: str) -> Any:
    window = _window(folder, line1, line2)
    rows = [r for r in window.applied if r.who == int(scheme)]
    if what == "count":
        return len(rows)
    total = sum(r.bytes for r in rows)
    if what == "bytes":
        return total
    if what == "bytes_per_aggregation":
        return round(total / max(1, len(window.passes)), 1)
    if not rows:
        raise Unsupported(f"scheme {scheme} was not applied in the window")
    if match := re.fullmatch(r"(\w+)\.(\w+)\.(min_off|max_off)", what):
        base = window.region_start(match[1], match[2])
        return (min(r.start for r in rows) if match[3] == "min_off" else max(r.end for r in rows)) - base
    return {"min_age": min(r.age for r in rows), "min_nr_accesses": min(r.nr_accesses for r in rows),
            "max_nr_accesses": max(r.nr_accesses for r in rows), "max_bytes": max(r.bytes for r in rows)}[what]


FORMS: Forms = [
    (r"damon\[(\d+),(\d+)\]\.(.+)", _damon),
    (r"damos\[(\d+),(\d+)\]\.(\d+)\.(.+)", _damos),
]
