"""The zone's free lists: eleven orders times six types. Merging on the way in, splitting on the way out.

Models: mm/page_alloc.c __free_one_page(), expand(), __rmqueue_smallest(), account_freepages(), move_freepages_block().
Left out: page_alloc.shuffle, page reporting, debug guard pages. Cost: O(orders) a block.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.lists import list_add, list_add_tail, list_del
from mmlab.kernels.zones import mod_zone_free, take_zone_free
from mmlab.mm.compaction_capture import compaction_capture
from mmlab.model.const import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_PCPTYPES, MIGRATE_TYPES, NR_PAGE_ORDERS, PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
)
from mmlab.model.page import (
    PG_BUDDY, ZONE_MASK, ZONE_SHIFT, page_flags, page_next, page_order, page_prev, set_page_flags, set_page_next, set_page_order,
    set_page_prev,
)
from mmlab.model.rows import CC_CAPTURE, ZONE_STRIDE, Z_END_PFN, Z_FREE_CMA, Z_FREE_HEADS, Z_FREE_HIGHATOMIC, Z_START_PFN

COUNTS_PER_ZONE = MIGRATE_TYPES * NR_PAGE_ORDERS


@leaf
def pageblock_type(m, pfn):
    """MIGRATE_* of the frame's pageblock."""
    return np.int64(m.pageblock[pfn >> PAGEBLOCK_ORDER])


@leaf
def set_pageblock_types(m, pfn, order, migratetype):
    """Give all pageblocks of a block (order >= 9), or the one it lies in, a type."""
    first = pfn >> PAGEBLOCK_ORDER
    for block in range(first, first + max(1, (1 << order) >> PAGEBLOCK_ORDER)):
        m.pageblock[block] = migratetype


@leaf
def free_head(m, zone, order, migratetype):
    """Record of the list's head."""
    return m.zone[zone * ZONE_STRIDE + Z_FREE_HEADS] + order * MIGRATE_TYPES + migratetype


@leaf
def count_of(zone, order, migratetype):
    """Index in st.nr_free of the number of blocks on a list."""
    return zone * COUNTS_PER_ZONE + migratetype * NR_PAGE_ORDERS + order


@leaf
def account_freepages(m, zone, nr_pages, migratetype):
    """Free pages of a type appear (or go): NR_FREE and, exactly, the highatomic and CMA ones; isolated pages do not count as free."""
    if migratetype != MIGRATE_ISOLATE:
        mod_zone_free(m, zone, nr_pages)
        if migratetype == MIGRATE_HIGHATOMIC:
            m.zone[zone * ZONE_STRIDE + Z_FREE_HIGHATOMIC] += nr_pages
        elif migratetype == MIGRATE_CMA:
            m.zone[zone * ZONE_STRIDE + Z_FREE_CMA] += nr_pages


@leaf
def add_to_free_list(m, st, zone, pfn, order, migratetype, to_tail):
    """Mark a block free and link it. Writes the frame's zone: inside a block of a fresh machine it was never set."""
    set_page_flags(m, pfn, (zone << ZONE_SHIFT) | PG_BUDDY)
    set_page_order(m, pfn, order)
    if to_tail:
        list_add_tail(m, free_head(m, zone, order, migratetype), pfn)
    else:
        list_add(m, free_head(m, zone, order, migratetype), pfn)
    st.nr_free[count_of(zone, order, migratetype)] += 1


@leaf
def del_from_free_list(m, st, zone, pfn, order, migratetype):
    """Unlink a free block."""
    list_del(m, pfn)
    set_page_flags(m, pfn, zone << ZONE_SHIFT)
    st.nr_free[count_of(zone, order, migratetype)] -= 1


@leaf
def is_free_block(m, zone, pfn, order):
    """1 if a free block of exactly this order begins at pfn in this zone."""
    if page_flags(m, pfn) & (PG_BUDDY | ZONE_MASK) != PG_BUDDY | (zone << ZONE_SHIFT):
        return 0
    return 1 if page_order(m, pfn) == order else 0


@kernel
def free_one_page(m, st, zone, pfn, order, migratetype, to_tail):
    """Put a block on the free lists, merged with its buddies as far as that goes. migratetype: what its pageblock is now.

    It goes to the head of its list, or to the tail if the buddy of the block it may still become is free: then it is better left alone.
    """
    account_freepages(m, zone, 1 << order, migratetype)
    wanted = m.cc[CC_CAPTURE] if m.cc[CC_CAPTURE] else -1
    while order < MAX_ORDER:
        if unlikely(order == wanted) and compaction_capture(m, zone, pfn, order, migratetype):
            account_freepages(m, zone, -(1 << order), migratetype)
            return 0
        buddy = pfn ^ (1 << order)
        if is_free_block(m, zone, buddy, order) == 0:
            if order < MAX_ORDER - 1 and is_free_block(m, zone, (pfn & buddy) ^ (2 << order), order + 1):
                to_tail = 1
            break
        buddy_type = migratetype
        if order >= PAGEBLOCK_ORDER:
            buddy_type = pageblock_type(m, buddy)
            if buddy_type != migratetype:
                if max(buddy_type, migratetype) >= MIGRATE_PCPTYPES:
                    break
                set_pageblock_types(m, buddy, order, migratetype)
        del_from_free_list(m, st, zone, buddy, order, buddy_type)
        pfn &= buddy
        order += 1
    add_to_free_list(m, st, zone, pfn, order, migratetype, to_tail)
    return 0


