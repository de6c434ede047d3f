"""New generations: when one is made, and what happens to the oldest.

Models: mm/vmscan.c should_run_aging(), try_to_inc_max_seq(), inc_max_seq(), inc_min_seq(), try_to_inc_min_seq(), lru_gen_age_node(),
lruvec_is_reclaimable(), set_initial_priority().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add_tail, list_del, list_empty
from mmlab.kernels.memcg import lruvec_memcg, lruvec_node, memcg_swap_pages, nr_lruvecs
from mmlab.kernels.memory_tiers import can_demote
from mmlab.kernels.services import out_of_memory
from mmlab.model.const import DEF_PRIORITY, SCAN_MAY_SWAP
from mmlab.model.gfp import MAX_NR_ZONES
from mmlab.model.page import page_flags, page_prev
from mmlab.model.rows import (
    MC_EMIN, MC_USAGE, MEMCG_STRIDE, SC_MM_WALK, SC_NOW_NS, SC_NR_NODES, SC_NR_ZONES, SC_SWAPPINESS, ZONE_STRIDE, Z_INDEX, Z_NODE,
)
from mmlab_linux.reclaimer.lruvec import ALL_ZONES, ANON, FILE, lruvec_lru_size, update_zone_lru_size
from mmlab_linux.reclaimer.mglru.control import reset_ctrl_pos
from mmlab_linux.reclaimer.mglru.lrugen import (
    BIRTH_NS, GEN_STRIDE, MAX_NR_GENS, MAX_SEQ, MIN_LRU_BATCH, MIN_NR_GENS, MIN_SEQ, NR_STRIDE, WALKED_SEQ, flags_gen, folio_inc_gen,
    gen_cell, gen_list, gen_size, lru_of, max_seq, min_seq, nr_gens, zone_index_of,
)
from mmlab_linux.reclaimer.mglru.walk import walk_mm_list


@leaf
def get_swappiness(m, lruvec, scan_flags):
    """vm.swappiness, or 0 where the cgroup has not a batch's worth of swap left and the node no slower one to demote to."""
    if scan_flags & SCAN_MAY_SWAP == 0:
        return 0
    if can_demote(m, lruvec_node(m, lruvec), scan_flags) == 0 and memcg_swap_pages(m, lruvec_memcg(m, lruvec)) < MIN_LRU_BATCH:
        return 0
    return m.sc[SC_SWAPPINESS]


@kernel
def inc_min_seq(m, st, lruvec, kind, can_swap):
    """The oldest generation is merged into the next: its pages to the tail there, so that they stay first in line."""
    if kind == FILE or can_swap:
        old = min_seq(st, lruvec, kind) % MAX_NR_GENS
        for zone in range(MAX_NR_ZONES):
            head = gen_list(m, lruvec, old, kind, zone)
            while list_empty(m, head) == 0:
                pfn = page_prev(m, head)
                list_del(m, pfn)
                list_add_tail(m, gen_list(m, lruvec, folio_inc_gen(m, st, lruvec, pfn, 0), kind, zone), pfn)
    reset_ctrl_pos(st, lruvec, kind)
    st.gen[lruvec * GEN_STRIDE + MIN_SEQ + kind] += 1


@kernel
def inc_max_seq(m, st, lruvec, can_swap):
    """A new, empty youngest generation. What was second-youngest counts as inactive from now on."""
    for kind in (FILE, ANON):
        if nr_gens(st, lruvec, kind) == MAX_NR_GENS:
            inc_min_seq(m, st, lruvec, kind, can_swap)
    seq = max_seq(st, lruvec)
    prev, following = (seq - 1) % MAX_NR_GENS, (seq + 1) % MAX_NR_GENS
    node = lruvec_node(m, lruvec)
    for kind in range(2):
        for zone in range(m.sc[SC_NR_ZONES]):
            if m.zone[zone * ZONE_STRIDE + Z_NODE] != node:
                continue
            index = m.zone[zone * ZONE_STRIDE + Z_INDEX]
            base = lruvec * NR_STRIDE
            delta = st.nr[base + gen_cell(prev, kind, index)] - st.nr[base + gen_cell(following, kind, index)]
            for active in range(2):
                update_zone_lru_size(m, st, lruvec_memcg(m, lruvec), zone, lru_of(kind, active), -delta if active else delta)
    st.gen[lruvec * GEN_STRIDE + BIRTH_NS + following] = m.sc[SC_NOW_NS]
    st.gen[lruvec * GEN_STRIDE + MAX_SEQ] = seq + 1


@kernel
def try_to_inc_max_seq(m, st, lruvec, seq, can_swap, force_scan):
    """Walk page tables for the pass at max_seq = seq, then make a new generation. 0 if that pass has been made already."""
    base = lruvec * GEN_STRIDE
    if seq <= st.gen[base + WALKED_SEQ] or seq != max_seq(st, lruvec):
        return 0
    m.sc[SC_MM_WALK] = 1  # who has none yet is given a walk state, and has it until the pass ends
    walk_mm_list(m, st, lruvec, seq, can_swap, force_scan)
    st.gen[base + WALKED_SEQ] = seq
    inc_max_seq(m, st, lruvec, can_swap)
    return 1


