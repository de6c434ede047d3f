"""Short cuts of compaction's scanners through the free lists: near blocks to clear, and places far up, without a walk over all frames.

They turn the lists that they look at, so that the next search begins behind what this one saw. A search that finds nothing halves the length
of the next (CC_FAST_SEARCH_FAIL), and the scanners walk.
Models: mm/compaction.c fast_find_migrateblock(), fast_isolate_freepages(), fast_isolate_around(), next_search_order(), reinit_migrate_pfn().
Left out: allocators whose free lists are not in mem_map (no op free_list) are walked only. Cost: O(COMPACT_CLUSTER_MAX), O(pageblock) at a
run's start.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add_tail, list_make_first, list_make_last
from mmlab.kernels.ops import page_allocator_free_list, page_allocator_nr_free_blocks
from mmlab.mm.compaction_block import (
    COMPACT_CLUSTER_MAX, free_list, isolate_free_page, isolate_freepages_block, pageblock_in, set_skip, suitable_migration_target,
)
from mmlab.model.const import MIGRATE_MOVABLE, MIGRATE_TYPES, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES
from mmlab.model.page import page_next, page_prev
from mmlab.model.rows import (
    CC_DIRECT, CC_FAST_SEARCH_FAIL, CC_FAST_START_PFN, CC_FINISH_PAGEBLOCK, CC_FREE_PFN, CC_FREE_SCANNED, CC_IGNORE_SKIP, CC_MIGRATETYPE,
    CC_MIGRATE_PFN, CC_MIGRATE_SCANNED, CC_MODE, CC_NR_FREEPAGES, CC_NR_MIGRATEPAGES, CC_ORDER, CC_SEARCH_ORDER, CC_ZONE, CZ_CACHED_FREE,
    CZ_INIT_FREE, CZ_STRIDE, ZONE_STRIDE, Z_END_PFN, Z_START_PFN,
)
from mmlab.model.vmstat import V_COMPACT_ISOLATED

COSTLY_ORDER = 3
USED = -1  # CC_FAST_START_PFN after the scanner has gone back to it; 0: no block was found yet


@leaf
def block_start(m, zone, pfn):
    """First frame of the pageblock, or of the zone if that begins later."""
    return max(pfn & ~(PAGEBLOCK_PAGES - 1), m.zone[zone * ZONE_STRIDE + Z_START_PFN])


@leaf
def freelist_scan_limit(m):
    """How many blocks a search looks at."""
    return (COMPACT_CLUSTER_MAX >> min(m.cc[CC_FAST_SEARCH_FAIL], 63)) + 1


@leaf
def movable_list(m, zone, order):
    """Head of the movable free list of the order, or -1 where no block of the order is free or the lists cannot be read."""
    nr = 0
    for migratetype in range(MIGRATE_TYPES):
        nr += page_allocator_nr_free_blocks(m, zone, order, migratetype)
    return page_allocator_free_list(m, zone, order, MIGRATE_MOVABLE) - 1 if nr else -1


@leaf
def reinit_migrate_pfn(m):
    """No block was found: once in a run, walk on from the lowest that had been."""
    if m.cc[CC_FAST_START_PFN] > 0:
        m.cc[CC_MIGRATE_PFN] = m.cc[CC_FAST_START_PFN]
        m.cc[CC_FAST_START_PFN] = USED
    return m.cc[CC_MIGRATE_PFN]


@kernel
def fast_find_migrateblock(m):
    """Where the migrate scanner goes on: at a near pageblock that is free in part already, for orders above 3, or where it stands."""
    zone = m.cc[CC_ZONE]
    at = m.cc[CC_MIGRATE_PFN]
    zone_start = m.zone[zone * ZONE_STRIDE + Z_START_PFN]
    if m.cc[CC_IGNORE_SKIP] or m.cc[CC_FINISH_PAGEBLOCK] or (at != zone_start and at & (PAGEBLOCK_PAGES - 1)):
        return at
    if m.cc[CC_ORDER] <= COSTLY_ORDER or (m.cc[CC_DIRECT] and m.cc[CC_MIGRATETYPE] != MIGRATE_MOVABLE):
        return at
    distance = m.cc[CC_FREE_PFN] - at >> 1
    if at != zone_start:
        distance >>= 2
    high = (at + distance) & ~(PAGEBLOCK_PAGES - 1)
    limit = freelist_scan_limit(m)
    nr_scanned = 0
    found = -1
    order = m.cc[CC_ORDER] - 1
    while order >= COSTLY_ORDER and found < 0 and nr_scanned < limit:
        head = movable_list(m, zone, order)
        order -= 1
        if head < 0:
            continue
        pfn = page_next(m, head)
        while pfn != head:
            nr_scanned += 1
            if nr_scanned > limit:
                list_make_last(m, head, pfn)
                break
            if pfn < high and m.block_skip[pfn >> PAGEBLOCK_ORDER] == 0:
                list_make_last(m, head, pfn)
                if m.cc[CC_FAST_START_PFN] != USED:
                    first = m.cc[CC_FAST_START_PFN] if m.cc[CC_FAST_START_PFN] else pfn
                    m.cc[CC_FAST_START_PFN] = min(first, pfn)
                found = block_start(m, zone, pfn)
                m.cc[CC_FAST_SEARCH_FAIL] = 0
                break
            pfn = page_next(m, pfn)
    m.cc[CC_MIGRATE_SCANNED] += nr_scanned
    if found < 0:
        m.cc[CC_FAST_SEARCH_FAIL] += 1
        found = reinit_migrate_pfn(m)
    return found


@leaf
def next_search_order(m, order):
    """The next lower order, from the top again after 0; -1 after all: the next search begins one lower."""
    order -= 1
    if order < 0:
        order = m.cc[CC_ORDER] - 1
    if order != m.cc[CC_SEARCH_ORDER]:
        return order
    m.cc[CC_SEARCH_ORDER] -= 1
    if m.cc[CC_SEARCH_ORDER] < 0:
        m.cc[CC_SEARCH_ORDER] = m.cc[CC_ORDER] - 1
    return -1


@leaf
def fast_isolate_around(m, pfn):
    """What else is free in the pageblock of a place, if more places are needed and the run may take its time."""
    if m.cc[CC_NR_FREEPAGES] >= m.cc[CC_NR_MIGRATEPAGES] or (m.cc[CC_DIRECT] and m.cc[CC_MODE] == 0):
        return
    zone = m.cc[CC_ZONE]
    start = block_start(m, zone, pfn)
    end = min((pfn & ~(PAGEBLOCK_PAGES - 1)) + PAGEBLOCK_PAGES, m.zone[zone * ZONE_STRIDE + Z_END_PFN])
    if pageblock_in(m, zone, start) and isolate_freepages_block(m, start, end, 1) == end:
        set_skip(m, start)


@kernel
def fast_isolate_freepages(m):
    """Take places from the free lists: in the upper quarter of what is between the scanners, or else the highest in its upper half."""
    order = min(m.cc[CC_ORDER] - 1, m.cc[CC_SEARCH_ORDER])
    zone = m.cc[CC_ZONE]
    if m.cc[CC_ORDER] <= 0 or page_allocator_free_list(m, zone, 0, MIGRATE_MOVABLE) == 0:
        return 0
    m.cc[CC_SEARCH_ORDER] = order
    cached = zone * CZ_STRIDE + CZ_CACHED_FREE
    limit = max(1, freelist_scan_limit(m) >> 1)
    at_start = m.cc[CC_FREE_PFN] >= m.compact[zone * CZ_STRIDE + CZ_INIT_FREE]
    if at_start:
        limit = PAGEBLOCK_PAGES >> 1
    distance = m.cc[CC_FREE_PFN] - m.cc[CC_MIGRATE_PFN]
    low = (m.cc[CC_FREE_PFN] - (distance >> 2)) & ~(PAGEBLOCK_PAGES - 1)
    least = (m.cc[CC_FREE_PFN] - (distance >> 1)) & ~(PAGEBLOCK_PAGES - 1)
    nr_scanned = 0
    highest = 0
    found = -1
    while found < 0 and order >= 0:
        this, order_scanned, best = order, 0, 0
        head = movable_list(m, zone, order)
        if head >= 0:
            pfn = page_prev(m, head)
            while pfn != head:
                order_scanned += 1
                if pfn >= highest:
                    highest = block_start(m, zone, pfn)
                if pfn >= low:
                    m.cc[CC_FAST_SEARCH_FAIL] = 0
                    m.cc[CC_SEARCH_ORDER] = order
                    found = pfn
                    break
                if pfn >= least and pfn > best:
                    best = pfn
                    limit >>= 1
                if order_scanned >= limit:
                    break
                pfn = page_prev(m, pfn)
            nr_scanned += order_scanned
            if found < 0 and best:
                pfn = found = best
            if pfn != head:
                list_make_first(m, head, pfn)
            if found >= 0:
                if isolate_free_page(m, zone, found, this):
                    nr_scanned += (1 << this) - 1
                    m.cc[CC_NR_FREEPAGES] += 1 << this
                    list_add_tail(m, free_list(m, this), found)
                    m.vmstat[V_COMPACT_ISOLATED] += 1 << this
                else:
                    order = m.cc[CC_SEARCH_ORDER] + 1  # the zone is short: the search ends
                    found = -1
            if m.cc[CC_NR_FREEPAGES] >= m.cc[CC_NR_MIGRATEPAGES]:
                break
            if order_scanned >= limit:
                limit = max(1, limit >> 1)
        if found < 0:
            order = next_search_order(m, order)
    if found < 0:
        m.cc[CC_FAST_SEARCH_FAIL] += 1
        if at_start and highest >= least:
            found = m.cc[CC_FREE_PFN] = highest
        elif at_start and m.cc[CC_DIRECT] and pageblock_in(m, zone, least):
            m.cc[CC_FREE_PFN] = least
            found = least if suitable_migration_target(m, least) else -1
    if highest and highest >= m.compact[cached]:
        m.compact[cached] = highest - PAGEBLOCK_PAGES
    m.cc[CC_FREE_SCANNED] += nr_scanned
    if found >= 0:
        fast_isolate_around(m, found)
    return 0
