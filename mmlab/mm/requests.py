"""Request replay: a reclaimer alone, as the replacement policy of a cache of equal objects. No address spaces, no page allocator, no swap.

Every object that is in the cache has a frame; the reclaimer sees it as a clean file page. A hit sets the object's accessed bit, or is told
to a reclaimer that wants accesses. On a miss the reclaimer is told of an object that it evicted before, then asked for a frame if the cache
is full (just one), then given the object: the order of a cache simulator, so a policy with an exact order gives the same miss counts. That
takes one frame more than the cache holds. The accessed bit of a new object is clear.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.ops import (
    reclaimer_drain, reclaimer_end_reclaim, reclaimer_eviction_shadow, reclaimer_folio_accessed, reclaimer_folio_added, reclaimer_prepare_scan,
    reclaimer_shrink_node,
)
from mmlab.kernels.prefetch import prefetch
from mmlab.mm.reclaim_fault import blame_reclaimer
from mmlab.mm.workingset import workingset_refault
from mmlab.model.const import (
    DEF_PRIORITY, ENOMEM, RECLAIM_FREED, RECLAIM_KEEP, SCAN_FORCE_DEACTIVATE, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT,
)
from mmlab.model.gfp import ZONE_NORMAL
from mmlab.model.page import NO_MAPPING, PG_LRU, PG_UPTODATE, page_flags, page_next, page_prev, set_page_flags
from mmlab.model.rows import RECLAIM_FINE, RECLAIM_NO_PAGE, RECLAIM_NOT_USER, RECLAIM_ON_LIST, SC_MAX_PFN, SC_NEEDS_FUTURE, SC_NOW_NS, SC_WANTS_ACCESS, SC_WANTS_PASSES

NS_PER_REQUEST = 1000  # the clock of policies that look at it
NEVER = 1 << 62  # next use of an object that is not asked for again
# an entry of m.rq_object: a frame's object and, in the same word so that a hit touches nothing else, its accessed bit
ACCESSED_SHIFT = 31
ACCESSED = 1 << ACCESSED_SHIFT
OBJECT = ACCESSED - 1
LOOK_AHEAD = 8  # requests
MAX_RECLAIM_RETRIES = 16
SCAN_FLAGS = SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | ZONE_NORMAL << SCAN_RECLAIM_IDX_SHIFT


@leaf
def folio_referenced(m, pfn):
    """The service: 1 if the object was asked for since the last call."""
    entry = np.int64(m.rq_object[pfn])
    m.rq_object[pfn] = entry & OBJECT
    return entry >> ACCESSED_SHIFT


@leaf
def frame_fault(m, pfn):
    """What is wrong with a frame that the reclaimer names: RECLAIM_FINE, or another RECLAIM_* (reclaim_fault.py)."""
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN]:
        return RECLAIM_NO_PAGE
    if np.int64(m.rq_object[pfn]) == NO_MAPPING:
        return RECLAIM_NOT_USER
    return RECLAIM_ON_LIST if page_flags(m, pfn) & PG_LRU else RECLAIM_FINE


@leaf
def drop_object(m, pfn):
    """The object leaves the cache, its frame is free: RECLAIM_FREED."""
    m.rq_object[pfn] = NO_MAPPING  # the table's entry stays: a store to a place long out of the cache would hold up all others
    set_page_flags(m, pfn, PG_UPTODATE)
    nr_free = np.int64(m.rq_free[0]) + 1
    m.rq_free[0] = nr_free
    m.rq_free[nr_free] = pfn
    return RECLAIM_FREED


@leaf
def reclaim_folio(m, pfn, scan_flags):
    """The service: RECLAIM_FREED, or RECLAIM_KEEP for a frame that no reclaimer may name."""
    why = frame_fault(m, pfn)
    if unlikely(why != RECLAIM_FINE):
        blame_reclaimer(m, why, pfn)
        return RECLAIM_KEEP
    return drop_object(m, pfn)


@kernel
def reclaim_folio_with_shadow(m, pfn, scan_flags):
    """The service for a reclaimer that remembers what it evicted."""
    why = frame_fault(m, pfn)
    if unlikely(why != RECLAIM_FINE):
        blame_reclaimer(m, why, pfn)
        return RECLAIM_KEEP
    m.rq_shadow[np.int64(m.rq_object[pfn]) & OBJECT] = reclaimer_eviction_shadow(m, pfn) + 1
    return drop_object(m, pfn)


@leaf
def free_a_frame(m, wants_passes):
    """Ask for one frame with growing pressure, as direct reclaim does: how many are free then, 0 if the reclaimer frees none, whatever it says.
    wants_passes: 0 for a reclaimer that has no use for the begin and end of passes, which saves two calls a miss."""
    flags = SCAN_FLAGS
    for _ in range(MAX_RECLAIM_RETRIES):
        priority = DEF_PRIORITY
        while priority >= 0:
            if wants_passes:
                reclaimer_prepare_scan(m, 0, priority, 1, flags)
            reclaimer_shrink_node(m, 0, priority, 1, flags)
            if m.rq_free[0] > 0:
                if wants_passes:
                    reclaimer_end_reclaim(m, 0)
                return np.int64(m.rq_free[0])
            priority -= 1
        reclaimer_end_reclaim(m, 0)
        reclaimer_drain(m, 0)  # the whole of a small cache may still wait to join its list
        flags |= SCAN_FORCE_DEACTIVATE
    return 0


@leaf
def take_frame(m, wanted):
    """Give an object the frame that is kept free: its pfn."""
    nr_free = np.int64(m.rq_free[0])
    pfn = np.int64(m.rq_free[nr_free])
    m.rq_free[0] = nr_free - 1
    m.rq_table[wanted] = pfn
    m.rq_object[pfn] = wanted
    return pfn


@leaf
def look_ahead(m, ids, i, wants_accesses):
    """Bring into the cache what requests after i will touch: the table's entry, then the frame, at last its neighbours on a list."""
    prefetch(m.rq_table, np.int64(ids[np.uint64(i + 3 * LOOK_AHEAD)]))
    pfn = np.int64(m.rq_table[np.int64(ids[np.uint64(i + 2 * LOOK_AHEAD)])])
    prefetch(m.rq_object, pfn)
    if wants_accesses:
        prefetch(m.page, pfn * 4)
        pfn = np.int64(m.rq_table[np.int64(ids[np.uint64(i + LOOK_AHEAD)])])
        prefetch(m.page, page_next(m, pfn) * 4)
        prefetch(m.page, page_prev(m, pfn) * 4)


