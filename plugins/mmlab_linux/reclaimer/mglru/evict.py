"""Eviction from the oldest generation: sorting, isolating, shrinking a batch.

Models: mm/vmscan.c sort_folio(), isolate_folio(), scan_folios(), isolate_folios(), evict_folios(), get_nr_to_scan(),
try_to_shrink_lruvec(), should_abort_scan(), shrink_one(); shrink_folio_list(), folio_check_references() as far as they differ from the
classic LRU. Left out: the memcg LRU (cgroups are taken in turn), deleted cgroups, thrashing by write-back.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_add_tail, list_del, list_empty
from mmlab.kernels.scan import count_dirty, count_refill, count_scan, count_steal, need_resched
from mmlab.kernels.services import cond_resched, folio_referenced, reclaim_folio, wakeup_flusher_threads
from mmlab.kernels.trace import trace_event
from mmlab.kernels.zones import wmark_pages, zone_watermark_order0
from mmlab.model.const import (
    DEF_PRIORITY, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, NUMA_BALANCING_MEMORY_TIERING, RECLAIM_ACTIVATE, RECLAIM_FREED, RECLAIM_KEEP,
    SCAN_HELD, SCAN_KSWAPD, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT, SCAN_RESUME,
)
from mmlab.model.gfp import MAX_NR_ZONES
from mmlab.model.page import (
    PG_ACTIVE, PG_DIRTY, PG_LOCKED, PG_LRU, PG_MLOCKED, PG_RECLAIM, PG_REFERENCED, PG_UNEVICTABLE, PG_WORKINGSET, PG_WRITEBACK, page_flags,
    page_mapcount, page_prev, page_set, page_test_clear, set_page_flags,
)
from mmlab.model.rows import (
    EVENT_LRU_ISOLATE, EVENT_LRU_SHRINK_INACTIVE, MC_EMIN, MC_USAGE, MEMCG_STRIDE, SC_CPU, SC_MM_WALK, SC_NOW_NS, SC_NR_NODES,
    SC_NR_RECLAIMED, SC_NR_ZONES, SC_NUMA_BALANCING, SC_PROACTIVE, SC_RECLAIM_MEMCG, SC_SCAN_PRIORITY, SC_SHRINK_MEMCG, SC_YIELDED,
    SC_YIELD_NS, WB_SC_TAKEN, WB_SC_UNQUEUED_DIRTY, ZONE_STRIDE, Z_INDEX, Z_NODE,
)
from mmlab.model.vmstat import V_PGSKIP_DMA, V_UNEVICTABLE_PGS_CULLED, count_vm_events
from mmlab_linux.reclaimer.lru_batch import held_by_batch
from mmlab_linux.reclaimer.lruvec import ANON, FILE, folio_nr_pages, note_kept
from mmlab_linux.reclaimer.mglru.aging import (
    get_swappiness, list_of_page, lruvec_total, promoted, should_run_aging, try_to_inc_max_seq, try_to_inc_min_seq,
)
from mmlab_linux.reclaimer.mglru.batch import lru_add_drain
from mmlab_linux.reclaimer.mglru.control import MAX_SWAPPINESS, PROTECTED, ctrl_cell, get_tier_idx, get_type_tier, get_type_to_scan
from mmlab_linux.reclaimer.mglru.lrugen import (
    CLEAN, ISOLATED, MAX_LRU_BATCH, MAX_NR_GENS, MAX_REFS, MIN_LRU_BATCH, MIN_NR_GENS, MOVED, folio_inc_gen, folio_lru_refs, gen_list,
    lru_gen_del_folio, lru_tier_from_refs, lruvec_add_folio, max_seq, min_seq, nr_gens, pass_list, zone_index_of,
)

MAY_ALL = SCAN_MAY_WRITEPAGE | SCAN_MAY_UNMAP
PASS_STRIDE = 8  # st.kswapd: of a node's pass that was preempted
PASS_SCANNED, PASS_TARGET, BATCH_SCANNED, BATCH_KIND, BATCH_RECLAIMED, BATCH_RETRY = 0, 1, 2, 3, 4, 5  # BATCH_KIND: ANON or FILE, + 1; 0: between batches
YOUNG_PTES, REFERENCED_EXEC, REFERENCED_LOCKED = 0xFFFF, 1 << 16, 1 << 17  # of folio_referenced()


@kernel
def sort_folio(m, st, lruvec, pfn, kind, scan_flags, tier_idx):
    """1 if the page at the tail is not to be evicted now: it went where it belongs, and its tier's protection is counted."""
    flags = page_flags(m, pfn)
    pages = folio_nr_pages(m, pfn, flags)
    if flags & PG_MLOCKED:
        lru_gen_del_folio(m, st, pfn, flags, 1)
        lruvec_add_folio(m, st, pfn, (page_flags(m, pfn) | PG_UNEVICTABLE) & ~PG_ACTIVE, 0)
        count_vm_events(m, V_UNEVICTABLE_PGS_CULLED, pages)
        return 1
    if promoted(m, st, lruvec, pfn, kind):
        list_del(m, pfn)
        list_add(m, list_of_page(m, lruvec, pfn, kind), pfn)
        return 1
    refs = folio_lru_refs(st, pfn, flags)
    tier = lru_tier_from_refs(refs)
    to_tail = 0
    if tier > tier_idx or refs > MAX_REFS:
        st.ctrl[ctrl_cell(lruvec, kind, tier) + PROTECTED] += pages
        to_tail = 1
    elif zone_index_of(m, flags) > scan_flags >> SCAN_RECLAIM_IDX_SHIFT:
        to_tail = 1
    elif kind == FILE and flags & PG_DIRTY:
        count_dirty(m, flags, pages)
    elif flags & (PG_LOCKED | PG_WRITEBACK) == 0:
        return 0
    folio_inc_gen(m, st, lruvec, pfn, 1 - to_tail)
    list_del(m, pfn)
    if to_tail:
        list_add_tail(m, list_of_page(m, lruvec, pfn, kind), pfn)
    else:
        list_add(m, list_of_page(m, lruvec, pfn, kind), pfn)
    return 1


