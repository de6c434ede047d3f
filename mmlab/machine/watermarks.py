"""Watermarks, reserves and per-CPU limits of zones: plain functions over managed page counts and sysctl values.

Every function works in pages unless its name says otherwise. ``tuning.ZoneTuning`` calls them in the kernel's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import attrs

PAGE_KB = 4
PAGEBLOCK_PAGES = 512
NR_ZONES = 5
ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE, ZONE_DEVICE = range(NR_ZONES)
ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable", "Device")
NR_PCPTYPES = 3
NR_MIGRATETYPES = 5
MIN_HIGH_FRACTION = 8
LOWMEM_RESERVE_RATIO = (256, 256, 32, 0, 0)
THP_MIN_TOTALRAM_PAGES = 512 * 256


@attrs.frozen
class Watermarks:
    """The four marks of a zone in pages, without the boost."""

    min: int
    low: int
    high: int
    promo: int


@attrs.frozen
class PcpLimits:
    """What bounds a per-CPU list of a zone, in pages; ``high_min == high_max`` means that tuning is off."""

    batch: int
    high_min: int
    high_max: int


def free_buffer_pages(managed: Sequence[int], high: Sequence[int]) -> int:
    """Pages above the high watermark over the zones given. Models: mm/page_alloc.c nr_free_buffer_pages()."""
    return sum(max(0, m - h) for m, h in zip(managed, high))


def boot_min_free_kbytes(buffer_pages: int) -> int:
    """min_free_kbytes that follows from the pages GFP_KERNEL may use. Models: mm/page_alloc.c calculate_min_free_kbytes()."""
    return min(max(isqrt(buffer_pages * PAGE_KB * 16), 128), 262144)


def khugepaged_min_free_kbytes(nr_zones: int, buffer_pages: int) -> int:
    """min_free_kbytes that khugepaged asks for while THP of PMD size is on; the caller raises the present value to it.

    ``nr_zones``: populated zones of all nodes with an index up to Normal.
    Models: mm/khugepaged.c set_recommended_min_free_kbytes()
    """
    recommended = PAGEBLOCK_PAGES * nr_zones * (2 + NR_PCPTYPES * NR_PCPTYPES)
    return min(recommended, buffer_pages // 20) * PAGE_KB


def zone_watermarks(managed: int, index: int, lowmem_managed: int, min_free_kbytes: int, scale_factor: int) -> Watermarks:
    """The marks of a zone. ``lowmem_managed``: managed pages of all zones but Movable, over the whole machine.

    Models: mm/page_alloc.c __setup_per_zone_wmarks()
    """
    share = min_free_kbytes // PAGE_KB * managed // lowmem_managed if lowmem_managed else 0
    mark = min(max(managed // 1024, 32), 128) if index == ZONE_MOVABLE else share
    scaled = managed // 10000 * scale_factor + managed % 10000 * scale_factor // 10000
    gap = max(share >> 2, scaled)
    return Watermarks(mark, mark + gap, mark + 2 * gap, mark + 3 * gap)


def lowmem_reserve(managed: Sequence[int], ratios: Sequence[int]) -> list[tuple[int, ...]]:
    """lowmem_reserve (zoneinfo: protection) of each of one node's five zones, empty ones included as 0.

    Models: mm/page_alloc.c setup_per_zone_lowmem_reserve()
    """
    rows = []
    for i in range(NR_ZONES):
        row, above = [0] * NR_ZONES, 0
        for j in range(i + 1, NR_ZONES):
            above += managed[j]
            row[j] = above // ratios[i] if ratios[i] and managed[i] else 0
        rows.append(tuple(row))
    return rows


def totalreserve_pages(managed: Sequence[int], high: Sequence[int], reserves: Sequence[Sequence[int]]) -> int:
    """Pages of these zones that user space cannot count on. Models: mm/page_alloc.c calculate_totalreserve_pages()."""
    return sum(min(m, max(r) + h) for m, h, r in zip(managed, high, reserves))


def pcp_batch(managed: int) -> int:
    """Pages moved between the buddy lists and a per-CPU list at a time. Models: mm/page_alloc.c zone_batchsize()."""
    b = max(min(managed >> 10, 256) // 4, 1)
    return max((1 << ((b + b // 2).bit_length() - 1)) - 1, 1)


def pcp_limits(managed: int, low: int, cpus_sharing: int, high_fraction: int = 0) -> PcpLimits:
    """Limits of a zone's per-CPU lists.

    ``low``: the low watermark with its boost. ``cpus_sharing``: CPUs of the zone's node, or all CPUs if it has none.
    Models: mm/page_alloc.c zone_highsize(), zone_set_pageset_high_and_batch()
    """
    batch = pcp_batch(managed)

    def high(pages: int) -> int:
        return max(pages // cpus_sharing, 4 * batch)

    if high_fraction:
        fixed = high(managed // high_fraction)
        return PcpLimits(batch, fixed, fixed)
    return PcpLimits(batch, high(low), high(managed // MIN_HIGH_FRACTION))


def stat_threshold(managed: int, nr_cpus: int) -> int:
    """How far a CPU's counter difference may grow before it is folded. Models: mm/vmstat.c calculate_normal_threshold()."""
    return min(125, 2 * nr_cpus.bit_length() * (1 + (managed >> 15).bit_length()))


def pressure_threshold(marks: Watermarks, nr_cpus: int) -> int:
    """The smaller threshold while kswapd runs. Models: mm/vmstat.c calculate_pressure_threshold()."""
    return min(125, max(1, (marks.low - marks.min) // nr_cpus))


def percpu_drift_mark(marks: Watermarks, threshold: int, nr_cpus: int) -> int:
    """Below this many free pages an exact count is needed; 0: never. Models: mm/vmstat.c refresh_zone_stat_thresholds()."""
    drift = nr_cpus * threshold
    return marks.high + drift if drift > marks.low - marks.min else 0


def mobility_grouping_disabled(total_pages: int) -> bool:
    """Whether memory is too small to keep migratetypes apart.

    ``total_pages``: sum over all zones of managed above high. Models: mm/page_alloc.c build_all_zonelists()
    """
    return total_pages < PAGEBLOCK_PAGES * NR_MIGRATETYPES


def commit_limit(totalram_pages: int, swap_pages: int, overcommit_ratio: int = 50, overcommit_kbytes: int = 0) -> int:
    """CommitLimit in pages. Models: mm/util.c vm_commit_limit(). Left out: hugetlb pages."""
    return (overcommit_kbytes // PAGE_KB or totalram_pages * overcommit_ratio // 100) + swap_pages


def mem_available(free: int, file_lru: int, reclaimable: int, totalreserve: int, low_sum: int) -> int:
    """MemAvailable in pages.

    ``file_lru``: both file lists; ``reclaimable``: slab_reclaimable + kernel_misc_reclaimable; ``low_sum``: low marks of all zones.
    Models: mm/show_mem.c si_mem_available()
    """
    cache = file_lru - min(file_lru // 2, low_sum)
    kernel = reclaimable - min(reclaimable // 2, low_sum)
    return max(0, free - totalreserve + cache + kernel)


def memory_block_bytes(max_pfn: int) -> int:
    """Size of a hot-plug block of a virtual machine. Models: arch/x86/mm/init_64.c probe_memory_block_size()."""
    if max_pfn << 12 < 64 << 30:
        return 128 << 20
    size = 2 << 30
    while size > 128 << 20 and (max_pfn << 12) % size:
        size >>= 1
    return size
