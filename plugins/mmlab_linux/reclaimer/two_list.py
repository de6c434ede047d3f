"""Linux's classic LRU: an active and an inactive list for anonymous and for file pages, with refault detection.

Models: mm/vmscan.c shrink_node(), shrink_lruvec(), kswapd_age_node(); mm/swap.c folio_mark_accessed(), folio_deactivate(),
folio_rotate_reclaimable(); mm/workingset.c workingset_eviction(), workingset_test_recent(), workingset_activation(); 6.12, lru_gen off.
Parts: lruvec.py (lists, sizes, lagging statistics), lru_batch.py (per-CPU batches), scan_count.py (how much to scan), shrink_list.py.
Left out: memory cgroups, write-back throttling, the shrinker of shadow nodes.

PG_MLOCKED (the core's) sends a page to the unevictable list; PG_UNEVICTABLE is this policy's mark for being there. Neither it nor
PG_SWAPBACKED may change while the page is on a list: the core takes it off (folio_removed), changes the flag and adds it again.
"""

import numpy as np
from attrs import field, frozen
from attrs.validators import ge

from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import policy_list
from mmlab.kernels.zones import page_node
from mmlab.model.const import (
    DEF_PRIORITY, LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, NR_LRU_LISTS, SCAN_KSWAPD, SCAN_MAY_SWAP,
    SCAN_MAY_UNMAP, SCAN_RECLAIM_IDX_SHIFT, SWAP_CLUSTER_MAX,
)
from mmlab.model.page import (
    PG_ACTIVE, PG_DIRTY, PG_IDLE, PG_LOCKED, PG_LRU, PG_REFERENCED, PG_UNEVICTABLE, PG_WORKINGSET, page_flags, page_next, page_prev,
    page_set, set_page_flags,
)
from mmlab.model.rows import N_KSWAPD_IDX, NODE_STRIDE, SC_CPU, SC_NR_NODES, SC_NR_SWAP_FREE, SC_NR_SWAP_SLOTS
from mmlab.policies import Reclaimer
from mmlab_linux.reclaimer.lru_batch import (
    BATCH_ACTIVATE, BATCH_ADD, BATCH_DEACTIVATE, BATCH_ROTATE, BATCH_STRIDE, NR_BATCHES, batch_add, batch_remove, find_in_batch,
    lru_add_drain,
)
from mmlab_linux.reclaimer.lruvec import (
    FILE, STAT_STRIDE, VEC_ACTIVATED, VEC_AGE, VEC_LAST_PRIORITY, VEC_STRIDE, folio_is_file, folio_lru_list, folio_nr_pages,
    inactive_is_low, lru_note_cost, lruvec_del, lruvec_lru_size, lruvec_page_state, refresh_stats, workingset_age_nonresident,
)
from mmlab_linux.reclaimer.scan_count import ALL_ZONES, CONTROL_DEACTIVATE_ANON, NR_CONTROLS, end_pass, get_scan_count, prepare_scan_control
from mmlab_linux.reclaimer.shrink_list import shrink_active_list, shrink_inactive_list

NODE_BITS = 6  # of a shadow: nonresident age, node, PG_WORKINGSET
REFAULT_ACTIVATE, REFAULT_RESTORE = 1, 2


@frozen
class Params:
    """stats_period_ms: how often the statistics behind some decisions are refreshed; 0: exact, as in a kernel without memory cgroups."""

    stats_period_ms: int = field(default=2000, validator=ge(0))


def new_state(params, machine):
    """vec: VEC_* a node; stats: lagging sizes a node; batch: per-CPU batches; nr, targets, control: of the pass that runs."""
    nodes, cpus = machine.sizes.nr_nodes, machine.sizes.nr_cpus
    vec = np.zeros((nodes, VEC_STRIDE), np.int64)
    vec[:, VEC_LAST_PRIORITY : VEC_LAST_PRIORITY + 2] = DEF_PRIORITY
    return {
        "vec": vec.reshape(-1),
        "stats": np.zeros(STAT_STRIDE * nodes, np.int64),
        "end_activated": np.zeros(2 * nodes, np.int64),
        "next_refresh_ns": np.zeros(1, np.int64),
        "batch": np.zeros(BATCH_STRIDE * NR_BATCHES * cpus, np.int64),
        "nr": np.zeros(4, np.int64),
        "targets": np.zeros(4, np.int64),
        "control": np.zeros(NR_CONTROLS, np.int64),
    }


