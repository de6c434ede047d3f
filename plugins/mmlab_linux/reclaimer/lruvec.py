"""The lruvec of the classic LRU: five lists for each node of each cgroup, how many pages are on them, and the statistics that lag behind.

Models: include/linux/mm_inline.h lruvec_add_folio(), lruvec_del_folio(); mm/vmscan.c lruvec_lru_size(), inactive_is_low(); mm/memcontrol.c
lruvec_page_state(), flush_memcg_stats_dwork(); mm/swap.c lru_note_cost().

List sizes are exact, by zone: all cgroups' in the zones' rows (Z_LRU), each cgroup's own in st.size. But some decisions read a copy of them,
which includes the cgroup's descendants, that the kernel refreshes every two seconds (st.stats); which, ground truth shows to matter.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.lists import list_add, list_add_tail, list_del, policy_list
from mmlab.kernels.memcg import count_folio_events, lruvec_memcg, lruvec_node, nr_lruvecs, page_lruvec, parent_lruvec
from mmlab.kernels.zones import mod_zone_lru
from mmlab.model.const import (
    LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, LRU_UNEVICTABLE, RECLAIM_ACTIVATE, SWAP_CLUSTER_MAX,
)
from mmlab.model.page import (
    PG_ACTIVE, PG_HEAD, PG_LRU, PG_MLOCKED, PG_SWAPBACKED, PG_UNEVICTABLE, ZONE_SHIFT, page_flags, page_memcg, page_order, set_page_flags,
)
from mmlab.model.rows import SC_NOW_NS, SC_NR_MEMCGS, SC_NR_ZONES, ZONE_STRIDE, Z_INDEX, Z_NODE
from mmlab.model.vmstat import V_PGACTIVATE

ANON, FILE = 0, 1
PAGES_PER_GIB_SHIFT = 18
SIZE_STRIDE = 8  # st.size: by LRU_*, for each zone of each cgroup
ALL_ZONES = 8  # above the highest zone index
# st.vec, VEC_STRIDE words a lruvec: exact values
VEC_STRIDE = 8
VEC_AGE, VEC_COST, VEC_ACTIVATED, VEC_SEEN = 0, 1, 3, 5  # two words each from VEC_COST on, by ANON and FILE
# st.stats, STAT_STRIDE words a lruvec: LRU_* sizes and activations, descendants' included, as of the last refresh
STAT_STRIDE = 8
STAT_ACTIVATED = 5


@leaf
def folio_nr_pages(m, pfn, flags):
    """Pages of the folio that pfn heads."""
    return 1 << page_order(m, pfn) if unlikely(flags & PG_HEAD) else 1


@leaf
def folio_is_file(flags):
    """FILE for a page of the file lists, ANON for one that has swap behind it (shmem too)."""
    return ANON if flags & PG_SWAPBACKED else FILE


@leaf
def folio_lru_list(flags):
    """LRU_* by the page's flags."""
    if unlikely(flags & PG_UNEVICTABLE):
        return LRU_UNEVICTABLE
    return (LRU_INACTIVE_ANON if flags & PG_SWAPBACKED else LRU_INACTIVE_FILE) + (1 if flags & PG_ACTIVE else 0)


@leaf
def update_lru_size(m, st, pfn, flags, lru, pages):
    """Pages join (or leave, if negative) a list of the zone that flags name."""
    update_zone_lru_size(m, st, page_memcg(m, pfn) if m.sc[SC_NR_MEMCGS] > 1 else 0, flags >> ZONE_SHIFT, lru, pages)


@leaf
def update_zone_lru_size(m, st, memcg, zone, lru, pages):
    """The same for pages of a cgroup and a zone."""
    mod_zone_lru(m, zone, lru, pages)
    st.size[(memcg * m.sc[SC_NR_ZONES] + zone) * SIZE_STRIDE + lru] += pages


@kernel
def lruvec_add(m, st, pfn, flags):
    """To the head of the list that flags say, counted."""
    lru = folio_lru_list(flags)
    list_add(m, policy_list(m, page_lruvec(m, pfn), lru), pfn)
    update_lru_size(m, st, pfn, flags, lru, folio_nr_pages(m, pfn, flags))


@kernel
def lruvec_add_tail(m, st, pfn, flags):
    """To the tail of the list that flags say, counted."""
    lru = folio_lru_list(flags)
    list_add_tail(m, policy_list(m, page_lruvec(m, pfn), lru), pfn)
    update_lru_size(m, st, pfn, flags, lru, folio_nr_pages(m, pfn, flags))


@kernel
def lruvec_del(m, st, pfn, flags):
    """Off the list that flags say, no longer counted."""
    list_del(m, pfn)
    update_lru_size(m, st, pfn, flags, folio_lru_list(flags), -folio_nr_pages(m, pfn, flags))


