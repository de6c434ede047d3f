"""Linux's classic LRU: an active and an inactive list for anonymous and for file pages, with refault detection.

Models: mm/vmscan.c shrink_lruvec(), kswapd_age_node(); mm/swap.c folio_mark_accessed(), folio_deactivate(),
folio_rotate_reclaimable(); mm/workingset.c workingset_eviction(), workingset_test_recent(), workingset_activation(); 6.12, lru_gen off.
Parts: lruvec.py (lists, sizes, lagging statistics), lru_batch.py (per-CPU batches), scan_count.py (how much to scan), shrink_list.py.
Left out: write-back throttling, the shrinker of shadow nodes.

PG_MLOCKED (the core's) sends a page to the unevictable list; PG_UNEVICTABLE is this policy's mark for being there. Neither it nor
PG_SWAPBACKED may change while the page is on a list: the core takes it off (folio_removed), changes the flag and adds it again.
"""

import numpy as np
from attrs import field, frozen
from attrs.validators import ge
from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_find_del, list_position, policy_list
from mmlab.kernels.memcg import STATS_FIRST_NS, STATS_PERIOD_NS, lruvec_memcg, lruvec_node, memcg_swap_pages, nr_lruvecs, page_lruvec
from mmlab.kernels.memory_tiers import can_demote
from mmlab.kernels.zones import page_node
from mmlab.model.const import (
    DEF_PRIORITY, LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, NR_LRU_LISTS, SCAN_KSWAPD, SCAN_MAY_SWAP,
    SCAN_MAY_UNMAP, SCAN_RECLAIM_IDX_SHIFT, SCAN_RESUME, SWAP_CLUSTER_MAX,
)
from mmlab.model.page import (
    PG_ACTIVE, PG_DIRTY, PG_IDLE, PG_LOCKED, PG_LRU, PG_REFERENCED, PG_UNEVICTABLE, PG_WORKINGSET, page_flags, page_next, page_prev,
    page_set, set_page_flags,
)
from mmlab.model.rows import (
    NODE_STRIDE, N_KSWAPD_IDX, SC_CPU, SC_NOW_NS, SC_NR_NODES, SC_NR_SWAP_SLOTS, SC_NR_ZONES, SC_RECLAIM_MEMCG, SC_YIELDED, SC_YIELD_NS,
    ZONE_STRIDE, Z_BOOT_LRU, Z_NODE,
)
from mmlab.policies import Explained, Reclaimer
from mmlab_linux.reclaimer.lru_batch import (
    BATCH_ACTIVATE, BATCH_ADD, BATCH_DEACTIVATE, BATCH_DEACTIVATE_FILE, BATCH_ROTATE, BATCH_STRIDE, NR_BATCHES, batch_add, batch_remove,
    find_in_batch, lru_add_drain,
)
from mmlab_linux.reclaimer.lruvec import (
    ALL_ZONES, FILE, SIZE_STRIDE, STAT_STRIDE, VEC_ACTIVATED, VEC_AGE, VEC_STRIDE, flush_stats, folio_is_file, folio_lru_list,
    folio_nr_pages, inactive_is_low, lru_note_cost, lruvec_del, lruvec_lru_size, lruvec_page_state, refresh_stats,
    workingset_age_nonresident,
)
from mmlab_linux.reclaimer.scan_count import (
    CONTROL_DEACTIVATE_ANON, NR_CONTROLS, end_reclaim, get_scan_count, prepare_scan, skip_deactivate,
)
from mmlab_linux.reclaimer.shrink_list import BATCH_LRU, INACTIVE_STRIDE, ISOLATED, OF_KSWAPD, shrink_active_list, shrink_inactive_list


LRUVEC_BITS = 14  # of a shadow: nonresident age, lruvec, PG_WORKINGSET
REFAULT_ACTIVATE, REFAULT_RESTORE = 1, 2
PASS_STRIDE = 16  # st.kswapd: pages reclaimed, nr, targets and control of a node's pass that was preempted