@kernel
def isolate_folio(m, st, lruvec, pfn, isolated):
    """The page leaves its generation for a list: its uses through file descriptors are forgotten unless the last was recent."""
    flags = page_flags(m, pfn)
    if flags & PG_REFERENCED == 0:
        st.refs[pfn] = 0
        flags &= ~PG_WORKINGSET
    flags &= ~(PG_LRU | PG_RECLAIM | PG_REFERENCED)
    set_page_flags(m, pfn, flags)
    lru_gen_del_folio(m, st, pfn, flags, 1)
    list_add(m, isolated, pfn)


@kernel
def scan_folios(m, st, lruvec, kind, tier_idx, scan_flags):
    """Fill ISOLATED from the oldest generation's tail, at most 64 pages of at most 4096 looked at: how many were looked at, 0 without success."""
    if nr_gens(st, lruvec, kind) == MIN_NR_GENS:
        return 0
    gen = min_seq(st, lruvec, kind) % MAX_NR_GENS
    reclaim_idx = scan_flags >> SCAN_RECLAIM_IDX_SHIFT
    moved = pass_list(m, lruvec, MOVED, scan_flags)
    batch = pass_list(m, lruvec, ISOLATED, scan_flags)
    scanned = isolated = sorted_pages = all_skipped = 0
    remaining = MAX_LRU_BATCH
    for step in range(MAX_NR_ZONES):
        zone = (reclaim_idx - step) % MAX_NR_ZONES
        head = gen_list(m, lruvec, gen, kind, zone)
        skipped = 0
        while list_empty(m, head) == 0:
            pfn = page_prev(m, head)
            flags = page_flags(m, pfn)
            pages = folio_nr_pages(m, pfn, flags)
            scanned += pages
            if sort_folio(m, st, lruvec, pfn, kind, scan_flags, tier_idx):
                sorted_pages += pages
            elif scan_flags & SCAN_MAY_UNMAP or page_mapcount(m, pfn) == 0:
                isolate_folio(m, st, lruvec, pfn, batch)
                isolated += pages
            else:
                list_del(m, pfn)
                list_add(m, moved, pfn)
                skipped += pages
            remaining -= 1
            if remaining == 0 or max(isolated, skipped) >= MIN_LRU_BATCH:
                break
        if skipped:
            all_skipped += skipped
            count_vm_events(m, V_PGSKIP_DMA + zone, skipped)
            while list_empty(m, moved) == 0:
                pfn = page_prev(m, moved)
                list_del(m, pfn)
                list_add(m, head, pfn)
        if remaining == 0 or isolated >= MIN_LRU_BATCH:
            break
    lru = LRU_INACTIVE_FILE if kind == FILE else LRU_INACTIVE_ANON
    trace_event(m, EVENT_LRU_ISOLATE, reclaim_idx << 8 | lru, MAX_LRU_BATCH, scanned, all_skipped, isolated)
    count_scan(m, scan_flags, kind, isolated)
    if kind == FILE:
        m.wb[WB_SC_TAKEN] += isolated
    count_refill(m, sorted_pages)
    return scanned if isolated or remaining == 0 else 0