@kernel
def lruvec_lru_size(m, st, lruvec, lru, reclaim_idx):
    """Pages on a lruvec's list in zones up to reclaim_idx, exact."""
    pages = 0
    node = lruvec_node(m, lruvec)
    first = lruvec_memcg(m, lruvec) * m.sc[SC_NR_ZONES]
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node and m.zone[zone * ZONE_STRIDE + Z_INDEX] <= reclaim_idx:
            pages += st.size[(first + zone) * SIZE_STRIDE + lru]
    return pages


@kernel
def flush_stats(m, st):
    """Bring the lagging statistics up to date."""
    last = nr_lruvecs(m) - 1
    for lruvec in range(last + 1):
        for lru in range(STAT_ACTIVATED):
            st.stats[lruvec * STAT_STRIDE + lru] = lruvec_lru_size(m, st, lruvec, lru, ALL_ZONES)
        for kind in range(2):
            st.stats[lruvec * STAT_STRIDE + STAT_ACTIVATED + kind] = st.vec[lruvec * VEC_STRIDE + VEC_ACTIVATED + kind]
    lruvec = last
    while lruvec >= 0:  # children have higher numbers than their parents
        parent = parent_lruvec(m, lruvec)
        if parent >= 0:
            for item in range(STAT_ACTIVATED + 2):
                st.stats[parent * STAT_STRIDE + item] += st.stats[lruvec * STAT_STRIDE + item]
        lruvec -= 1
    return 0


@kernel
def refresh_stats(m, st):
    """Bring the lagging statistics up to date if their period has passed (0: always)."""
    now = m.sc[SC_NOW_NS]
    if now < st.next_refresh_ns[0]:
        return 0
    period = st.refresh_ns[0]
    st.next_refresh_ns[0] = now + period - (now - st.next_refresh_ns[0]) % period if period > 0 else now
    return flush_stats(m, st)


@leaf
def lruvec_page_state(st, lruvec, lru):
    """Size of a list as the statistics have it."""
    return st.stats[lruvec * STAT_STRIDE + lru]


@kernel
def int_sqrt(x):
    """Largest r with r * r <= x, for small x."""
    r = 0
    while (r + 1) * (r + 1) <= x:
        r += 1
    return r


@kernel
def inactive_is_low(st, lruvec, inactive_lru):
    """1 if the inactive list is so short against the active one that pages should be deactivated."""
    inactive = lruvec_page_state(st, lruvec, inactive_lru)
    active = lruvec_page_state(st, lruvec, inactive_lru + 1)
    gib = (inactive + active) >> PAGES_PER_GIB_SHIFT
    ratio = int_sqrt(10 * gib) if gib else 1
    return 1 if inactive * ratio < active else 0


@kernel
def lru_note_cost(m, st, lruvec, kind, nr_io, nr_rotated):
    """Reclaiming this kind of page cost so much, to the lruvec and its parents; costs are halved once they exceed a quarter of the lists."""
    at = lruvec
    while at >= 0:
        costs = at * VEC_STRIDE + VEC_COST
        st.vec[costs + kind] += nr_io * SWAP_CLUSTER_MAX + nr_rotated
        lru_size = (
            lruvec_page_state(st, at, LRU_INACTIVE_ANON) + lruvec_page_state(st, at, LRU_ACTIVE_ANON)
            + lruvec_page_state(st, at, LRU_INACTIVE_FILE) + lruvec_page_state(st, at, LRU_ACTIVE_FILE)
        )  # fmt: skip
        if st.vec[costs + ANON] + st.vec[costs + FILE] > lru_size // 4:
            st.vec[costs + ANON] //= 2
            st.vec[costs + FILE] //= 2
        at = parent_lruvec(m, at)


@leaf
def workingset_age_nonresident(m, st, lruvec, pages):
    """The clock of evictions and activations, the lruvec's and its parents'."""
    at = lruvec
    while at >= 0:
        st.vec[at * VEC_STRIDE + VEC_AGE] += pages
        at = parent_lruvec(m, at)


@kernel
def put_back(m, st, pfn):
    """An isolated page returns to the head of the list its flags name; landing on an active list moves its lruvec's clock."""
    flags = page_flags(m, pfn) | PG_LRU
    m.page[pfn * 4 + 2] = flags
    lruvec_add(m, st, pfn, flags)
    if flags & PG_ACTIVE:
        workingset_age_nonresident(m, st, page_lruvec(m, pfn), folio_nr_pages(m, pfn, flags))
    return 0


@leaf
def note_kept(m, pfn, verdict):
    """shrink_folio_list() keeps an isolated page: one in use is made active, and counted, unless mlock() holds it."""
    flags = page_flags(m, pfn)
    if verdict == RECLAIM_ACTIVATE and flags & PG_MLOCKED == 0:
        set_page_flags(m, pfn, flags | PG_ACTIVE)
        count_folio_events(m, pfn, V_PGACTIVATE, folio_nr_pages(m, pfn, flags))