@frozen
class Params:
    """stats_period_ms: how often the statistics behind some decisions are refreshed; 0: exact, as in a kernel without memory
    cgroups, and as always in a request replay, which has no time of its own."""

    stats_period_ms: int = field(default=STATS_PERIOD_NS // 1_000_000, validator=ge(0))


def new_state(params, machine):
    """vec: VEC_* a lruvec; size: pages by list, a zone of a cgroup; stats: lagging sizes a lruvec; batch: per-CPU batches; waiting: entries in those that move
    pages; nr, targets, control: of the pass that runs; kswapd: of one that was preempted; given_way: of a task's while kswapd runs within it; inactive: batches
    that are being shrunk; refresh_ns: time between refreshes of the statistics."""
    sizes = machine.sizes
    refresh_ms = 0 if sizes.nr_request_ids > 1 else params.stats_period_ms  # a replay (one of a single object reclaims nothing)
    lruvecs = sizes.nr_nodes * sizes.nr_memcgs
    return {
        "vec": np.zeros(VEC_STRIDE * lruvecs, np.int64),
        "size": np.zeros(SIZE_STRIDE * sizes.nr_zones * sizes.nr_memcgs, np.int64),
        "stats": np.zeros(STAT_STRIDE * lruvecs, np.int64),
        "next_refresh_ns": np.array([min(refresh_ms * 1_000_000, STATS_FIRST_NS)]),
        "refresh_ns": np.array([refresh_ms * 1_000_000]),
        "batch": np.zeros(BATCH_STRIDE * NR_BATCHES * sizes.nr_cpus, np.int64),
        "waiting": np.zeros(1, np.int64),
        "nr": np.zeros(4, np.int64),
        "targets": np.zeros(4, np.int64),
        "control": np.zeros(NR_CONTROLS, np.int64),
        "kswapd": np.zeros(PASS_STRIDE * sizes.nr_nodes, np.int64),
        "given_way": np.zeros(8 + NR_CONTROLS, np.int64),
        "inactive": np.zeros(INACTIVE_STRIDE * (1 + sizes.nr_nodes), np.int64),
    }


@kernel
def folio_added(m, st, pfn):
    """folio_add_lru()."""
    return batch_add(m, st, pfn, BATCH_ADD)


@kernel
def folio_removed(m, st, pfn):
    """Off its list, or out of the batch in which it waits."""
    flags = page_flags(m, pfn)
    if st.waiting[0]:
        batch_remove(st, pfn, 0)
    if flags & PG_LRU == 0:
        if batch_remove(st, pfn, 1) == 0:
            remove_isolated(m, page_lruvec(m, pfn), pfn)
        return 0
    lruvec_del(m, st, pfn, flags)
    set_page_flags(m, pfn, flags & ~PG_LRU)
    return 0


@kernel
def folio_accessed(m, st, pfn):
    """folio_mark_accessed(): first PG_REFERENCED, the second time active."""
    flags = page_flags(m, pfn)
    if flags & PG_REFERENCED == 0:
        set_page_flags(m, pfn, (flags | PG_REFERENCED) & ~PG_IDLE)
        return 0
    if flags & (PG_UNEVICTABLE | PG_ACTIVE) == 0:
        set_page_flags(m, pfn, flags & ~(PG_REFERENCED | PG_IDLE))
        if flags & PG_LRU:
            batch_add(m, st, pfn, BATCH_ACTIVATE)
        elif find_in_batch(st, m.sc[SC_CPU], BATCH_ADD, pfn) >= 0:
            page_set(m, pfn, PG_ACTIVE)
        workingset_age_nonresident(m, st, page_lruvec(m, pfn), folio_nr_pages(m, pfn, flags))
    return 0


@kernel
def folio_deactivate(m, st, pfn):
    """folio_deactivate(): an active page becomes inactive; others stay where they are."""
    flags = page_flags(m, pfn)
    if flags & PG_ACTIVE == 0 or flags & PG_UNEVICTABLE:
        return 0
    return batch_add(m, st, pfn, BATCH_DEACTIVATE)


@kernel
def folio_deactivate_file(m, st, pfn):
    """deactivate_file_folio()."""
    if page_flags(m, pfn) & PG_UNEVICTABLE:
        return 0
    return batch_add(m, st, pfn, BATCH_DEACTIVATE_FILE)


@kernel
def folio_rotate(m, st, pfn):
    """folio_rotate_reclaimable(): to the inactive tail."""
    if page_flags(m, pfn) & (PG_LOCKED | PG_DIRTY | PG_UNEVICTABLE):
        return 0
    return batch_add(m, st, pfn, BATCH_ROTATE)


@kernel
def rebalance(st, nr_anon, nr_file):
    """Enough was reclaimed: drop the kind with less left to scan, and cut the other down to the same share of its target."""
    if nr_file > nr_anon:
        stop = LRU_INACTIVE_ANON
        left = nr_anon
    else:
        stop = LRU_INACTIVE_FILE
        left = nr_file
    percentage = left * 100 // (st.targets[stop] + st.targets[stop + 1] + 1)
    st.nr[stop] = 0
    st.nr[stop + 1] = 0
    cut = LRU_INACTIVE_FILE - stop
    for lru in range(cut, cut + 2):
        scanned = st.targets[lru] - st.nr[lru]
        st.nr[lru] = max(0, st.targets[lru] * (100 - percentage) // 100 - scanned)


@kernel
def suspend_pass(m, st, lruvec, nr_reclaimed):
    """kswapd is preempted: keep what the pass still has to do until it goes on."""
    row = lruvec_node(m, lruvec) * PASS_STRIDE
    m.sc[SC_YIELDED] = 1
    st.kswapd[row] = nr_reclaimed
    for lru in range(4):
        st.kswapd[row + 1 + lru] = st.nr[lru]
        st.kswapd[row + 5 + lru] = st.targets[lru]
    for i in range(NR_CONTROLS):
        st.kswapd[row + 9 + i] = st.control[i]


@kernel
def resume_pass(m, st, lruvec):
    """Undo suspend_pass(): what the pass has reclaimed so far."""
    row = lruvec_node(m, lruvec) * PASS_STRIDE
    for lru in range(4):
        st.nr[lru] = st.kswapd[row + 1 + lru]
        st.targets[lru] = st.kswapd[row + 5 + lru]
    for i in range(NR_CONTROLS):
        st.control[i] = st.kswapd[row + 9 + i]
    return st.kswapd[row]


@kernel
def shrink_node(m, st, lruvec, priority, nr_to_reclaim, scan_flags):
    """shrink_lruvec(): scan the lists in turn, 32 pages each, until the targets are met or enough is reclaimed: pages reclaimed."""
    scan_all = scan_flags & SCAN_KSWAPD == 0 and m.sc[SC_RECLAIM_MEMCG] == 0 and priority == DEF_PRIORITY
    nr_reclaimed = before = 0
    if scan_flags & SCAN_RESUME:
        nr_reclaimed = before = resume_pass(m, st, lruvec)
    else:
        get_scan_count(m, st, lruvec, priority, scan_flags)
        for lru in range(4):
            st.targets[lru] = st.nr[lru]
    pending = st.inactive[(1 + lruvec_node(m, lruvec)) * INACTIVE_STRIDE + BATCH_LRU] - 1 if scan_flags & SCAN_RESUME else -1
    while pending >= 0 or st.nr[LRU_INACTIVE_ANON] or st.nr[LRU_ACTIVE_FILE] or st.nr[LRU_INACTIVE_FILE]:
        for lru in range(4):
            nr_to_scan = min(st.nr[lru], SWAP_CLUSTER_MAX)
            if lru < pending or (lru != pending and nr_to_scan == 0):
                continue
            if lru != pending:
                st.nr[lru] -= nr_to_scan
            if lru == LRU_INACTIVE_ANON or lru == LRU_INACTIVE_FILE:
                nr_reclaimed += shrink_inactive_list(m, st, lruvec, lru, nr_to_scan, scan_flags)
                if m.sc[SC_YIELDED]:
                    suspend_pass(m, st, lruvec, nr_reclaimed)
                    return nr_reclaimed - before
                pending = -1
            elif st.control[CONTROL_DEACTIVATE_ANON + (1 if lru == LRU_ACTIVE_FILE else 0)]:
                shrink_active_list(m, st, lruvec, lru, nr_to_scan, scan_flags)
            else:
                skip_deactivate(m)
        if nr_reclaimed < nr_to_reclaim or scan_all:
            if scan_flags & SCAN_KSWAPD and m.sc[SC_NOW_NS] >= m.sc[SC_YIELD_NS]:
                suspend_pass(m, st, lruvec, nr_reclaimed)
                return nr_reclaimed - before
            continue
        nr_anon = st.nr[LRU_INACTIVE_ANON] + st.nr[LRU_ACTIVE_ANON]
        nr_file = st.nr[LRU_INACTIVE_FILE] + st.nr[LRU_ACTIVE_FILE]
        if nr_anon == 0 or nr_file == 0:
            break
        rebalance(st, nr_anon, nr_file)
    age_active_anon(m, st, lruvec, scan_flags)
    return nr_reclaimed - before


@kernel
def age_active_anon(m, st, lruvec, scan_flags):
    """With swap space, or a slower node, keep the inactive anonymous list long enough to tell used pages from unused ones."""
    if (m.sc[SC_NR_SWAP_SLOTS] > 0 or can_demote(m, lruvec_node(m, lruvec), scan_flags)) and inactive_is_low(st, lruvec, LRU_INACTIVE_ANON):
        shrink_active_list(m, st, lruvec, LRU_ACTIVE_ANON, SWAP_CLUSTER_MAX, scan_flags)


@kernel
def age_node(m, st, node):
    """kswapd_age_node(): every cgroup's anonymous lists, if the root's are out of balance."""
    reclaim_idx = m.node[node * NODE_STRIDE + N_KSWAPD_IDX]
    if (m.sc[SC_NR_SWAP_SLOTS] == 0 and can_demote(m, node, 0) == 0) or inactive_is_low(st, node, LRU_INACTIVE_ANON) == 0:
        return 0
    lruvec = node
    while lruvec < nr_lruvecs(m):
        shrink_active_list(m, st, lruvec, LRU_ACTIVE_ANON, SWAP_CLUSTER_MAX, SCAN_KSWAPD | SCAN_MAY_SWAP | SCAN_MAY_UNMAP | (reclaim_idx << SCAN_RECLAIM_IDX_SHIFT))
        lruvec += m.sc[SC_NR_NODES]
    return 0


@kernel
def eviction_shadow(m, st, pfn):
    """The clock of evictions and activations of the cgroup under reclaim, now, and whether the page had been active."""
    flags = page_flags(m, pfn)
    lruvec = m.sc[SC_RECLAIM_MEMCG] * m.sc[SC_NR_NODES] + page_node(m, pfn)
    age = st.vec[lruvec * VEC_STRIDE + VEC_AGE]
    workingset_age_nonresident(m, st, lruvec, folio_nr_pages(m, pfn, flags))
    return (age << LRUVEC_BITS | lruvec) << 1 | (1 if flags & PG_WORKINGSET else 0)


@kernel
def competing_pages(m, st, lruvec, lru):
    """Pages on a list by the statistics; the root's with what boot left there."""
    pages = lruvec_page_state(st, lruvec, lru)
    if lruvec == lruvec_node(m, lruvec):
        for zone in range(m.sc[SC_NR_ZONES]):
            if m.zone[zone * ZONE_STRIDE + Z_NODE] == lruvec:
                pages += m.zone[zone * ZONE_STRIDE + Z_BOOT_LRU + lru]
    return pages


@kernel
def workingset_size(m, st, lruvec, is_file):
    """Pages that a refaulting page competes with."""
    size = competing_pages(m, st, lruvec, LRU_ACTIVE_FILE)
    if is_file == 0:
        size += competing_pages(m, st, lruvec, LRU_INACTIVE_FILE)
    if memcg_swap_pages(m, lruvec_memcg(m, lruvec)) > 0:
        size += competing_pages(m, st, lruvec, LRU_ACTIVE_ANON)
        if is_file:
            size += competing_pages(m, st, lruvec, LRU_INACTIVE_ANON)
    return size


@kernel
def workingset_refault(m, st, pfn, shadow):
    """A page whose refault distance fits into the working set starts active. The core sets PG_ACTIVE and PG_WORKINGSET by the answer."""
    refresh_stats(m, st)
    evicted = (shadow >> 1) & ((1 << LRUVEC_BITS) - 1)
    flags = page_flags(m, pfn)
    kind = folio_is_file(flags)
    if evicted >= nr_lruvecs(m):
        return 0  # MGLRU left it
    if st.vec[evicted * VEC_STRIDE + VEC_AGE] - (shadow >> (LRUVEC_BITS + 1)) > workingset_size(m, st, evicted, kind == FILE):
        return 0
    lruvec = page_lruvec(m, pfn)
    pages = folio_nr_pages(m, pfn, flags)
    workingset_age_nonresident(m, st, lruvec, pages)
    st.vec[lruvec * VEC_STRIDE + VEC_ACTIVATED + kind] += pages
    if shadow & 1 == 0:
        return REFAULT_ACTIVATE
    lru_note_cost(m, st, lruvec, kind, pages, 0)
    return REFAULT_ACTIVATE | REFAULT_RESTORE


@kernel
def drain(m, st, cpu):
    """lru_add_drain()."""
    return lru_add_drain(m, st, cpu)


@kernel
def nr_lru_pages(m, st, lruvec, lru):
    """Pages on the list; those in batches are not counted yet."""
    return lruvec_lru_size(m, st, lruvec, lru, ALL_ZONES)


@kernel
def explain_page(m, st, pfn, what):
    """By number in the record's `explains`."""
    flags = page_flags(m, pfn)
    if what == 0:
        return folio_lru_list(flags)
    if what == 1:
        return list_position(m, pfn) if flags & PG_LRU else -1
    if what == 2:
        return 1 if flags & PG_REFERENCED else 0
    return 1 if flags & PG_WORKINGSET else 0


EXPLAINS = (
    Explained("list", "by what it is on, or comes from", ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")),
    Explained("position", "pages nearer to the end of its list that reclaim scans; -1: it is off the list"),
    Explained("referenced", "PG_REFERENCED: used once already since it was made inactive or read"),
    Explained("workingset", "PG_WORKINGSET: it was active before"),
)


@kernel
def remove_isolated(m, lruvec, pfn):
    """A page that is being freed leaves the batch of a reclaim that was preempted."""
    for number in range(ISOLATED, ISOLATED + 2 * OF_KSWAPD):
        head = policy_list(m, lruvec, number)
        if list_find_del(m, head, pfn):
            return


@kernel
def check(m, st):
    """1: a broken link; 2: a page on a list is not PG_LRU; 3: it is on another list than its flags say; 4: a list's size is not what was counted;
    5: a page that waits to be added has PG_LRU; 6: a task left pages isolated (kswapd, preempted, may)."""
    for lruvec in range(nr_lruvecs(m)):
        for lru in range(ISOLATED + OF_KSWAPD):
            head = policy_list(m, lruvec, lru)
            before = head
            pages = 0
            pfn = page_next(m, head)
            while pfn != head:
                if page_prev(m, pfn) != before:
                    return 1
                if lru >= ISOLATED:
                    return 6
                flags = page_flags(m, pfn)
                if flags & PG_LRU == 0:
                    return 2
                if page_lruvec(m, pfn) != lruvec or folio_lru_list(flags) != lru:
                    return 3
                pages += folio_nr_pages(m, pfn, flags)
                before = pfn
                pfn = page_next(m, pfn)
            if page_prev(m, head) != before:
                return 1
            if lru < NR_LRU_LISTS and pages != lruvec_lru_size(m, st, lruvec, lru, ALL_ZONES):
                return 4
    for row in range(BATCH_ADD, len(st.batch) // BATCH_STRIDE, NR_BATCHES):
        for i in range(st.batch[row * BATCH_STRIDE]):
            if page_flags(m, st.batch[row * BATCH_STRIDE + 1 + i]) & PG_LRU:
                return 5
    return 0


TWO_LIST = Reclaimer(
    name="two_list",
    summary="Linux's classic active and inactive lists with refault detection",
    models="mm/vmscan.c, mm/swap.c, mm/workingset.c (6.12, lru_gen off)",
    left_out="write-back throttling",
    level="L2",
    per_memcg=True,
    params=Params,
    new_state=new_state,
    folio_added=folio_added,
    folio_accessed=folio_accessed,
    folio_removed=folio_removed,
    folio_deactivate=folio_deactivate,
    folio_deactivate_file=folio_deactivate_file,
    folio_rotate=folio_rotate,
    prepare_scan=prepare_scan,
    shrink_node=shrink_node,
    end_reclaim=end_reclaim,
    age_node=age_node,
    eviction_shadow=eviction_shadow,
    workingset_refault=workingset_refault,
    drain=drain,
    nr_lru_pages=nr_lru_pages,
    flush_stats=flush_stats,
    check=check,
    explains=EXPLAINS,
    explain_page=explain_page,
)
