"""buddy: Linux's page allocator for a zone: free lists by order and mobility type behind per-CPU lists.

Models: mm/page_alloc.c rmqueue(), __free_pages_ok(), __free_pages_core(); mm/memblock.c __free_pages_memory().
Left out: switching mobility grouping off on machines under 10 MiB.
Cost: order 0 from the per-CPU list O(1), amortised O(orders) for refills; other orders O(orders).
Memory: 440 bytes a zone, 8 bytes a pageblock.
"""

import numpy as np

from mmlab.kernels.jit import kernel
from mmlab.kernels.likely import unlikely
from mmlab.kernels.zones import zone_of
from mmlab.model.const import (
    ALLOC_CMA, ALLOC_HIGHATOMIC, ALLOC_OOM, ENOMEM, MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_UNMOVABLE, NR_PAGE_ORDERS,
    PAGEBLOCK_ORDER, PAGEBLOCK_PAGES,
)
from mmlab.model.page import PG_BUDDY, ZONE_SHIFT, page_flags, page_order, set_page_flags
from mmlab.model.rows import PCP_FLAGS, SC_MAX_PFN, SC_MOBILITY_DISABLED, SC_NR_CPUS, SC_NR_ZONES
from mmlab.policies import PageAllocator
from mmlab_linux.page_allocator.check import check_zone
from mmlab_linux.page_allocator.fallback import reserve_highatomic_pageblock, rmqueue_buddy, unreserve_highatomic_pageblock
from mmlab_linux.page_allocator.free_lists import (
    COUNTS_PER_ZONE, account_freepages, add_to_free_list, count_of, del_from_free_list, free_head, free_one_page, free_pages_ok, is_free_block, move_freepages_block, pageblock_type,
    set_pageblock_types,
)
from mmlab_linux.page_allocator.pcp import (
    FREE_HIGH_BATCH, drain_pages_zone, free_unref_page, pcp_allowed_order, pcp_row, refresh_cpu, rmqueue_pcplist,
)  # fmt: skip


def new_state(params, machine):
    """nr_free: blocks on each list, (zone, type, order). movable_pages: a pageblock's movable pages + 1 where a replay knows them, else 0.
    mode: RMQUEUE_*, from where the rest of a refill goes on."""
    return {
        "nr_free": np.zeros(machine.sizes.nr_zones * COUNTS_PER_ZONE, np.int64),
        "movable_pages": np.zeros(machine.sizes.nr_frames // 512 + 1, np.int64),
        "mode": np.zeros(1, np.int64),
    }


@kernel
def init(m, st):
    """A CPU's share of the last-level cache is taken to be large, as on every machine measured."""
    for cpu in range(m.sc[SC_NR_CPUS]):
        for zone in range(m.sc[SC_NR_ZONES]):
            m.pcp[pcp_row(m, zone, cpu) + PCP_FLAGS] = FREE_HIGH_BATCH
    return 0


@kernel
def init_range(m, st, zone, pfn, nr_pages):
    """Free memory of boot, in the largest aligned blocks, each to its list's tail. Cost: O(blocks)."""
    end = pfn + nr_pages
    while pfn < end:
        order = MAX_ORDER
        while pfn & ((1 << order) - 1) or pfn + (1 << order) > end:
            order -= 1
        migratetype = pageblock_type(m, pfn)
        if order == MAX_ORDER:  # nothing to merge with
            set_pageblock_types(m, pfn, order, migratetype)
            account_freepages(m, zone, 1 << order, migratetype)
            add_to_free_list(m, st, zone, pfn, order, migratetype, 1)
        else:
            free_one_page(m, st, zone, pfn, order, migratetype, 1)
        pfn += 1 << order
    return 0


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    """rmqueue()."""
    pfn = -1
    if pcp_allowed_order(order):
        pfn = rmqueue_pcplist(m, st, zone, order, migratetype, alloc_flags)
    if unlikely(pfn < 0):
        pfn = rmqueue_buddy(m, st, zone, order, migratetype, alloc_flags)
        if pfn < 0:
            return -ENOMEM
    if unlikely(alloc_flags & ALLOC_HIGHATOMIC):
        reserve_highatomic_pageblock(m, st, zone, pfn, order)
    return pfn


@kernel
def free(m, st, pfn, order):
    """To the CPU's lists, or to the free lists in pieces of at most a pageblock."""
    zone = zone_of(m, pfn)
    if unlikely(pcp_allowed_order(order) == 0):
        return free_pages_ok(m, st, zone, pfn, order)
    free_unref_page(m, st, zone, pfn, order)
    return 0


@kernel
def can_alloc(m, st, zone, order, alloc_flags):
    """The last step of __zone_watermark_ok()."""
    types = MIGRATE_PCPTYPES
    if alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM):
        types = MIGRATE_HIGHATOMIC + 1
    for migratetype in range(types):
        for current in range(order, NR_PAGE_ORDERS):
            if st.nr_free[count_of(zone, current, migratetype)] > 0:
                return 1
    if alloc_flags & ALLOC_CMA:
        for current in range(order, NR_PAGE_ORDERS):
            if st.nr_free[count_of(zone, current, MIGRATE_CMA)] > 0:
                return 1
    return 0