@kernel
def folio_added(m, st, pfn):
    """folio_add_lru()."""
    return batch_add(m, st, pfn, BATCH_ADD)


@kernel
def folio_removed(m, st, pfn):
    """Off its list, or out of the batch in which it waits."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU == 0:
        return batch_remove(m, st, pfn)
    lruvec_del(m, pfn, flags)
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
        workingset_age_nonresident(st, page_node(m, pfn), folio_nr_pages(m, pfn, flags))
    return 0


@kernel
def folio_deactivate(m, st, pfn):
    """folio_deactivate(): an active page becomes inactive; others stay where they are."""
    flags = page_flags(m, pfn)
    if flags & PG_ACTIVE == 0 or flags & PG_UNEVICTABLE:
        return 0
    return batch_add(m, st, pfn, BATCH_DEACTIVATE)


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
def shrink_lruvec(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Scan the lists in turn, 32 pages each, until the targets are met or enough is reclaimed: pages reclaimed."""
    get_scan_count(m, st, node, priority, scan_flags)
    for lru in range(4):
        st.targets[lru] = st.nr[lru]
    scan_all = scan_flags & SCAN_KSWAPD == 0 and priority == DEF_PRIORITY
    nr_reclaimed = 0
    while st.nr[LRU_INACTIVE_ANON] or st.nr[LRU_ACTIVE_FILE] or st.nr[LRU_INACTIVE_FILE]:
        for lru in range(4):
            nr_to_scan = min(st.nr[lru], SWAP_CLUSTER_MAX)
            if nr_to_scan == 0:
                continue
            st.nr[lru] -= nr_to_scan
            if lru == LRU_INACTIVE_ANON or lru == LRU_INACTIVE_FILE:
                nr_reclaimed += shrink_inactive_list(m, st, node, lru, nr_to_scan, scan_flags)
            elif st.control[CONTROL_DEACTIVATE_ANON + (1 if lru == LRU_ACTIVE_FILE else 0)]:
                shrink_active_list(m, st, node, lru, nr_to_scan, scan_flags)
        if nr_reclaimed < nr_to_reclaim or scan_all:
            continue
        nr_anon = st.nr[LRU_INACTIVE_ANON] + st.nr[LRU_ACTIVE_ANON]
        nr_file = st.nr[LRU_INACTIVE_FILE] + st.nr[LRU_ACTIVE_FILE]
        if nr_anon == 0 or nr_file == 0:
            break
        rebalance(st, nr_anon, nr_file)
    return nr_reclaimed


@kernel
def age_active_anon(m, st, node, scan_flags):
    """With swap space, keep the inactive anonymous list long enough to tell used pages from unused ones."""
    if m.sc[SC_NR_SWAP_SLOTS] > 0 and inactive_is_low(st, node, LRU_INACTIVE_ANON):
        shrink_active_list(m, st, node, LRU_ACTIVE_ANON, SWAP_CLUSTER_MAX, scan_flags)


@kernel
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """One pass over the node's lists: pages reclaimed."""
    prepare_scan_control(m, st, node, priority, scan_flags)
    nr_reclaimed = shrink_lruvec(m, st, node, priority, nr_to_reclaim, scan_flags)
    age_active_anon(m, st, node, scan_flags)
    end_pass(st, node, scan_flags, nr_reclaimed)
    return nr_reclaimed


@kernel
def age_node(m, st, node):
    """kswapd_age_node()."""
    reclaim_idx = m.node[node * NODE_STRIDE + N_KSWAPD_IDX]
    age_active_anon(m, st, node, SCAN_KSWAPD | SCAN_MAY_SWAP | SCAN_MAY_UNMAP | (reclaim_idx << SCAN_RECLAIM_IDX_SHIFT))
    return 0


@kernel
def eviction_shadow(m, st, pfn):
    """The node's clock of evictions and activations now, and whether the page had been active."""
    flags = page_flags(m, pfn)
    node = page_node(m, pfn)
    age = st.vec[node * VEC_STRIDE + VEC_AGE]
    workingset_age_nonresident(st, node, folio_nr_pages(m, pfn, flags))
    return (age << NODE_BITS | node) << 1 | (1 if flags & PG_WORKINGSET else 0)