@kernel
def try_to_inc_min_seq(m, st, lruvec, can_swap):
    """Drop oldest generations whose lists are empty, down to two left: 1 if any went. With swap, file pages are never behind anonymous ones."""
    for kind in range(1 - can_swap, 2):
        seq = min_seq(st, lruvec, kind)
        while seq + MIN_NR_GENS <= max_seq(st, lruvec):
            empty = 1
            for zone in range(MAX_NR_ZONES):
                if list_empty(m, gen_list(m, lruvec, seq % MAX_NR_GENS, kind, zone)) == 0:
                    empty = 0
            if empty == 0:
                break
            seq += 1
        st.oldest[kind] = seq
    if can_swap:
        st.oldest[ANON] = min(st.oldest[ANON], st.oldest[FILE])
        st.oldest[FILE] = max(st.oldest[ANON], min_seq(st, lruvec, FILE))
    moved = 0
    for kind in range(1 - can_swap, 2):
        if st.oldest[kind] != min_seq(st, lruvec, kind):
            reset_ctrl_pos(st, lruvec, kind)
            st.gen[lruvec * GEN_STRIDE + MIN_SEQ + kind] = st.oldest[kind]
            moved = 1
    return moved


@kernel
def lruvec_total(st, lruvec, can_swap):
    """Pages of all generations that could be evicted."""
    pages = 0
    for kind in range(1 - can_swap, 2):
        for seq in range(min_seq(st, lruvec, kind), max_seq(st, lruvec) + 1):
            pages += gen_size(st, lruvec, seq % MAX_NR_GENS, kind)
    return pages


@kernel
def should_run_aging(st, lruvec, can_swap):
    """1 if a new generation is due: only two are left, or with three the youngest holds over half or the oldest under a quarter."""
    seq = max_seq(st, lruvec)
    oldest = min_seq(st, lruvec, 1 - can_swap)
    if oldest + MIN_NR_GENS > seq:
        return 1
    if oldest + MIN_NR_GENS < seq:
        return 0
    young = old = 0
    for kind in range(1 - can_swap, 2):
        if min_seq(st, lruvec, kind) <= seq:
            young += gen_size(st, lruvec, seq % MAX_NR_GENS, kind)
        if min_seq(st, lruvec, kind) <= seq - MIN_NR_GENS:
            old += gen_size(st, lruvec, (seq - MIN_NR_GENS) % MAX_NR_GENS, kind)
    total = lruvec_total(st, lruvec, can_swap)
    return 1 if young * MIN_NR_GENS > total or old * (MIN_NR_GENS + 2) < total else 0


@leaf
def fls(x):
    """Position of the highest bit set, from 1; 0 for 0."""
    n = 0
    while x >> n:
        n += 1
    return n


@kernel
def initial_priority(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Where a run that wants much begins, so that the inactive part of its first scan is about what it wants."""
    if priority != DEF_PRIORITY or nr_to_reclaim < MIN_LRU_BATCH:
        return priority
    reclaimable = 0
    lruvec = node
    while lruvec < nr_lruvecs(m):
        reclaimable += lruvec_lru_size(m, st, lruvec, lru_of(FILE, 0), ALL_ZONES)
        if scan_flags & SCAN_MAY_SWAP and memcg_swap_pages(m, 0) > 0:
            reclaimable += lruvec_lru_size(m, st, lruvec, lru_of(ANON, 0), ALL_ZONES)
        lruvec += m.sc[SC_NR_NODES]
    return min(max(fls(reclaimable) - 1 - fls(nr_to_reclaim - 1), DEF_PRIORITY // 2), DEF_PRIORITY)


@kernel
def lruvec_is_reclaimable(m, st, lruvec, min_ttl_ns):
    """1 if the lruvec is large enough, not protected, and its oldest file generation is older than min_ttl."""
    memcg = lruvec_memcg(m, lruvec)
    if memcg and m.memcg[memcg * MEMCG_STRIDE + MC_USAGE] <= m.memcg[memcg * MEMCG_STRIDE + MC_EMIN]:
        return 0
    can_swap = 1 if get_swappiness(m, lruvec, SCAN_MAY_SWAP) else 0
    if lruvec_total(st, lruvec, can_swap) >> DEF_PRIORITY == 0:
        return 0
    birth = st.gen[lruvec * GEN_STRIDE + BIRTH_NS + min_seq(st, lruvec, FILE) % MAX_NR_GENS]
    return 1 if birth + min_ttl_ns < m.sc[SC_NOW_NS] else 0


@kernel
def age_node(m, st, node):
    """lru_gen_age_node(): if lru_gen/min_ttl_ms is set and no lruvec has anything older to give, the OOM killer makes room."""
    if st.min_ttl_ms[0] == 0:
        return 0
    lruvec = node
    while lruvec < nr_lruvecs(m):
        if lruvec_is_reclaimable(m, st, lruvec, st.min_ttl_ms[0] * 1_000_000):
            return 0
        lruvec += m.sc[SC_NR_NODES]
    out_of_memory(m, -1, 0)
    return 0


@leaf
def promoted(m, st, lruvec, pfn, kind):
    """1 if a walk has moved the page out of the oldest generation, on whose list it still is."""
    return 1 if flags_gen(page_flags(m, pfn)) != min_seq(st, lruvec, kind) % MAX_NR_GENS else 0


@leaf
def list_of_page(m, lruvec, pfn, kind):
    """Head of the list that the page's flags name."""
    flags = page_flags(m, pfn)
    return gen_list(m, lruvec, flags_gen(flags), kind, zone_index_of(m, flags))
