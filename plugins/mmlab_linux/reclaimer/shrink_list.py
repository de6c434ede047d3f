"""Shrinking one list of the classic LRU by up to 32 pages.

Models: mm/vmscan.c isolate_lru_folios(), shrink_inactive_list(), shrink_folio_list(), folio_check_references(), shrink_active_list(),
move_folios_to_lru(). Left out: PGDAT_DIRTY and PGDAT_WRITEBACK, demotion, too_many_isolated().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del, list_empty, policy_list
from mmlab.kernels.memcg import count_folio_events, lruvec_memcg, lruvec_node
from mmlab.kernels.scan import count_dirty, count_refill, count_scan, count_steal, need_resched
from mmlab.kernels.services import cond_resched, folio_referenced, reclaim_folio, wakeup_flusher_threads
from mmlab.kernels.trace import trace_event
from mmlab.model.const import (
    LRU_INACTIVE_FILE, RECLAIM_ACTIVATE, RECLAIM_FREED, RECLAIM_KEEP, SCAN_HELD, SCAN_KSWAPD, SCAN_MAY_UNMAP, SCAN_RECLAIM_IDX_SHIFT,
)
from mmlab.model.page import (
    PG_ACTIVE, PG_LOCKED, PG_LRU, PG_MLOCKED, PG_RECLAIM, PG_REFERENCED, PG_WORKINGSET, PG_WRITEBACK, ZONE_SHIFT, page_flags,
    page_mapcount, page_prev, page_set, page_test_clear, set_page_flags,
)
from mmlab.model.rows import (
    EVENT_LRU_ISOLATE, EVENT_LRU_SHRINK_ACTIVE, EVENT_LRU_SHRINK_INACTIVE, SC_CPU, SC_SCAN_PRIORITY, SC_YIELDED, WB_SC_TAKEN,
    WB_SC_UNQUEUED_DIRTY, ZONE_STRIDE, Z_INDEX,
)
from mmlab.model.vmstat import V_NR_VMSCAN_WRITE, V_PGDEACTIVATE, V_PGSKIP_DMA, count_vm_events
from mmlab_linux.reclaimer.lru_batch import BATCH_ADD, batch_add, held_by_batch, lru_add_drain
from mmlab_linux.reclaimer.lruvec import ANON, FILE, folio_is_file, folio_nr_pages, lru_note_cost, note_kept, put_back, update_zone_lru_size

# lists of the node beyond the five: pages taken off by isolate_lru_folios(), pages it passes over, pages that stay. kswapd, which can be preempted
# within a batch, has its own from ISOLATED + OF_KSWAPD on
ISOLATED, SKIPPED, KEPT = 5, 6, 7
OF_KSWAPD = 3
# st.inactive: the batch of an inactive list that is being shrunk, one of the running task and then one of each node's kswapd
BATCH_LRU, BATCH_SCANNED, BATCH_RECLAIMED, BATCH_WRITTEN, BATCH_CLEAN = 0, 1, 2, 3, 4  # BATCH_LRU: LRU_* + 1, 0: there is none
INACTIVE_STRIDE = 8
# folio_referenced(): young entries, and what kind of VMAs map the page
YOUNG_PTES, REFERENCED_EXEC, REFERENCED_LOCKED = 0xFFFF, 1 << 16, 1 << 17


@leaf
def pass_list(m, lruvec, number, scan_flags):
    """Head of ISOLATED, SKIPPED or KEPT of who reclaims."""
    return policy_list(m, lruvec, number + (OF_KSWAPD if scan_flags & SCAN_KSWAPD else 0))


@kernel
def isolate_lru_folios(m, st, lruvec, lru, nr_to_scan, scan_flags):
    """Move pages from the tail of a list to ISOLATED; those of too high zones go to its head. Returns how many of both were looked at."""
    src = policy_list(m, lruvec, lru)
    skipped = pass_list(m, lruvec, SKIPPED, scan_flags)
    isolated = pass_list(m, lruvec, ISOLATED, scan_flags)
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
                list_add(m, isolated, pfn)
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
def isolate_inactive(m, st, lruvec, lru, nr_to_scan, scan_flags, row):
    """Begin a batch of the inactive list."""
    lru_add_drain(m, st, m.sc[SC_CPU])
    nr_scanned = isolate_lru_folios(m, st, lruvec, lru, nr_to_scan, scan_flags)
    count_scan(m, scan_flags, FILE if lru == LRU_INACTIVE_FILE else ANON, nr_scanned)
    st.inactive[row + BATCH_LRU] = lru + 1
    st.inactive[row + BATCH_SCANNED] = nr_scanned
    st.inactive[row + BATCH_RECLAIMED] = st.inactive[row + BATCH_WRITTEN] = 0
    nothing = list_empty(m, pass_list(m, lruvec, ISOLATED, scan_flags))  # nothing was taken: no reason to write
    st.inactive[row + BATCH_CLEAN] = m.wb[WB_SC_TAKEN] - m.wb[WB_SC_UNQUEUED_DIRTY] - nothing


@kernel
def shrink_isolated(m, st, lruvec, kind, scan_flags, row):
    """Reclaim what can be of ISOLATED; the rest goes to KEPT. Returns 1 if it is preempted before the end: kswapd, to go on later."""
    isolated = pass_list(m, lruvec, ISOLATED, scan_flags)
    kept = pass_list(m, lruvec, KEPT, scan_flags)
    nr_written = m.vmstat[V_NR_VMSCAN_WRITE]
    while list_empty(m, isolated) == 0:
        pfn = page_prev(m, isolated)
        list_del(m, pfn)
        if kind == FILE:
            count_dirty(m, page_flags(m, pfn), 1)
        verdict = try_to_reclaim(m, st, pfn, kind, scan_flags)
        if verdict == RECLAIM_FREED:
            st.inactive[row + BATCH_RECLAIMED] += 1
        else:
            note_kept(m, pfn, verdict)
            list_add(m, kept, pfn)
        if need_resched(m) and list_empty(m, isolated) == 0:
            st.inactive[row + BATCH_WRITTEN] += m.vmstat[V_NR_VMSCAN_WRITE] - nr_written
            if scan_flags & SCAN_KSWAPD:
                return 1
            give_way(m, st)
            nr_written = m.vmstat[V_NR_VMSCAN_WRITE]
    st.inactive[row + BATCH_WRITTEN] += m.vmstat[V_NR_VMSCAN_WRITE] - nr_written
    return 0


@kernel
def give_way(m, st):
    """cond_resched(): kswapd has its turn within a task's batch. What the task's pass still has to do is kept meanwhile."""
    for lru in range(4):
        st.given_way[lru] = st.nr[lru]
        st.given_way[4 + lru] = st.targets[lru]
    for i in range(len(st.control)):
        st.given_way[8 + i] = st.control[i]
    cond_resched(m)
    for lru in range(4):
        st.nr[lru] = st.given_way[lru]
        st.targets[lru] = st.given_way[4 + lru]
    for i in range(len(st.control)):
        st.control[i] = st.given_way[8 + i]


@kernel
def shrink_inactive_list(m, st, lruvec, lru, nr_to_scan, scan_flags):
    """Scan up to nr_to_scan pages from the inactive tail, or go on with a batch in which kswapd was preempted: pages reclaimed.
    m.sc[SC_YIELDED] is set if it is preempted (again)."""
    kind = FILE if lru == LRU_INACTIVE_FILE else ANON
    row = (1 + lruvec_node(m, lruvec) if scan_flags & SCAN_KSWAPD else 0) * INACTIVE_STRIDE
    if st.inactive[row + BATCH_LRU] == 0:
        isolate_inactive(m, st, lruvec, lru, nr_to_scan, scan_flags, row)
    if shrink_isolated(m, st, lruvec, kind, scan_flags, row):
        m.sc[SC_YIELDED] = 1
        return 0
    kept = pass_list(m, lruvec, KEPT, scan_flags)
    while list_empty(m, kept) == 0:
        pfn = page_prev(m, kept)
        list_del(m, pfn)
        return_page(m, st, pfn)
    nr_scanned, nr_reclaimed = st.inactive[row + BATCH_SCANNED], st.inactive[row + BATCH_RECLAIMED]
    count_steal(m, scan_flags, kind, nr_reclaimed)
    if kind == FILE and m.wb[WB_SC_TAKEN] - m.wb[WB_SC_UNQUEUED_DIRTY] == st.inactive[row + BATCH_CLEAN]:
        wakeup_flusher_threads(m)
    lru_note_cost(m, st, lruvec, kind, st.inactive[row + BATCH_WRITTEN], nr_scanned - nr_reclaimed)
    trace_event(m, EVENT_LRU_SHRINK_INACTIVE, lruvec_node(m, lruvec), nr_scanned, nr_reclaimed, m.sc[SC_SCAN_PRIORITY], kind)
    st.inactive[row + BATCH_LRU] = 0
    return nr_reclaimed


@kernel
def shrink_active_list(m, st, lruvec, lru, nr_to_scan, scan_flags):
    """Move up to nr_to_scan pages from the active tail to the inactive head; referenced program text stays active."""
    lru_add_drain(m, st, m.sc[SC_CPU])
    isolated = pass_list(m, lruvec, ISOLATED, scan_flags)
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
