"""How much of each list a pass scans, and whether active lists may be shrunk.

Models: mm/vmscan.c prepare_scan_control(), get_scan_count(), snapshot_refaults(), can_reclaim_anon_pages().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import lruvec_memcg, lruvec_node, memcg_swap_pages, protected_size
from mmlab.kernels.memory_tiers import can_demote
from mmlab.kernels.zones import wmark_pages, zone_free_exact
from mmlab.model.const import (
    LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, NOTE_SKIPPED_DEACTIVATE, NOTE_TRIM_MODE, SCAN_FORCE_DEACTIVATE, SCAN_MAY_SWAP,
    SCAN_NO_TRIM_MODE, SCAN_RECLAIM_IDX_SHIFT,
)
from mmlab.model.rows import (
    SC_NR_ZONES, SC_RECLAIM_MEMCG, SC_RECLAIM_NOTES, SC_SWAPPINESS, Z_LRU, Z_MANAGED, Z_NODE, ZONE_STRIDE,
)
from mmlab_linux.reclaimer.lruvec import (
    ALL_ZONES, ANON, FILE, STAT_ACTIVATED, STAT_STRIDE, VEC_COST, VEC_SEEN, VEC_STRIDE, inactive_is_low, lruvec_lru_size,
    lruvec_page_state, refresh_stats,
)

MAX_SWAPPINESS = 200
# st.control: what prepare_scan() decided for a pass over a node and the cgroups on it
CONTROL_DEACTIVATE_ANON, CONTROL_DEACTIVATE_FILE, CONTROL_CACHE_TRIM_MODE, CONTROL_FILE_IS_TINY, CONTROL_ANON_COST, CONTROL_FILE_COST = range(6)
NR_CONTROLS = 6


@kernel
def end_reclaim(m, st, lruvec):
    """snapshot_refaults(): a run has ended; activations from now on tell the next one that the working set changes."""
    for kind in range(2):
        st.vec[lruvec * VEC_STRIDE + VEC_SEEN + kind] = st.stats[lruvec * STAT_STRIDE + STAT_ACTIVATED + kind]
    return 0


@kernel
def file_is_tiny(m, st, lruvec, priority):
    """1 if even all file pages would not bring the node above its high watermarks, and there are old anonymous pages to take."""
    if st.control[CONTROL_DEACTIVATE_ANON] or lruvec_lru_size(m, st, lruvec, LRU_INACTIVE_ANON, ALL_ZONES) >> priority == 0:
        return 0
    free = 0
    file = 0
    total_high = 0
    node = lruvec_node(m, lruvec)
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node and m.zone[base + Z_MANAGED] > 0:
            free += zone_free_exact(m, zone)
            total_high += wmark_pages(m, zone, 2)
            file += m.zone[base + Z_LRU + LRU_INACTIVE_FILE] + m.zone[base + Z_LRU + LRU_ACTIVE_FILE]
    return 1 if file + free <= total_high else 0


@kernel
def prepare_scan(m, st, lruvec, priority, nr_to_reclaim, scan_flags):
    """Fill st.control for a pass; lruvec: of the cgroup that is reclaimed from."""
    refresh_stats(m, st)
    for kind in range(2):
        activated = st.stats[lruvec * STAT_STRIDE + STAT_ACTIVATED + kind] != st.vec[lruvec * VEC_STRIDE + VEC_SEEN + kind]
        low = inactive_is_low(st, lruvec, LRU_INACTIVE_FILE if kind == FILE else LRU_INACTIVE_ANON)
        st.control[CONTROL_DEACTIVATE_ANON + kind] = 1 if activated or low or scan_flags & SCAN_FORCE_DEACTIVATE else 0
    plenty = lruvec_page_state(st, lruvec, LRU_INACTIVE_FILE) >> priority
    trim = plenty > 0 and st.control[CONTROL_DEACTIVATE_FILE] == 0 and scan_flags & SCAN_NO_TRIM_MODE == 0
    st.control[CONTROL_CACHE_TRIM_MODE] = 1 if trim else 0
    m.sc[SC_RECLAIM_NOTES] = (m.sc[SC_RECLAIM_NOTES] & ~NOTE_TRIM_MODE) | (NOTE_TRIM_MODE if trim else 0)
    st.control[CONTROL_FILE_IS_TINY] = file_is_tiny(m, st, lruvec, priority) if m.sc[SC_RECLAIM_MEMCG] == 0 else 0
    st.control[CONTROL_ANON_COST] = st.vec[lruvec * VEC_STRIDE + VEC_COST + ANON]
    st.control[CONTROL_FILE_COST] = st.vec[lruvec * VEC_STRIDE + VEC_COST + FILE]
    return 0


@kernel
def get_scan_count(m, st, lruvec, priority, scan_flags):
    """Fill st.nr with the pages to scan of the four evictable lists."""
    swappiness = m.sc[SC_SWAPPINESS]
    anon_share = 1
    file_share = 1
    no_swap = memcg_swap_pages(m, lruvec_memcg(m, lruvec)) <= 0 and can_demote(m, lruvec_node(m, lruvec), scan_flags) == 0
    if scan_flags & SCAN_MAY_SWAP == 0 or no_swap:
        anon_share = 0
    elif m.sc[SC_RECLAIM_MEMCG] > 0 and swappiness == 0:
        anon_share = 0
    elif priority == 0 and swappiness:
        anon_share = 1
    elif st.control[CONTROL_FILE_IS_TINY]:
        file_share = 0
    elif st.control[CONTROL_CACHE_TRIM_MODE]:
        anon_share = 0
    else:
        total = st.control[CONTROL_ANON_COST] + st.control[CONTROL_FILE_COST]
        # each kind's share falls with its cost, but never below a third
        anon_weight = total + st.control[CONTROL_ANON_COST]
        file_weight = total + st.control[CONTROL_FILE_COST]
        anon_share = swappiness * (anon_weight + file_weight + 1) // (anon_weight + 1)
        file_share = (MAX_SWAPPINESS - swappiness) * (anon_weight + file_weight + 1) // (file_weight + 1)
    equal = 1 if anon_share <= 1 and file_share <= 1 else 0
    for lru in range(LRU_ACTIVE_FILE + 1):
        scan = protected_size(m, lruvec_lru_size(m, st, lruvec, lru, scan_flags >> SCAN_RECLAIM_IDX_SHIFT)) >> priority
        share = file_share if lru >= LRU_INACTIVE_FILE else anon_share
        st.nr[lru] = scan * share if equal else scan * share // (anon_share + file_share)
    return 0


@leaf
def skip_deactivate(m):
    """An active list was left alone: if the run gets nothing, it is worth trying again by force."""
    m.sc[SC_RECLAIM_NOTES] |= NOTE_SKIPPED_DEACTIVATE
