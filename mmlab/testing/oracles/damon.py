"""DAMON's regions in plain Python: one list of regions per target, rebuilt at every step.

Models: mm/damon/core.c damon_merge_regions_of(), kdamond_merge_regions(), damon_split_regions_of(), damon_set_regions().
Left out: access checks and schemes; how long lists may get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

PAGE = 4096


@attrs.define
class Region:
    """[start, end) in bytes with the counters that merging and splitting read."""

    start: int
    end: int
    nr_accesses: int = 0
    last_nr_accesses: int = 0
    age: int = 0

    @property
    def size(self) -> int:
        return self.end - self.start


def merged(regions: Sequence[Region], thres: int, sz_limit: int) -> list[Region]:
    """One pass: every region ages, then joins its left neighbour if they touch, differ by at most thres and fit sz_limit together."""
    out: list[Region] = []
    for region in regions:
        age = 0 if abs(region.nr_accesses - region.last_nr_accesses) > thres else region.age + 1
        region = attrs.evolve(region, age=age)
        left = out[-1] if out else None
        if left and left.end == region.start and abs(left.nr_accesses - region.nr_accesses) <= thres and left.size + region.size <= sz_limit:
            total = left.size + region.size
            mean = [(getattr(left, name) * left.size + getattr(region, name) * region.size) // total for name in ("nr_accesses", "age")]
            out[-1] = attrs.evolve(left, end=region.end, nr_accesses=mean[0], age=mean[1])
        else:
            out.append(region)
    return out


def merge(targets: Sequence[Sequence[Region]], most: int, sz_limit: int, max_nr_regions: int, max_nr_accesses: int) -> list[list[Region]]:
    """Passes with thresholds most/10, then 1 or twice the last, while there are too many regions and the threshold means anything."""
    thres = most // 10
    while True:
        targets = [merged(regions, thres, sz_limit) for regions in targets]
        thres = max(1, 2 * thres)
        if sum(map(len, targets)) <= max_nr_regions or thres // 2 >= max_nr_accesses:
            return [list(regions) for regions in targets]


def split(regions: Sequence[Region], nr_subs: int, draw: Callable[[], int]) -> list[Region]:
    """Each region in up to nr_subs pieces; draw gives tenths, 1 .. 9, of what is left of the left part."""
    out: list[Region] = []
    for region in regions:
        pieces = [region]
        for _ in range(nr_subs - 1):
            left = pieces[0]
            if left.size <= 2 * PAGE:
                break
            cut = draw() * left.size // 10 // PAGE * PAGE
            if 0 < cut < left.size:
                pieces[:1] = [attrs.evolve(left, end=left.start + cut), attrs.evolve(left, start=left.start + cut)]
        out += pieces
    return out


def fitted(regions: Sequence[Region], ranges: Sequence[tuple[int, int]]) -> list[Region]:
    """The regions after their target's ranges (whole pages, ascending, apart) have become these."""
    out: list[Region] = []
    for start, end in ranges:
        inside = [region for region in regions if region.start < end and start < region.end]
        if not inside:
            out.append(Region(start, end))
            continue
        inside[0] = attrs.evolve(inside[0], start=start)
        inside[-1] = attrs.evolve(inside[-1], end=end)
        for region in inside:
            if out and out[-1].end < region.start and out[-1].end > start:
                out.append(Region(out[-1].end, region.start))
            out.append(region)
    return out
