"""The buddy allocator's invariants. Cost: O(free blocks + pages in use)."""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import zone_free_exact
from mmlab.model.const import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_PCPTYPES, MIGRATE_TYPES, NR_PAGE_ORDERS, PAGEBLOCK_ORDER,
)  # fmt: skip
from mmlab.model.page import PG_BUDDY, page_flags, page_next, page_order, page_prev, page_zone
from mmlab.model.rows import NR_PCP_LISTS, PCP_COUNT, PCP_HEADS, SC_NR_CPUS, Z_END_PFN, Z_FREE_CMA, Z_FREE_HIGHATOMIC, Z_START_PFN, ZONE_STRIDE
from mmlab_linux.page_allocator.free_lists import count_of, free_head, is_free_block, pageblock_type
from mmlab_linux.page_allocator.pcp import THP_LIST, pcp_row

(
    BAD_LINK, NOT_MARKED, MISALIGNED, OUTSIDE_ZONE, WRONG_TYPE, UNMERGED, WRONG_COUNT, WRONG_NR_FREE, WRONG_HIGHATOMIC,
    NOT_LISTED, PCP_MARKED, PCP_COUNT_WRONG, WRONG_CMA,
) = range(1, 14)  # fmt: skip


@leaf
def _bad_block(m, zone, pfn, order, migratetype):
    """What is wrong with a block on the list of (order, migratetype), or 0."""
    if page_next(m, page_prev(m, pfn)) != pfn:
        return BAD_LINK
    if is_free_block(m, zone, pfn, order) == 0:
        return NOT_MARKED
    if pfn & ((1 << order) - 1):
        return MISALIGNED
    if pfn < m.zone[zone * ZONE_STRIDE + Z_START_PFN] or pfn + (1 << order) > m.zone[zone * ZONE_STRIDE + Z_END_PFN]:
        return OUTSIDE_ZONE
    if pageblock_type(m, pfn) != migratetype or pageblock_type(m, pfn + (1 << order) - 1) != migratetype:
        return WRONG_TYPE
    buddy = pfn ^ (1 << order)
    if order < MAX_ORDER and is_free_block(m, zone, buddy, order):
        buddy_type = pageblock_type(m, buddy)
        if order < PAGEBLOCK_ORDER or buddy_type == migratetype or max(buddy_type, migratetype) < MIGRATE_PCPTYPES:
            return UNMERGED
    return 0


@leaf
def _bad_pcp(m, zone, cpu):
    """What is wrong with a CPU's lists of the zone, or 0."""
    row = pcp_row(m, zone, cpu)
    pages = 0
    for number in range(NR_PCP_LISTS):
        head = m.pcp[row + PCP_HEADS] + number
        pfn = page_next(m, head)
        while pfn != head:
            if page_next(m, page_prev(m, pfn)) != pfn:
                return BAD_LINK
            if page_flags(m, pfn) & PG_BUDDY or page_zone(m, pfn) != zone:
                return PCP_MARKED
            pages += 1 << (PAGEBLOCK_ORDER if number >= THP_LIST else number // MIGRATE_PCPTYPES)
            pfn = page_next(m, pfn)
    return 0 if pages == m.pcp[row + PCP_COUNT] else PCP_COUNT_WRONG


@leaf
def _listed_and_marked(m, zone, blocks):
    """0 if exactly `blocks` frames of the zone are marked as heads of free blocks, none inside another."""
    pfn = m.zone[zone * ZONE_STRIDE + Z_START_PFN]
    while pfn < m.zone[zone * ZONE_STRIDE + Z_END_PFN]:
        if page_flags(m, pfn) & PG_BUDDY and page_zone(m, pfn) == zone:
            blocks -= 1
            pfn += 1 << page_order(m, pfn)
        else:
            pfn += 1
    return 0 if blocks == 0 else NOT_LISTED


@kernel
def check_zone(m, st, zone):
    """0, or the number of the first broken invariant (the constants above)."""
    free = 0
    highatomic = 0
    cma = 0
    blocks = 0
    for order in range(NR_PAGE_ORDERS):
        for migratetype in range(MIGRATE_TYPES):
            length = 0
            head = free_head(m, zone, order, migratetype)
            pfn = page_next(m, head)
            while pfn != head:
                bad = _bad_block(m, zone, pfn, order, migratetype)
                if bad:
                    return bad
                length += 1
                pfn = page_next(m, pfn)
            if length != st.nr_free[count_of(zone, order, migratetype)]:
                return WRONG_COUNT
            blocks += length
            if migratetype != MIGRATE_ISOLATE:
                free += length << order
            if migratetype == MIGRATE_HIGHATOMIC:
                highatomic += length << order
            elif migratetype == MIGRATE_CMA:
                cma += length << order
    if free != zone_free_exact(m, zone):
        return WRONG_NR_FREE
    if highatomic != m.zone[zone * ZONE_STRIDE + Z_FREE_HIGHATOMIC]:
        return WRONG_HIGHATOMIC
    if cma != m.zone[zone * ZONE_STRIDE + Z_FREE_CMA]:
        return WRONG_CMA
    for cpu in range(m.sc[SC_NR_CPUS]):
        bad = _bad_pcp(m, zone, cpu)
        if bad:
            return bad
    return _listed_and_marked(m, zone, blocks)
