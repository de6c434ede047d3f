"""What happens to one victim of reclaim: demoted, unmapped, swapped out or written, freed, or kept.

Models: mm/vmscan.c shrink_folio_list(), pageout(), __remove_mapping().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import PG_PARTIALLY_MAPPED, entire_mapcount, nr_pages_mapped
from mmlab.kernels.memory_tiers import can_demote
from mmlab.kernels.likely import unlikely
from mmlab.kernels.ops import reclaimer_eviction_shadow, reclaimer_folio_removed
from mmlab.kernels.services import free_pages, rmap_walk
from mmlab.kernels.trace import trace_event
from mmlab.kernels.zones import page_node
from mmlab.mm.buffer import bh_lru_holds
from mmlab.mm.demotion import demote_folio
from mmlab.mm.huge_memory import free_large_folio, split_folio, split_huge_pmds_of
from mmlab.mm.page_cache import filemap_remove
from mmlab.mm.page_io import swap_io_poll, swap_writepage
from mmlab.mm.reclaim_fault import blame_reclaimer, victim_fault
from mmlab.mm.shmem import shmem_acct_blocks, shmem_writepage
from mmlab.mm.swap_state import add_to_swap, delete_from_swap_cache
from mmlab.model.const import (
    HPAGE_PMD_ORDER, RECLAIM_ACTIVATE, RECLAIM_FREED, RECLAIM_KEEP, RMAP_DIRTY, RMAP_UNMAP, SCAN_HELD, SCAN_MAY_SWAP, SCAN_MAY_WRITEPAGE,
)
from mmlab.model.page import (
    KIND_FREE, NO_MAPPING, PG_ANON, PG_DIRTY, PG_HEAD, PG_MLOCKED, PG_RECLAIM, PG_SWAPBACKED, PG_SWAPCACHE, PG_UNEVICTABLE, PG_WRITEBACK,
    page_clear, page_kind, page_mapcount, page_mapping, page_order, page_refs, page_set, page_test, set_page_counts, set_page_mapping,
)
from mmlab.model.rows import (
    EVENT_WRITE_FOLIO, MTHP_STRIDE, MTHP_SWPOUT_FALLBACK, RECLAIM_FINE, SC_BDEV, SC_NR_FREED, SC_NR_SWAP_SLOTS, SC_NR_VICTIMS,
)
from mmlab.model.vmstat import V_NR_VMSCAN_IMMEDIATE_RECLAIM, V_NR_VMSCAN_WRITE, V_PGLAZYFREED, V_THP_SWPOUT_FALLBACK


@kernel
def do_reclaim_folio(m, pfn, scan_flags):
    """Service reclaim_folio: RECLAIM_FREED, _KEEP or _ACTIVATE. The page is on no list; it is freed here or stays the caller's. A page that no
    reclaimer may name is kept, and stops the run (reclaim_fault.py).
    """
    why = victim_fault(m, pfn)
    if unlikely(why != RECLAIM_FINE):
        blame_reclaimer(m, why, pfn)
        return RECLAIM_KEEP
    m.sc[SC_NR_VICTIMS] += 1
    fate = reclaim_victim(m, pfn, scan_flags)
    if fate == RECLAIM_FREED:
        m.sc[SC_NR_FREED] += 1
    return fate


@leaf
def reclaim_victim(m, pfn, scan_flags):
    """do_reclaim_folio() of a page that may go.

    Anonymous: a swap slot, unmapped, written if dirty, freed with a shadow in the slot; one that a disk is writing is kept, and freed when
    it is met again. File: unmapped; a clean page leaves a shadow; a dirty one is kept for write-back. With SCAN_HELD a page is unmapped, put
    into the swap cache if it is anonymous, and kept; one from MADV_FREE stays mapped.
    """
    swap_io_poll(m)
    if page_test(m, pfn, PG_UNEVICTABLE | PG_MLOCKED):
        return RECLAIM_ACTIVATE
    if page_test(m, pfn, PG_WRITEBACK):
        page_set(m, pfn, PG_RECLAIM)
        return RECLAIM_ACTIVATE
    if scan_flags & SCAN_HELD == 0 and can_demote(m, page_node(m, pfn), scan_flags) and demote_folio(m, pfn, scan_flags):
        return RECLAIM_FREED
    if page_test(m, pfn, PG_HEAD):
        if page_test(m, pfn, PG_ANON):
            return reclaim_large_folio(m, pfn, scan_flags)
        if split_folio(m, pfn) == 0:  # shared memory: its pages are on the lists again
            return RECLAIM_ACTIVATE
        reclaimer_folio_removed(m, pfn)
    return reclaim_small_folio(m, pfn, scan_flags)


@leaf
def pageout(m, pfn, nr):
    """Write a dirty folio of the swap cache: 1 if it is under writeback now, 0 if it can go at once."""
    page_clear(m, pfn, PG_DIRTY)
    page_set(m, pfn, PG_RECLAIM)
    swap_writepage(m, pfn)
    m.vmstat[V_NR_VMSCAN_WRITE] += nr
    trace_event(m, EVENT_WRITE_FOLIO, pfn, 0, 0, 0, 0)
    if page_test(m, pfn, PG_WRITEBACK):
        return 1
    page_clear(m, pfn, PG_RECLAIM)
    return 0


@kernel
def reclaim_large_folio(m, head, scan_flags):
    """An anonymous large folio: in one piece to a device that takes such, else split, its pages on the lists again and the first one reclaimed."""
    order = page_order(m, head)
    if scan_flags & SCAN_HELD or page_refs(m, head) > (1 if page_test(m, head, PG_SWAPCACHE) else 0):
        return RECLAIM_KEEP
    split = nr_pages_mapped(m, head) < 1 << order and entire_mapcount(m, head) == 0 and page_test(m, head + 1, PG_PARTIALLY_MAPPED)
    if scan_flags & SCAN_MAY_SWAP == 0:
        return RECLAIM_ACTIVATE
    if split == 0 and page_test(m, head, PG_SWAPCACHE) == 0 and page_test(m, head, PG_SWAPBACKED) and add_to_swap(m, head) < 0:
        split = 1
        if m.sc[SC_NR_SWAP_SLOTS] > 1:
            m.mthp[order * MTHP_STRIDE + MTHP_SWPOUT_FALLBACK] += 1
            if order == HPAGE_PMD_ORDER:
                m.vmstat[V_THP_SWPOUT_FALLBACK] += 1
    if split:
        if split_folio(m, head) == 0:
            return RECLAIM_ACTIVATE
        if page_kind(m, head) == KIND_FREE:
            return RECLAIM_FREED  # nobody mapped the first page, or it was never written: it is gone
        reclaimer_folio_removed(m, head)
        return reclaim_small_folio(m, head, scan_flags)
    split_huge_pmds_of(m, head)
    lazy = page_test(m, head, PG_SWAPBACKED) == 0
    if lazy and (page_test(m, head, PG_DIRTY) or rmap_walk(m, head, RMAP_DIRTY)):
        page_set(m, head, PG_SWAPBACKED)
        return RECLAIM_ACTIVATE
    rmap_walk(m, head, RMAP_UNMAP)
    if lazy:
        m.vmstat[V_PGLAZYFREED] += 1 << order
    else:
        if page_test(m, head, PG_DIRTY) and pageout(m, head, 1 << order):
            return RECLAIM_KEEP
        delete_from_swap_cache(m, head, reclaimer_eviction_shadow(m, head))
    free_large_folio(m, head, order)
    set_page_counts(m, head, 0, 0)
    set_page_mapping(m, head, NO_MAPPING)
    free_pages(m, head, order)
    return RECLAIM_FREED


@kernel
def reclaim_small_folio(m, pfn, scan_flags):
    """do_reclaim_folio() of a single page."""
    if page_refs(m, pfn) > (1 if page_test(m, pfn, PG_SWAPCACHE) or page_test(m, pfn, PG_ANON) == 0 else 0):
        return RECLAIM_KEEP
    if page_test(m, pfn, PG_ANON) and page_test(m, pfn, PG_SWAPBACKED) == 0:
        # MADV_FREE: a page written since is kept, for swap again; a clean one is dropped
        if page_test(m, pfn, PG_DIRTY) or rmap_walk(m, pfn, RMAP_DIRTY):
            page_set(m, pfn, PG_SWAPBACKED)
            return RECLAIM_ACTIVATE
        if scan_flags & SCAN_HELD:
            return RECLAIM_ACTIVATE
        rmap_walk(m, pfn, RMAP_UNMAP)
        m.vmstat[V_PGLAZYFREED] += 1
    elif page_test(m, pfn, PG_ANON | PG_SWAPCACHE):
        if page_test(m, pfn, PG_SWAPCACHE) == 0:
            if scan_flags & SCAN_MAY_SWAP == 0 or add_to_swap(m, pfn) < 0:
                return RECLAIM_ACTIVATE
            page_set(m, pfn, PG_DIRTY)
        if page_mapcount(m, pfn) > 0:
            rmap_walk(m, pfn, RMAP_UNMAP)
            if page_mapcount(m, pfn) > 0:
                return RECLAIM_ACTIVATE
        if scan_flags & SCAN_HELD:
            return RECLAIM_KEEP
        if page_test(m, pfn, PG_DIRTY):
            if scan_flags & SCAN_MAY_WRITEPAGE == 0 or pageout(m, pfn, 1):
                return RECLAIM_KEEP
        delete_from_swap_cache(m, pfn, reclaimer_eviction_shadow(m, pfn))
    else:
        if page_mapcount(m, pfn) > 0:
            rmap_walk(m, pfn, RMAP_UNMAP)
            if page_mapcount(m, pfn) > 0:
                return RECLAIM_ACTIVATE
        if page_test(m, pfn, PG_SWAPBACKED) and scan_flags & SCAN_HELD:
            return RECLAIM_KEEP
        if page_test(m, pfn, PG_SWAPBACKED) and page_test(m, pfn, PG_DIRTY) == 0:
            inode = page_mapping(m, pfn)  # read only, it holds zeroes: nothing is lost
            filemap_remove(m, pfn, -1)
            shmem_acct_blocks(m, inode, -1)
            set_page_counts(m, pfn, 0, 0)
            free_pages(m, pfn, 0)
            return RECLAIM_FREED
        if page_test(m, pfn, PG_SWAPBACKED):
            if scan_flags & SCAN_MAY_SWAP == 0 or shmem_writepage(m, pfn) < 0:
                return RECLAIM_ACTIVATE
            if pageout(m, pfn, 1):
                return RECLAIM_KEEP
            delete_from_swap_cache(m, pfn, reclaimer_eviction_shadow(m, pfn))
            set_page_counts(m, pfn, 0, 0)
            free_pages(m, pfn, 0)
            return RECLAIM_FREED
        if page_test(m, pfn, PG_DIRTY):
            page_set(m, pfn, PG_RECLAIM)
            m.vmstat[V_NR_VMSCAN_IMMEDIATE_RECLAIM] += 1
            return RECLAIM_ACTIVATE
        if page_mapping(m, pfn) == m.sc[SC_BDEV] and bh_lru_holds(m, pfn):
            return RECLAIM_ACTIVATE
        if scan_flags & SCAN_HELD:
            return RECLAIM_KEEP
        filemap_remove(m, pfn, reclaimer_eviction_shadow(m, pfn))
    set_page_counts(m, pfn, 0, 0)
    set_page_mapping(m, pfn, NO_MAPPING)
    free_pages(m, pfn, 0)
    return RECLAIM_FREED