@kernel
def isolate_folios(m, st, lruvec, scan_flags, swappiness):
    """A batch of the kind that swappiness, age and the controller name, or else of the other: pages looked at. st.kind says which kind."""
    tier = -1
    kind = FILE
    if swappiness == 0:
        kind = FILE
    elif min_seq(st, lruvec, ANON) < min_seq(st, lruvec, FILE):
        kind = ANON
    elif swappiness == 1:
        kind = FILE
    elif swappiness == MAX_SWAPPINESS:
        kind = ANON
    else:
        kind = get_type_to_scan(st, lruvec, swappiness)
        tier = get_type_tier(st, lruvec, kind, swappiness)
    scanned = 0
    for _ in range(2 if swappiness else 1):
        if tier < 0:
            tier = get_tier_idx(st, lruvec, kind)
        scanned = scan_folios(m, st, lruvec, kind, tier, scan_flags)
        if scanned:
            break
        kind = FILE + ANON - kind
        tier = -1
    st.kind[0] = kind
    return scanned


@leaf
def folio_check_references(m, pfn, kind):
    """RECLAIM_FREED: reclaim it; RECLAIM_KEEP or RECLAIM_ACTIVATE: it is in use. A dirty file page used lately is kept."""
    young = folio_referenced(m, pfn)
    was_referenced = page_test_clear(m, pfn, PG_REFERENCED)
    if young & REFERENCED_LOCKED:
        return RECLAIM_ACTIVATE
    if young & YOUNG_PTES:
        page_set(m, pfn, PG_REFERENCED)
        if was_referenced or young & YOUNG_PTES > 1 or (young & REFERENCED_EXEC and kind == FILE):
            return RECLAIM_ACTIVATE
        return RECLAIM_KEEP
    if was_referenced and kind == FILE and page_flags(m, pfn) & PG_DIRTY:
        return RECLAIM_KEEP
    return RECLAIM_FREED


@kernel
def try_to_reclaim(m, st, pfn, kind, scan_flags, ignore_references):
    """What becomes of one isolated page: RECLAIM_*. One that a look-around has marked meanwhile is kept."""
    flags = page_flags(m, pfn)
    if flags & PG_LOCKED:
        return RECLAIM_KEEP
    if flags & PG_MLOCKED:
        return RECLAIM_ACTIVATE
    if ignore_references == 0 and page_mapcount(m, pfn) > 0 and flags & PG_REFERENCED:
        return RECLAIM_KEEP
    if flags & PG_WRITEBACK:
        page_set(m, pfn, PG_RECLAIM)
        return RECLAIM_ACTIVATE
    if ignore_references == 0:
        verdict = folio_check_references(m, pfn, kind)
        if verdict != RECLAIM_FREED:
            return verdict
    return reclaim_folio(m, pfn, scan_flags | (SCAN_HELD if held_by_batch(st, pfn) else 0))


@leaf
def may_retry(m, pfn, flags):
    """1 if the page, which was not reclaimed, is clean and unused now: its write-back may have ended too late for it to be rotated."""
    if flags & (PG_ACTIVE | PG_REFERENCED | PG_LOCKED | PG_DIRTY | PG_WRITEBACK | PG_MLOCKED):
        return 0
    return 1 if page_mapcount(m, pfn) == 0 else 0


