"""Shrinking one list of the classic LRU by up to 32 pages.

Models: mm/vmscan.c isolate_lru_folios(), shrink_inactive_list(), shrink_folio_list(), folio_check_references(), shrink_active_list(),
move_folios_to_lru(). Left out: PGDAT_DIRTY and PGDAT_WRITEBACK, demotion, too_many_isolated().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del, list_empty, policy_list
from mmlab.kernels.memcg import count_folio_events, lruvec_memcg, lruvec_node
from mmlab.kernels.scan import count_dirty, count_refill, count_scan, count_steal
from mmlab.kernels.services import folio_referenced, reclaim_folio, wakeup_flusher_threads
from mmlab.kernels.trace import trace_event
from mmlab.model.const import LRU_INACTIVE_FILE, RECLAIM_ACTIVATE, RECLAIM_FREED, RECLAIM_KEEP, SCAN_HELD, SCAN_MAY_UNMAP, SCAN_RECLAIM_IDX_SHIFT
from mmlab.model.page import (
    PG_ACTIVE, PG_LOCKED, PG_LRU, PG_MLOCKED, PG_RECLAIM, PG_REFERENCED, PG_WORKINGSET, PG_WRITEBACK, ZONE_SHIFT, page_flags, page_mapcount,
    page_prev, page_set, page_test_clear, set_page_flags,
)
from mmlab.model.rows import (
    EVENT_LRU_ISOLATE, EVENT_LRU_SHRINK_ACTIVE, EVENT_LRU_SHRINK_INACTIVE, SC_CPU, SC_SCAN_PRIORITY, WB_SC_TAKEN, WB_SC_UNQUEUED_DIRTY,
    Z_INDEX, ZONE_STRIDE,
)
from mmlab.model.vmstat import V_NR_VMSCAN_WRITE, V_PGACTIVATE, V_PGDEACTIVATE, V_PGSKIP_DMA, count_vm_events
from mmlab_linux.reclaimer.lru_batch import BATCH_ADD, batch_add, held_by_batch, lru_add_drain
from mmlab_linux.reclaimer.lruvec import ANON, FILE, folio_is_file, folio_nr_pages, lru_note_cost, put_back, update_zone_lru_size

# lists of the node beyond the five: pages taken off by isolate_lru_folios(), pages it passes over, pages that stay
ISOLATED, SKIPPED, KEPT = 5, 6, 7
# folio_referenced(): young entries, and what kind of VMAs map the page
YOUNG_PTES, REFERENCED_EXEC, REFERENCED_LOCKED = 0xFFFF, 1 << 16, 1 << 17


@kernel
def isolate_lru_folios(m, st, lruvec, lru, nr_to_scan, scan_flags):
    """Move pages from the tail of a list to ISOLATED; those of too high zones go to its head. Returns how many of both were looked at."""
    src = policy_list(m, lruvec, lru)
    skipped = policy_list(m, lruvec, SKIPPED)
    reclaim_idx = scan_flags >> SCAN_RECLAIM_IDX_SHIFT
    scan = 0
    total_scan = 0
    taken = 0
    memcg = lruvec_memcg(m, lruvec)
    zone = 0
    of_zone = 0
    pfn = page_prev(m, src)
    while scan < nr_to_scan and pfn != src:
        flags = page_flags(m, pfn)
        pages = folio_nr_pages(m, pfn, flags)
        total_scan += pages
        zone_index = m.zone[(flags >> ZONE_SHIFT) * ZONE_STRIDE + Z_INDEX]
        list_del(m, pfn)
        if zone_index > reclaim_idx:
            list_add(m, skipped, pfn)
            count_vm_events(m, V_PGSKIP_DMA + zone_index, pages)
        else:
            scan += pages
            if scan_flags & SCAN_MAY_UNMAP == 0 and page_mapcount(m, pfn) > 0:
                list_add(m, src, pfn)
            else:
                set_page_flags(m, pfn, flags & ~PG_LRU)
                list_add(m, policy_list(m, lruvec, ISOLATED), pfn)
                taken += pages
                if flags >> ZONE_SHIFT != zone:  # counted a zone at a time
                    update_zone_lru_size(m, st, memcg, zone, lru, -of_zone)
                    zone = flags >> ZONE_SHIFT
                    of_zone = 0
                of_zone += pages
        pfn = page_prev(m, src)
    update_zone_lru_size(m, st, memcg, zone, lru, -of_zone)
    pfn = page_prev(m, skipped)
    while pfn != skipped:
        list_del(m, pfn)
        list_add(m, src, pfn)
        pfn = page_prev(m, skipped)
    trace_event(m, EVENT_LRU_ISOLATE, reclaim_idx << 8 | lru, nr_to_scan, total_scan, total_scan - scan, taken)
    return total_scan


@leaf
def folio_check_references(m, pfn, kind):
    """RECLAIM_FREED: reclaim it; RECLAIM_KEEP: once more round the inactive list; RECLAIM_ACTIVATE: it is in use."""
    young = folio_referenced(m, pfn)
    was_referenced = page_test_clear(m, pfn, PG_REFERENCED)
    if young & REFERENCED_LOCKED:
        return RECLAIM_ACTIVATE
    if young & YOUNG_PTES == 0:
        return RECLAIM_FREED
    page_set(m, pfn, PG_REFERENCED)
    if was_referenced or young & YOUNG_PTES > 1 or (young & REFERENCED_EXEC and kind == FILE):
        return RECLAIM_ACTIVATE
    return RECLAIM_KEEP


@kernel
def try_to_reclaim(m, st, pfn, kind, scan_flags):
    """What becomes of one isolated page of the inactive list: RECLAIM_*."""
    flags = page_flags(m, pfn)
    if flags & PG_LOCKED:
        return RECLAIM_KEEP
    if flags & PG_MLOCKED:
        return RECLAIM_ACTIVATE
    if flags & PG_WRITEBACK:
        page_set(m, pfn, PG_RECLAIM)
        return RECLAIM_ACTIVATE
    verdict = folio_check_references(m, pfn, kind)
    if verdict == RECLAIM_FREED:
        return reclaim_folio(m, pfn, scan_flags | (SCAN_HELD if held_by_batch(st, pfn) else 0))
    return verdict


@kernel
def return_page(m, st, pfn):
    """An isolated page goes back: to its list, or through the batch to the unevictable one."""
    if page_flags(m, pfn) & PG_MLOCKED:
        batch_add(m, st, pfn, BATCH_ADD)
    else:
        put_back(m, st, pfn)


@kernel
def shrink_inactive_list(m, st, lruvec, lru, nr_to_scan, scan_flags):
    """Scan up to nr_to_scan pages from the inactive tail: pages reclaimed."""
    kind = FILE if lru == LRU_INACTIVE_FILE else ANON
    lru_add_drain(m, st, m.sc[SC_CPU])
    isolated = policy_list(m, lruvec, ISOLATED)
    kept = policy_list(m, lruvec, KEPT)
    nr_scanned = isolate_lru_folios(m, st, lruvec, lru, nr_to_scan, scan_flags)
    count_scan(m, scan_flags, kind, nr_scanned)
    nr_written = m.vmstat[V_NR_VMSCAN_WRITE]
    nr_clean = m.wb[WB_SC_TAKEN] - m.wb[WB_SC_UNQUEUED_DIRTY]
    nr_reclaimed = 0
    if list_empty(m, isolated):
        nr_clean -= 1  # nothing was taken: no reason to write
    pfn = page_prev(m, isolated)
    while pfn != isolated:
        list_del(m, pfn)
        if kind == FILE:
            count_dirty(m, page_flags(m, pfn), 1)
        verdict = try_to_reclaim(m, st, pfn, kind, scan_flags)
        if verdict == RECLAIM_FREED:
            nr_reclaimed += 1
        else:
            flags = page_flags(m, pfn)
            if verdict == RECLAIM_ACTIVATE and flags & PG_MLOCKED == 0:
                set_page_flags(m, pfn, flags | PG_ACTIVE)
                count_folio_events(m, pfn, V_PGACTIVATE, folio_nr_pages(m, pfn, flags))
            list_add(m, kept, pfn)
        pfn = page_prev(m, isolated)
    pfn = page_prev(m, kept)
    while pfn != kept:
        list_del(m, pfn)
        return_page(m, st, pfn)
        pfn = page_prev(m, kept)
    count_steal(m, scan_flags, kind, nr_reclaimed)
    if kind == FILE and m.wb[WB_SC_TAKEN] - m.wb[WB_SC_UNQUEUED_DIRTY] == nr_clean:
        wakeup_flusher_threads(m)
    lru_note_cost(m, st, lruvec, kind, m.vmstat[V_NR_VMSCAN_WRITE] - nr_written, nr_scanned - nr_reclaimed)
    trace_event(m, EVENT_LRU_SHRINK_INACTIVE, lruvec_node(m, lruvec), nr_scanned, nr_reclaimed, m.sc[SC_SCAN_PRIORITY], kind)
    return nr_reclaimed


@kernel
def shrink_active_list(m, st, lruvec, lru, nr_to_scan, scan_flags):
    """Move up to nr_to_scan pages from the active tail to the inactive head; referenced program text stays active."""
    lru_add_drain(m, st, m.sc[SC_CPU])
    isolated = policy_list(m, lruvec, ISOLATED)
    count_refill(m, isolate_lru_folios(m, st, lruvec, lru, nr_to_scan, scan_flags))
    nr_rotated = 0
    nr_deactivated = 0
    kind = ANON
    pfn = page_prev(m, isolated)
    while pfn != isolated:
        list_del(m, pfn)
        flags = page_flags(m, pfn)
        if flags & PG_MLOCKED == 0:
            kind = folio_is_file(flags)
            young = folio_referenced(m, pfn)
            flags = page_flags(m, pfn)
            if young & YOUNG_PTES and young & REFERENCED_EXEC and kind == FILE:
                nr_rotated += folio_nr_pages(m, pfn, flags)
            else:
                nr_deactivated += folio_nr_pages(m, pfn, flags)
                count_folio_events(m, pfn, V_PGDEACTIVATE, folio_nr_pages(m, pfn, flags))
                set_page_flags(m, pfn, (flags & ~PG_ACTIVE) | PG_WORKINGSET)
        return_page(m, st, pfn)
        pfn = page_prev(m, isolated)
    if nr_rotated:
        lru_note_cost(m, st, lruvec, kind, 0, nr_rotated)
    trace_event(m, EVENT_LRU_SHRINK_ACTIVE, lruvec_node(m, lruvec), nr_rotated, nr_deactivated, m.sc[SC_SCAN_PRIORITY], lru)
    return nr_deactivated
