"""What a request does whose own lists are empty: claim a pageblock of another type, or steal a single block.

Models: mm/page_alloc.c __rmqueue(), __rmqueue_cma_fallback(), __rmqueue_claim(), try_to_steal_block(), __rmqueue_steal(), boost_watermark(),
reserve_highatomic_pageblock(), unreserve_highatomic_pageblock(). Left out: __PageMovable pages. Cost: O(orders); a claim of part of a pageblock O(pageblock).
"""

from mmlab.kernels.jit import cold, kernel, leaf
from mmlab.model.const import (
    ALLOC_CMA, ALLOC_HIGHATOMIC, ALLOC_KSWAPD, ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK, ALLOC_OOM, MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE, NR_PAGE_ORDERS, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES,
)
from mmlab.model.page import PG_BUDDY, PG_LRU, page_flags, page_next, page_order
from mmlab.model.rows import (
    SC_BOOST_FACTOR, SC_MOBILITY_DISABLED, Z_FLAGS, Z_FREE, Z_FREE_CMA, Z_MANAGED, Z_NR_RESERVED_HIGHATOMIC, Z_WATERMARK_BOOST, Z_WMARK_HIGH, ZONE_BOOSTED_WATERMARK, ZONE_STRIDE,
)
from mmlab_linux.page_allocator.free_lists import (
    account_freepages, add_to_free_list, count_of, del_from_free_list, expand, free_head, move_freepages_block, pageblock_in_zone, pageblock_type,
    rmqueue_smallest, set_pageblock_types, take_first,
)

RMQUEUE_NORMAL, RMQUEUE_CMA, RMQUEUE_STEAL = 0, 1, 2  # st.mode: how the last block of a refill came


@leaf
def find_fallback(st, zone, order, migratetype):
    """The type whose list of this order serves a request of `migratetype` next, or -1: unmovable and reclaimable help each other first."""
    first = MIGRATE_UNMOVABLE if migratetype == MIGRATE_RECLAIMABLE else MIGRATE_RECLAIMABLE
    if st.nr_free[count_of(zone, order, first)] > 0:
        return first
    second = MIGRATE_PCPTYPES - migratetype - first
    return second if st.nr_free[count_of(zone, order, second)] > 0 else -1


@leaf
def boost_watermark(m, zone, alloc_flags):
    """Raise the zone's watermarks by a pageblock: types mix, so kswapd shall free whole blocks."""
    base = zone * ZONE_STRIDE
    most = m.zone[base + Z_WMARK_HIGH] * m.sc[SC_BOOST_FACTOR] // 10000
    if most == 0 or m.zone[base + Z_MANAGED] < 4 * PAGEBLOCK_PAGES:
        return
    m.zone[base + Z_WATERMARK_BOOST] = min(m.zone[base + Z_WATERMARK_BOOST] + PAGEBLOCK_PAGES, max(PAGEBLOCK_PAGES, most))
    if alloc_flags & ALLOC_KSWAPD:
        m.zone[base + Z_FLAGS] |= ZONE_BOOSTED_WATERMARK


@leaf
def alike_pages(m, st, pfn, migratetype, block_type):
    """Pages of a pageblock that are free or in use by what a request of `migratetype` would put there."""
    at = pfn & ~(PAGEBLOCK_PAGES - 1)
    end = at + PAGEBLOCK_PAGES
    known = st.movable_pages[at >> PAGEBLOCK_ORDER]
    free = 0
    movable = 0
    while at < end:
        flags = page_flags(m, at)
        nr = 1
        if flags & PG_BUDDY:
            nr = 1 << page_order(m, at)
            free += nr
        elif flags & PG_LRU:
            nr = 1 << page_order(m, at)
            movable += nr
        at += nr
    if known > 0:
        movable = known - 1
    if migratetype == MIGRATE_MOVABLE:
        return free + movable
    return PAGEBLOCK_PAGES - movable if block_type == MIGRATE_MOVABLE else free


@kernel
def steal_block(m, st, zone, order, current, migratetype, block_type, alloc_flags):
    """Claim the pageblock of the first block on another type's list: pfn, or -1 if too little of it is alike."""
    pfn = page_next(m, free_head(m, zone, current, block_type))
    if current >= PAGEBLOCK_ORDER:
        del_from_free_list(m, st, zone, pfn, current, block_type)
        account_freepages(m, zone, -(1 << current), block_type)
        set_pageblock_types(m, pfn, current, migratetype)
        account_freepages(m, zone, expand(m, st, zone, pfn, order, current, migratetype), migratetype)
        return pfn
    boost_watermark(m, zone, alloc_flags)
    if pageblock_in_zone(m, zone, pfn) == 0:
        return -1
    if m.sc[SC_MOBILITY_DISABLED] == 0 and alike_pages(m, st, pfn, migratetype, block_type) < PAGEBLOCK_PAGES // 2:
        return -1
    move_freepages_block(m, st, zone, pfn, block_type, migratetype)
    return rmqueue_smallest(m, st, zone, order, migratetype)


