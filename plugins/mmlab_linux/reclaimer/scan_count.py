"""How much of each list a pass scans, and whether active lists may be shrunk.

Models: mm/vmscan.c prepare_scan_control(), get_scan_count(), snapshot_refaults(). Left out: memory cgroups, demotion.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import wmark_pages, zone_free_exact
from mmlab.model.const import (
    DEF_PRIORITY, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, SCAN_KSWAPD, SCAN_MAY_SWAP, SCAN_RECLAIM_IDX_SHIFT,
)
from mmlab.model.rows import N_KSWAPD_WAKE_NS, NODE_STRIDE, SC_NR_SWAP_FREE, SC_NR_ZONES, SC_SWAPPINESS, Z_MANAGED, Z_NODE, ZONE_STRIDE
from mmlab_linux.reclaimer.lruvec import (
    ANON, FILE, STAT_ACTIVATED, STAT_STRIDE, VEC_COST, VEC_DESPERATE, VEC_LAST_PRIORITY, VEC_RECLAIMED, VEC_RUN, VEC_SEEN, VEC_STRIDE,
    inactive_is_low, lruvec_lru_size, lruvec_page_state, refresh_stats,
)

MAX_SWAPPINESS = 200
ALL_ZONES = 8  # above the highest zone index
# st.control: what a pass decided
CONTROL_DEACTIVATE_ANON, CONTROL_DEACTIVATE_FILE, CONTROL_CACHE_TRIM_MODE, CONTROL_FILE_IS_TINY = 0, 1, 2, 3
NR_CONTROLS = 4


@kernel
def begin_run(m, st, node, priority, scan_flags):
    """Notice that a new run of kswapd (or of direct reclaim) begins: its first pass is at a higher priority number than the last one's end.

    A run that got nothing down to its lowest priority makes the next one desperate, as the kernel restarts it at once: direct reclaim
    then deactivates by force, kswapd no longer spares anonymous pages for plenty of file cache. Returns 1 if this run is desperate.
    """
    kswapd = 1 if scan_flags & SCAN_KSWAPD else 0
    base = node * VEC_STRIDE
    wake = m.node[node * NODE_STRIDE + N_KSWAPD_WAKE_NS] if kswapd else 0
    last = st.vec[base + VEC_LAST_PRIORITY + kswapd]
    if priority > last or wake != st.vec[base + VEC_RUN + kswapd] or (kswapd == 0 and priority == DEF_PRIORITY):
        lowest = 1 if kswapd else 0
        st.vec[base + VEC_DESPERATE + kswapd] = 1 if last == lowest and st.vec[base + VEC_RECLAIMED + kswapd] == 0 else 0
        st.vec[base + VEC_RECLAIMED + kswapd] = 0
        st.vec[base + VEC_RUN + kswapd] = wake
        for kind in range(2):
            st.vec[base + VEC_SEEN + kind] = st.end_activated[node * 2 + kind]
    st.vec[base + VEC_LAST_PRIORITY + kswapd] = priority
    return st.vec[base + VEC_DESPERATE + kswapd]


@leaf
def end_pass(st, node, scan_flags, nr_reclaimed):
    """Remember what the run has got and the activations that it has seen."""
    st.vec[node * VEC_STRIDE + VEC_RECLAIMED + (1 if scan_flags & SCAN_KSWAPD else 0)] += nr_reclaimed
    for kind in range(2):
        st.end_activated[node * 2 + kind] = st.stats[node * STAT_STRIDE + STAT_ACTIVATED + kind]


@kernel
def file_is_tiny(m, st, node, priority):
    """1 if even all file pages would not bring the node above its high watermarks, and there are old anonymous pages to take."""
    if st.control[CONTROL_DEACTIVATE_ANON] or lruvec_lru_size(m, node, LRU_INACTIVE_ANON, ALL_ZONES) >> priority == 0:
        return 0
    free = 0
    total_high = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node and m.zone[zone * ZONE_STRIDE + Z_MANAGED] > 0:
            free += zone_free_exact(m, zone)
            total_high += wmark_pages(m, zone, 2)
    file = lruvec_lru_size(m, node, LRU_INACTIVE_FILE, ALL_ZONES) + lruvec_lru_size(m, node, LRU_ACTIVE_FILE, ALL_ZONES)
    return 1 if file + free <= total_high else 0


@kernel
def prepare_scan_control(m, st, node, priority, scan_flags):
    """Fill st.control for a pass."""
    refresh_stats(m, st)
    desperate = begin_run(m, st, node, priority, scan_flags)
    kswapd = scan_flags & SCAN_KSWAPD
    for kind in range(2):
        activated = st.stats[node * STAT_STRIDE + STAT_ACTIVATED + kind] != st.vec[node * VEC_STRIDE + VEC_SEEN + kind]
        forced = desperate and kswapd == 0
        low = inactive_is_low(st, node, LRU_INACTIVE_FILE if kind == FILE else LRU_INACTIVE_ANON)
        st.control[CONTROL_DEACTIVATE_ANON + kind] = 1 if activated or low or forced else 0
    plenty = lruvec_page_state(st, node, LRU_INACTIVE_FILE) >> priority
    spare = plenty and st.control[CONTROL_DEACTIVATE_FILE] == 0 and not (desperate and kswapd)
    st.control[CONTROL_CACHE_TRIM_MODE] = 1 if spare else 0
    st.control[CONTROL_FILE_IS_TINY] = file_is_tiny(m, st, node, priority)
    return 0


@kernel
def get_scan_count(m, st, node, priority, scan_flags):
    """Fill st.nr with the pages to scan of the four evictable lists."""
    swappiness = m.sc[SC_SWAPPINESS]
    anon_share = 1
    file_share = 1
    if scan_flags & SCAN_MAY_SWAP == 0 or m.sc[SC_NR_SWAP_FREE] <= 0:
        anon_share = 0
    elif priority == 0 and swappiness:
        anon_share = 1
    elif st.control[CONTROL_FILE_IS_TINY]:
        file_share = 0
    elif st.control[CONTROL_CACHE_TRIM_MODE]:
        anon_share = 0
    else:
        anon_cost = st.vec[node * VEC_STRIDE + VEC_COST + ANON]
        file_cost = st.vec[node * VEC_STRIDE + VEC_COST + FILE]
        total = anon_cost + file_cost
        # each kind's share falls with its cost, but never below a third
        anon_weight = total + anon_cost
        file_weight = total + file_cost
        anon_share = swappiness * (anon_weight + file_weight + 1) // (anon_weight + 1)
        file_share = (MAX_SWAPPINESS - swappiness) * (anon_weight + file_weight + 1) // (file_weight + 1)
    equal = 1 if anon_share <= 1 and file_share <= 1 else 0
    for lru in range(LRU_ACTIVE_FILE + 1):
        scan = lruvec_lru_size(m, node, lru, scan_flags >> SCAN_RECLAIM_IDX_SHIFT) >> priority
        share = file_share if lru >= LRU_INACTIVE_FILE else anon_share
        st.nr[lru] = scan * share if equal else scan * share // (anon_share + file_share)
    return 0