@kernel
def drain(m, st, zone, cpu):
    """drain_pages_zone()."""
    return drain_pages_zone(m, st, zone, cpu)


@kernel
def tick(m, st, cpu):
    """The per-CPU vmstat worker's part for the page allocator."""
    return refresh_cpu(m, st, cpu)


@kernel
def is_free(m, st, pfn):
    """PageBuddy()."""
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN] or page_flags(m, pfn) & PG_BUDDY == 0:
        return 0
    return page_order(m, pfn) + 1


@kernel
def nr_free_blocks(m, st, zone, order, migratetype):
    """Length of a free list."""
    return st.nr_free[count_of(zone, order, migratetype)]


@kernel
def free_list(m, st, zone, order, migratetype):
    """The head of a free list, which blocks join behind."""
    return free_head(m, zone, order, migratetype) + 1


@kernel
def block_type(m, st, pfn):
    """get_pageblock_migratetype()."""
    return pageblock_type(m, pfn)


@kernel
def unreserve_highatomic(m, st, zone, migratetype, force):
    """unreserve_highatomic_pageblock() of one zone."""
    return unreserve_highatomic_pageblock(m, st, zone, migratetype, force)


@kernel
def set_block_type(m, st, pfn, migratetype):
    """move_freepages_block_isolate(), and set_pageblock_migratetype() of a CMA area. A free block of more than a pageblock is cut first; one
    of a pageblock merges with its neighbour where that has the type now. A machine without groups gives back Unmovable ones."""
    if m.sc[SC_MOBILITY_DISABLED] and migratetype < MIGRATE_PCPTYPES:
        migratetype = MIGRATE_UNMOVABLE
    zone, old = zone_of(m, pfn), pageblock_type(m, pfn)
    first, order = pfn & ~((1 << MAX_ORDER) - 1), MAX_ORDER
    if is_free_block(m, zone, first, order) == 0:
        first, order = pfn & ~(PAGEBLOCK_PAGES - 1), PAGEBLOCK_ORDER
        if is_free_block(m, zone, first, order) == 0:
            return move_freepages_block(m, st, zone, pfn, old, migratetype)
    del_from_free_list(m, st, zone, first, order, old)
    account_freepages(m, zone, -(1 << order), old)
    set_pageblock_types(m, pfn, 0, migratetype)
    for block in range(first, first + (1 << order), PAGEBLOCK_PAGES):
        set_page_flags(m, block, zone << ZONE_SHIFT)
        free_one_page(m, st, zone, block, PAGEBLOCK_ORDER, pageblock_type(m, block), 1)
    return 0


@kernel
def isolate_free(m, st, pfn):
    """__isolate_free_page(), after its watermark: a block of half a pageblock or more makes its pageblocks movable."""
    if page_flags(m, pfn) & PG_BUDDY == 0:
        return 0
    zone, order, migratetype = zone_of(m, pfn), page_order(m, pfn), pageblock_type(m, pfn)
    del_from_free_list(m, st, zone, pfn, order, migratetype)
    account_freepages(m, zone, -(1 << order), migratetype)
    if order >= PAGEBLOCK_ORDER - 1 and m.sc[SC_MOBILITY_DISABLED] == 0:
        at = pfn
        while at < pfn + (1 << order):
            old = pageblock_type(m, at)
            if old < MIGRATE_PCPTYPES and old != MIGRATE_MOVABLE:
                move_freepages_block(m, st, zone, at, old, MIGRATE_MOVABLE)
            at += PAGEBLOCK_PAGES
    return order + 1


@kernel
def check(m, st, zone):
    """Every invariant of the zone."""
    return check_zone(m, st, zone)


BUDDY = PageAllocator(
    name="buddy", summary="Linux: buddy free lists by mobility type, behind per-CPU lists", models="mm/page_alloc.c",
    left_out="memory failure, debug_pagealloc", level="L3", new_state=new_state,
    init=init, init_range=init_range, alloc=alloc, free=free, can_alloc=can_alloc, drain=drain, tick=tick, is_free=is_free,
    nr_free_blocks=nr_free_blocks, free_list=free_list, block_type=block_type, isolate_free=isolate_free, set_block_type=set_block_type, unreserve_highatomic=unreserve_highatomic, check=check,
)