@kernel
def rmqueue_claim(m, st, zone, order, migratetype, alloc_flags):
    """Turn a pageblock of another type into one of the request's, largest blocks first: pfn, or -1."""
    least = order
    if alloc_flags & ALLOC_NOFRAGMENT:
        least = max(least, PAGEBLOCK_ORDER)
    elif migratetype == MIGRATE_MOVABLE:
        least = max(least, PAGEBLOCK_ORDER // 2)  # movable pages do little harm elsewhere: they steal small blocks instead
    for current in range(MAX_ORDER, least - 1, -1):
        block_type = find_fallback(st, zone, current, migratetype)
        if block_type >= 0:
            pfn = steal_block(m, st, zone, order, current, migratetype, block_type, alloc_flags)
            if pfn >= 0:
                return pfn
    return -1


@kernel
def rmqueue_steal(m, st, zone, order, migratetype):
    """The smallest block of another type, whose pageblock stays what it is: pfn, or -1."""
    for current in range(order, NR_PAGE_ORDERS):
        block_type = find_fallback(st, zone, current, migratetype)
        if block_type >= 0:
            return take_first(m, st, zone, order, current, block_type)
    return -1


@kernel
def rmqueue(m, st, zone, order, migratetype, alloc_flags):
    """A block for a type: its own lists, CMA's for movable pages, then claim, then steal: pfn, or -1. st.mode: from where the rest of a
    refill goes on. Movable pages go to CMA areas first while more than half of what is free lies there."""
    base = zone * ZONE_STRIDE
    cma = alloc_flags & ALLOC_CMA and m.zone[base + Z_FREE_CMA] > 0
    if cma and m.zone[base + Z_FREE_CMA] > m.zone[base + Z_FREE] // 2:
        pfn = rmqueue_smallest(m, st, zone, order, MIGRATE_CMA)
        if pfn >= 0:
            return pfn
    if st.mode[0] == RMQUEUE_NORMAL:
        pfn = rmqueue_smallest(m, st, zone, order, migratetype)
        if pfn >= 0:
            return pfn
    if cma and st.mode[0] != RMQUEUE_STEAL:
        pfn = rmqueue_smallest(m, st, zone, order, MIGRATE_CMA)
        if pfn >= 0:
            st.mode[0] = RMQUEUE_CMA
            return pfn
    if st.mode[0] != RMQUEUE_STEAL:
        pfn = rmqueue_claim(m, st, zone, order, migratetype, alloc_flags)
        if pfn >= 0:
            st.mode[0] = RMQUEUE_NORMAL
            return pfn
    if alloc_flags & ALLOC_NOFRAGMENT:
        return -1
    pfn = rmqueue_steal(m, st, zone, order, migratetype)
    if pfn >= 0:
        st.mode[0] = RMQUEUE_STEAL
    return pfn


@cold
def rmqueue_buddy(m, st, zone, order, migratetype, alloc_flags):
    """A block past the per-CPU lists; the highatomic reserve first for who may, last for OOM victims and requests that cannot wait."""
    pfn = -1
    if alloc_flags & ALLOC_HIGHATOMIC:
        pfn = rmqueue_smallest(m, st, zone, order, MIGRATE_HIGHATOMIC)
    if pfn < 0:
        st.mode[0] = RMQUEUE_NORMAL
        pfn = rmqueue(m, st, zone, order, migratetype, alloc_flags)
        if pfn < 0 and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
            pfn = rmqueue_smallest(m, st, zone, order, MIGRATE_HIGHATOMIC)
    return pfn


@kernel
def reserve_highatomic_pageblock(m, st, zone, pfn, order):
    """Keep the pageblock of what an atomic high-order request just got for the next ones, up to 1% of the zone."""
    base = zone * ZONE_STRIDE
    percent = m.zone[base + Z_MANAGED] // 100
    limit = -(-percent // PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES
    block_type = pageblock_type(m, pfn)
    if percent < PAGEBLOCK_PAGES or m.zone[base + Z_NR_RESERVED_HIGHATOMIC] >= limit or block_type >= MIGRATE_PCPTYPES:
        return 0
    if order >= PAGEBLOCK_ORDER:
        set_pageblock_types(m, pfn, order, MIGRATE_HIGHATOMIC)
        m.zone[base + Z_NR_RESERVED_HIGHATOMIC] += 1 << order
    elif pageblock_in_zone(m, zone, pfn):
        move_freepages_block(m, st, zone, pfn, block_type, MIGRATE_HIGHATOMIC)
        m.zone[base + Z_NR_RESERVED_HIGHATOMIC] += PAGEBLOCK_PAGES
    return 0


@kernel
def unreserve_highatomic_pageblock(m, st, zone, migratetype, force):
    """Give a reserved pageblock that has free pages to a type, the last one only if force is 1. Returns its pages, 0 if there is none."""
    base = zone * ZONE_STRIDE
    if m.zone[base + Z_NR_RESERVED_HIGHATOMIC] <= (0 if force else PAGEBLOCK_PAGES):
        return 0
    for order in range(NR_PAGE_ORDERS):
        if st.nr_free[count_of(zone, order, MIGRATE_HIGHATOMIC)] == 0:
            continue
        pfn = page_next(m, free_head(m, zone, order, MIGRATE_HIGHATOMIC))
        size = min(max(PAGEBLOCK_PAGES, 1 << order), m.zone[base + Z_NR_RESERVED_HIGHATOMIC])
        m.zone[base + Z_NR_RESERVED_HIGHATOMIC] -= size
        first = pfn & ~(PAGEBLOCK_PAGES - 1)
        if order < PAGEBLOCK_ORDER:
            move_freepages_block(m, st, zone, first, MIGRATE_HIGHATOMIC, migratetype)
            return size
        del_from_free_list(m, st, zone, pfn, order, MIGRATE_HIGHATOMIC)
        account_freepages(m, zone, -(1 << order), MIGRATE_HIGHATOMIC)
        set_pageblock_types(m, pfn, order, migratetype)
        add_to_free_list(m, st, zone, pfn, order, migratetype, 1)
        account_freepages(m, zone, 1 << order, migratetype)
        return size
    return 0