@kernel
def free_pages_ok(m, st, zone, pfn, order):
    """__free_pages_ok(): past the per-CPU lists, in pieces of at most a pageblock."""
    end = pfn + (1 << order)
    piece = min(order, PAGEBLOCK_ORDER)
    while pfn < end:
        free_one_page(m, st, zone, pfn, piece, pageblock_type(m, pfn), 0)
        pfn += 1 << piece
    return 0


@leaf
def expand(m, st, zone, pfn, low, high, migratetype):
    """Cut a block of order `high` to its lowest 2^low pages; upper halves go to the heads of their lists. Returns the pages put back."""
    order = high
    while order > low:
        order -= 1
        add_to_free_list(m, st, zone, pfn + (1 << order), order, migratetype, 0)
    return (1 << high) - (1 << low)


@kernel
def take_first(m, st, zone, order, current, migratetype):
    """The first block of a list that has one (order `current`), cut to `order`; the rest stays with the list's type. Returns pfn."""
    pfn = page_next(m, free_head(m, zone, current, migratetype))
    del_from_free_list(m, st, zone, pfn, current, migratetype)
    expand(m, st, zone, pfn, order, current, migratetype)
    account_freepages(m, zone, -(1 << order), migratetype)
    return pfn


@leaf
def rmqueue_smallest(m, st, zone, order, migratetype):
    """A block from the smallest order that has one of this type: pfn, or -1."""
    counts = count_of(zone, 0, migratetype)
    for current in range(order, NR_PAGE_ORDERS):
        if st.nr_free[counts + current] > 0:
            return take_first(m, st, zone, order, current, migratetype)
    return -1


@kernel
def take_run(m, st, zone, order, current, migratetype, wanted, head):
    """What take_first() would give `wanted` times in a row, as far as one block (order `current`) goes: lowest first, to the tail of `head`.

    No smaller order has a block, so a block is used up from its start, and what is left of it are the buddies above. Returns how many it gave.
    """
    pfn = page_next(m, free_head(m, zone, current, migratetype))
    del_from_free_list(m, st, zone, pfn, current, migratetype)
    count = min(wanted, 1 << (current - order))
    end = pfn + (count << order)
    last = page_prev(m, head)
    for page in range(pfn, end, 1 << order):
        set_page_flags(m, page, zone << ZONE_SHIFT)
        set_page_next(m, last, page)
        set_page_prev(m, page, last)
        last = page
    set_page_next(m, last, head)
    set_page_prev(m, head, last)
    piece = order
    while end < pfn + (1 << current):
        while (end - pfn) >> piece & 1 == 0:
            piece += 1
        add_to_free_list(m, st, zone, end, piece, migratetype, 0)
        end += 1 << piece
    take_zone_free(m, zone, 1 << order, count)
    return count


@leaf
def rmqueue_smallest_run(m, st, zone, order, migratetype, wanted, head):
    """rmqueue_smallest() up to `wanted` times, to the tail of `head`. Returns how many blocks there were; there may be more."""
    counts = count_of(zone, 0, migratetype)
    for current in range(order, NR_PAGE_ORDERS):
        if st.nr_free[counts + current] > 0:
            return take_run(m, st, zone, order, current, migratetype, wanted, head)
    return 0


@leaf
def pageblock_in_zone(m, zone, pfn):
    """1 if the frame's pageblock lies wholly inside the zone's span."""
    start = pfn & ~(PAGEBLOCK_PAGES - 1)
    base = zone * ZONE_STRIDE
    return 1 if start >= m.zone[base + Z_START_PFN] and start + PAGEBLOCK_PAGES <= m.zone[base + Z_END_PFN] else 0


@kernel
def move_freepages_block(m, st, zone, pfn, old_type, new_type):
    """Give a pageblock a new type; its free blocks, lowest first, move to the tails of that type's lists."""
    at = pfn & ~(PAGEBLOCK_PAGES - 1)
    end = at + PAGEBLOCK_PAGES
    while at < end:
        if page_flags(m, at) & PG_BUDDY == 0:
            at += 1
            continue
        order = page_order(m, at)
        list_del(m, at)
        list_add_tail(m, free_head(m, zone, order, new_type), at)
        st.nr_free[count_of(zone, order, old_type)] -= 1
        st.nr_free[count_of(zone, order, new_type)] += 1
        account_freepages(m, zone, -(1 << order), old_type)
        account_freepages(m, zone, 1 << order, new_type)
        at += 1 << order
    set_pageblock_types(m, pfn, 0, new_type)
    return 0