@kernel
def shrink_folio_list(m, st, lruvec, kind, scan_flags, retry, reclaimed):
    """Reclaim what can be of ISOLATED; the rest goes back as young pages, or, in the first round, to CLEAN for another. Pages reclaimed, with
    those before kswapd was preempted in this batch. m.sc[SC_YIELDED] is set if it is now."""
    isolated = pass_list(m, lruvec, ISOLATED, scan_flags)
    kept = pass_list(m, lruvec, MOVED, scan_flags)
    clean = pass_list(m, lruvec, CLEAN, scan_flags)
    while list_empty(m, isolated) == 0:
        pfn = page_prev(m, isolated)
        list_del(m, pfn)
        verdict = try_to_reclaim(m, st, pfn, kind, scan_flags, 0)
        if verdict == RECLAIM_FREED:
            st.refs[pfn] = 0
            reclaimed += 1
        else:
            note_kept(m, pfn, verdict)
            list_add(m, kept, pfn)
        if need_resched(m) and list_empty(m, isolated) == 0:
            if scan_flags & SCAN_KSWAPD:
                m.sc[SC_YIELDED] = 1
                return reclaimed
            before = st.reclaimed[0]
            cond_resched(m)
            st.reclaimed[0] = before
    while list_empty(m, kept) == 0:
        pfn = page_prev(m, kept)
        list_del(m, pfn)
        flags = page_flags(m, pfn)
        if flags & PG_RECLAIM and flags & (PG_DIRTY | PG_WRITEBACK):
            if flags & PG_WORKINGSET:
                flags |= PG_REFERENCED
        elif retry == 0 and may_retry(m, pfn, flags):
            list_add(m, clean, pfn)
            continue
        else:
            st.refs[pfn] = 0
            flags = (flags & ~(PG_REFERENCED | PG_WORKINGSET)) | PG_ACTIVE
        if flags & PG_MLOCKED:
            count_vm_events(m, V_UNEVICTABLE_PGS_CULLED, folio_nr_pages(m, pfn, flags))
            flags = (flags | PG_UNEVICTABLE) & ~PG_ACTIVE
        lruvec_add_folio(m, st, pfn, flags | PG_LRU, 0)
    while list_empty(m, clean) == 0:
        pfn = page_prev(m, clean)
        list_del(m, pfn)
        list_add(m, isolated, pfn)
    return reclaimed


@kernel
def evict_folios(m, st, lruvec, scan_flags, swappiness):
    """One batch, or the rest of one in which kswapd was preempted: what was looked at (the measure of a pass's work), 0 to stop. Pages
    reclaimed are added to st.reclaimed. m.sc[SC_YIELDED] is set if kswapd is preempted (again)."""
    row = lruvec % m.sc[SC_NR_NODES] * PASS_STRIDE
    reclaimed = retry = 0
    if scan_flags & SCAN_KSWAPD and st.kswapd[row + BATCH_KIND]:
        scanned, kind = st.kswapd[row + BATCH_SCANNED], st.kswapd[row + BATCH_KIND] - 1
        reclaimed, retry = st.kswapd[row + BATCH_RECLAIMED], st.kswapd[row + BATCH_RETRY]
        st.kswapd[row + BATCH_KIND] = 0
    else:
        can_swap = 1 if swappiness else 0
        scanned = isolate_folios(m, st, lruvec, scan_flags, swappiness)
        scanned += try_to_inc_min_seq(m, st, lruvec, can_swap)
        if nr_gens(st, lruvec, 1 - can_swap) == MIN_NR_GENS:
            scanned = 0
        kind = st.kind[0]
    isolated = pass_list(m, lruvec, ISOLATED, scan_flags)
    kept = pass_list(m, lruvec, MOVED, scan_flags)  # of a batch that goes on, whose other pages may have been freed meanwhile
    while list_empty(m, isolated) == 0 or list_empty(m, kept) == 0:
        reclaimed = shrink_folio_list(m, st, lruvec, kind, scan_flags, retry, reclaimed)
        if m.sc[SC_YIELDED]:
            st.kswapd[row + BATCH_SCANNED], st.kswapd[row + BATCH_KIND] = scanned, kind + 1
            st.kswapd[row + BATCH_RECLAIMED], st.kswapd[row + BATCH_RETRY] = reclaimed, retry
            return 0
        count_steal(m, scan_flags, kind, reclaimed)
        st.reclaimed[0] += reclaimed
        trace_event(m, EVENT_LRU_SHRINK_INACTIVE, lruvec % m.sc[SC_NR_NODES], scanned, reclaimed, m.sc[SC_SCAN_PRIORITY], kind)
        retry = 1
        reclaimed = 0
    return scanned


