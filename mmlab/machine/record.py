"""The shape of a boot record: what a boot.json, an imported folder and ``[machine.boot]`` have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .watermarks import ZONE_NAMES

NR_ORDERS = 11
MAX_DMA32_PFN = 1 << 20
MIGRATE_TYPES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")
LRU_LISTS = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
TOTALS = ("slab_reclaimable", "slab_unreclaimable", "anon_pages", "mapped", "file_pages", "shmem", "kernel_stack", "page_table_pages")


def boot_problems(boot: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key path, what must hold) for everything that ``boot_from_json`` and ``layout_from_boot`` would stumble over."""

    def count(where: str, table: Any, *names: str) -> Iterator[tuple[str, str]]:
        for name in names:
            v = table.get(name) if isinstance(table, Mapping) else None
            if not isinstance(v, int) or isinstance(v, bool) or v < 0:
                yield f"{where}.{name}", f"must be a count, got {v!r}"

    yield from count("lru", boot.get("lru"), *LRU_LISTS, *TOTALS)
    yield from count("meminfo", boot.get("meminfo"), "Committed_AS")
    zones = boot.get("zones")
    if not isinstance(zones, list) or not zones:
        yield "zones", f"must be a list of zones, got {zones!r}"
        return
    for i, z in enumerate(zones):
        where = f"zones[{i}]"
        yield from count(where, z, "node", "start_pfn", "spanned", "present", "managed")
        if not isinstance(z, Mapping):
            continue
        if z.get("zone") not in ZONE_NAMES:
            yield f"{where}.zone", f"must be one of {', '.join(ZONE_NAMES)}, got {z.get('zone')!r}"
        yield from count(f"{where}.lru", z.get("lru"), *LRU_LISTS)
        pcp = z.get("pcp")
        if not isinstance(pcp, list):
            yield f"{where}.pcp", f"must be a list with a table for each CPU, got {pcp!r}"
        for c, p in enumerate(pcp if isinstance(pcp, list) else []):
            yield from count(f"{where}.pcp[{c}]", p, "count", "high")
        for name in MIGRATE_TYPES:
            row = z["free_lists"].get(name) if isinstance(z.get("free_lists"), Mapping) else None
            if not isinstance(row, list) or len(row) != NR_ORDERS or not all(isinstance(n, int) and n >= 0 for n in row):
                yield f"{where}.free_lists.{name}", f"must be {NR_ORDERS} counts of free blocks, got {row!r}"
    yield from _overlaps(boot)


def _overlaps(boot: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Zones that reach into one another, that hold more than they span, or lie above 4 GiB all; ranges of nodes that overlap."""
    spans = []
    for i, z in enumerate(boot["zones"]):
        given = [z.get(name) for name in ("node", "start_pfn", "spanned", "present", "managed")] if isinstance(z, Mapping) else []
        numbers = [n for n in given if isinstance(n, int) and n >= 0]
        if len(numbers) < 5:
            return
        node, start, spanned, present, managed = numbers
        if not managed <= present <= spanned:
            yield f"zones[{i}]", f"managed must be at most present and present at most spanned, got {managed}, {present} and {spanned}"
        spans.append((node, start, start + spanned, i))
    for (node, _, end, i), (other, low, _, j) in zip(sorted(spans), sorted(spans)[1:]):
        if node == other and low < end:
            yield f"zones[{j}].start_pfn", f"overlaps zones[{i}] of the same node, which ends at frame {end}, got {low}"
    if min(start for _, start, _, _ in spans) >= MAX_DMA32_PFN:
        yield "zones", "must have memory below 4 GiB, where the kernel lies and DMA32 requests are served"
    ranges = sorted((a, b, i) for i, (_, a, b) in enumerate(boot.get("node_ranges", ())))
    for (_, end, i), (start, _, j) in zip(ranges, ranges[1:]):
        if start <= end:
            yield f"node_ranges[{j}]", f"overlaps node_ranges[{i}], which ends at byte {end:#x}, got {start:#x}"