@kernel
def workingset_size(m, st, node, is_file):
    """Pages that a refaulting page competes with."""
    size = lruvec_page_state(st, node, LRU_ACTIVE_FILE)
    if is_file == 0:
        size += lruvec_page_state(st, node, LRU_INACTIVE_FILE)
    if m.sc[SC_NR_SWAP_FREE] > 0:
        size += lruvec_page_state(st, node, LRU_ACTIVE_ANON)
        if is_file:
            size += lruvec_page_state(st, node, LRU_INACTIVE_ANON)
    return size


@kernel
def workingset_refault(m, st, pfn, shadow):
    """A page whose refault distance fits into the working set starts active. The core sets PG_ACTIVE and PG_WORKINGSET by the answer."""
    refresh_stats(m, st)
    node = (shadow >> 1) & ((1 << NODE_BITS) - 1)
    base = node * VEC_STRIDE
    flags = page_flags(m, pfn)
    kind = folio_is_file(flags)
    if st.vec[base + VEC_AGE] - (shadow >> (NODE_BITS + 1)) > workingset_size(m, st, node, kind == FILE):
        return 0
    pages = folio_nr_pages(m, pfn, flags)
    workingset_age_nonresident(st, page_node(m, pfn), pages)
    st.vec[page_node(m, pfn) * VEC_STRIDE + VEC_ACTIVATED + kind] += pages
    if shadow & 1 == 0:
        return REFAULT_ACTIVATE
    lru_note_cost(st, page_node(m, pfn), kind, pages, 0)
    return REFAULT_ACTIVATE | REFAULT_RESTORE


@kernel
def drain(m, st, cpu):
    """lru_add_drain()."""
    return lru_add_drain(m, st, cpu)


@kernel
def nr_lru_pages(m, st, node, lru):
    """From the zones' rows; pages in batches are not counted yet."""
    return lruvec_lru_size(m, node, lru, ALL_ZONES)


@kernel
def waits_in_batch(st, pfn):
    """1 if a page without PG_LRU waits in a batch that leaves it on its list."""
    for row in range(len(st.batch) // BATCH_STRIDE):
        if row % NR_BATCHES != BATCH_ADD and find_in_batch(st, row // NR_BATCHES, row % NR_BATCHES, pfn) >= 0:
            return 1
    return 0


@kernel
def check(m, st):
    """1: a broken link; 2: a page on a list is neither PG_LRU nor in a batch; 3: it is on another list than its flags say; 4: a list's size
    is not what the zones' rows say; 5: a page in a batch has PG_LRU; 6: pages were left isolated."""
    for node in range(m.sc[SC_NR_NODES]):
        for lru in range(8):
            head = policy_list(m, node, lru)
            before = head
            pages = 0
            pfn = page_next(m, head)
            while pfn != head:
                if page_prev(m, pfn) != before:
                    return 1
                if lru >= NR_LRU_LISTS:
                    return 6
                flags = page_flags(m, pfn)
                if flags & PG_LRU == 0 and waits_in_batch(st, pfn) == 0:
                    return 2
                if page_node(m, pfn) != node or folio_lru_list(flags) != lru:
                    return 3
                pages += folio_nr_pages(m, pfn, flags)
                before = pfn
                pfn = page_next(m, pfn)
            if page_prev(m, head) != before:
                return 1
            if lru < NR_LRU_LISTS and pages != lruvec_lru_size(m, node, lru, ALL_ZONES):
                return 4
    for row in range(len(st.batch) // BATCH_STRIDE):
        for i in range(st.batch[row * BATCH_STRIDE]):
            if page_flags(m, st.batch[row * BATCH_STRIDE + 1 + i]) & PG_LRU:
                return 5
    return 0


TWO_LIST = Reclaimer(
    name="two_list",
    summary="Linux's classic active and inactive lists with refault detection",
    models="mm/vmscan.c, mm/swap.c, mm/workingset.c (6.12, lru_gen off)",
    left_out="memory cgroups, write-back throttling",
    level="L2",
    params=Params,
    new_state=new_state,
    folio_added=folio_added,
    folio_accessed=folio_accessed,
    folio_removed=folio_removed,
    folio_deactivate=folio_deactivate,
    folio_rotate=folio_rotate,
    shrink_node=shrink_node,
    age_node=age_node,
    eviction_shadow=eviction_shadow,
    workingset_refault=workingset_refault,
    drain=drain,
    nr_lru_pages=nr_lru_pages,
    check=check,
)