@kernel
def get_nr_to_scan(m, st, lruvec, priority, swappiness):
    """Pages to scan at this priority; -1 when a new generation was made instead, 0 for nothing to do."""
    memcg = m.sc[SC_SHRINK_MEMCG]
    if memcg != m.sc[SC_RECLAIM_MEMCG] and m.memcg[memcg * MEMCG_STRIDE + MC_USAGE] <= m.memcg[memcg * MEMCG_STRIDE + MC_EMIN]:
        return -1
    can_swap = 1 if swappiness else 0
    seq = max_seq(st, lruvec)
    nr_to_scan = 0
    if min_seq(st, lruvec, 1 - can_swap) + MIN_NR_GENS <= seq:
        nr_to_scan = lruvec_total(st, lruvec, can_swap)
    if priority == DEF_PRIORITY or should_run_aging(st, lruvec, can_swap) == 0:
        return nr_to_scan >> priority
    return -1 if try_to_inc_max_seq(m, st, lruvec, seq, can_swap, 0) else 0


@leaf
def should_abort_scan(m, st, lruvec, nr_to_reclaim, scan_flags):
    """1 if a global pass has got enough, or kswapd has brought every zone a batch above its high watermark."""
    if m.sc[SC_RECLAIM_MEMCG]:
        return 0
    if m.sc[SC_NR_RECLAIMED] + st.reclaimed[0] >= nr_to_reclaim:
        return 1
    if scan_flags & SCAN_KSWAPD == 0:
        return 0
    reclaim_idx = scan_flags >> SCAN_RECLAIM_IDX_SHIFT
    node = lruvec % m.sc[SC_NR_NODES]
    which = 3 if m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING else 2
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node and m.zone[base + Z_INDEX] <= reclaim_idx:
            if zone_watermark_order0(m, zone, 0, wmark_pages(m, zone, which) + MIN_LRU_BATCH, reclaim_idx, 0) == 0:
                return 0
    return 1


@kernel
def shrink_node(m, st, lruvec, priority, nr_to_reclaim, scan_flags):
    """try_to_shrink_lruvec(): evict batches until the share of the lruvec that the priority asks for was looked at: pages reclaimed.

    Global reclaim that may not write or not unmap (gentle reclaim of kswapd, zone_reclaim_mode below 6) does nothing at all. kswapd stops
    when its slice is over, and goes on from there with SCAN_RESUME.
    """
    if m.sc[SC_RECLAIM_MEMCG] == 0 and scan_flags & MAY_ALL != MAY_ALL:
        return 0
    resumed = scan_flags & SCAN_RESUME
    row = lruvec % m.sc[SC_NR_NODES] * PASS_STRIDE
    if resumed == 0:
        lru_add_drain(m, st, m.sc[SC_CPU])
    m.sc[SC_MM_WALK] = 1 if scan_flags & SCAN_KSWAPD or m.sc[SC_PROACTIVE] else 0
    swappiness = get_swappiness(m, lruvec, scan_flags)
    st.reclaimed[0] = 0
    scanned = st.kswapd[row + PASS_SCANNED] if resumed else 0
    nr_to_scan = st.kswapd[row + PASS_TARGET]
    in_batch = resumed and st.kswapd[row + BATCH_KIND]
    while True:
        if in_batch == 0:
            nr_to_scan = get_nr_to_scan(m, st, lruvec, priority, swappiness)
            if nr_to_scan <= 0:
                break
        in_batch = 0
        done = evict_folios(m, st, lruvec, scan_flags, swappiness)
        if m.sc[SC_YIELDED] == 0:
            scanned += done
            if done == 0 or scanned >= nr_to_scan or should_abort_scan(m, st, lruvec, nr_to_reclaim, scan_flags):
                break
        if m.sc[SC_YIELDED] or (scan_flags & SCAN_KSWAPD and m.sc[SC_NOW_NS] >= m.sc[SC_YIELD_NS]):
            m.sc[SC_YIELDED] = 1
            st.kswapd[row + PASS_SCANNED], st.kswapd[row + PASS_TARGET] = scanned, nr_to_scan
            break
    m.sc[SC_MM_WALK] = 0
    if m.wb[WB_SC_UNQUEUED_DIRTY] and m.wb[WB_SC_UNQUEUED_DIRTY] == m.wb[WB_SC_TAKEN]:
        wakeup_flusher_threads(m)
    return st.reclaimed[0]