@kernel
def replay_requests(m, ids, next_use, start, stop):
    """Requests start .. stop-1: how many missed, or -ENOMEM when the reclaimer gives no frame.

    ids: uint32, the object of each request; next_use: int64, number of the request that asks for the same object next (NEVER:
    none), read only for a reclaimer that needs the future.
    """
    wants_accesses = m.sc[SC_WANTS_ACCESS]
    needs_future = m.sc[SC_NEEDS_FUTURE]
    wants_passes = m.sc[SC_WANTS_PASSES]
    shadows = 1 if len(m.rq_shadow) == len(m.rq_table) else 0
    last_ahead = len(ids) - 3 * LOOK_AHEAD
    misses = 0
    for i in range(start, stop):
        if i < last_ahead:
            look_ahead(m, ids, i, wants_accesses)
        wanted = np.int64(ids[np.uint64(i)])
        pfn = np.int64(m.rq_table[wanted])
        entry = np.int64(m.rq_object[pfn])
        if entry & OBJECT != wanted:
            misses += 1
            m.sc[SC_NOW_NS] = i * NS_PER_REQUEST
            pfn = take_frame(m, wanted)
            if needs_future:
                m.next_use[pfn] = next_use[i]
            if shadows and m.rq_shadow[wanted] > 0:
                workingset_refault(m, pfn, m.rq_shadow[wanted] - 1, 1)
            if m.rq_free[0] == 0 and free_a_frame(m, wants_passes) == 0:
                return -ENOMEM
            reclaimer_folio_added(m, pfn)
        elif wants_accesses:
            if needs_future:
                m.next_use[pfn] = next_use[i]
            reclaimer_folio_accessed(m, pfn)
        elif entry == wanted:
            m.rq_object[pfn] = wanted | ACCESSED
    return misses


@kernel
def find_next_uses(m, ids, last, next_use):
    """Fill next_use (int64, one a request) from ids; last: int64, one an object, all NEVER."""
    i = len(ids)
    while i > 0:
        i -= 1
        wanted = np.int64(ids[i])
        next_use[i] = last[wanted]
        last[wanted] = i
    return 0
