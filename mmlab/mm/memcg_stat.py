"""Statistics of cgroups that lag behind what they count, for the decisions of write-back and of the shrinker of shadows.

Models: mm/memcontrol.c flush_memcg_stats_dwork(), mem_cgroup_flush_stats(). A reclaimer that decides by lagging statistics keeps its own, which
are refreshed at the same times (mmlab.kernels.memcg next_stats_refresh()). Left out: that a reader refreshes them only if enough has changed.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import memcg_is_descendant, next_stats_refresh
from mmlab.kernels.ops import reclaimer_nr_lru_pages
from mmlab.model.const import LRU_ACTIVE_FILE, LRU_INACTIVE_FILE, NR_LRU_LISTS
from mmlab.model.rows import (
    MC_KMEM_PAGES, MC_NR_DIRTY, MC_NR_WRITEBACK, MC_SEEN_DIRTY, MC_SEEN_FILE, MC_SEEN_PAGES, MC_SEEN_WRITEBACK, MEMCG_STRIDE, SC_NOW_NS,
    SC_NR_MEMCGS, SC_NR_NODES, WB_STATS_NS,
)


@leaf
def memcg_lru_pages(m, memcg, first, last):
    """Pages on the lists first to last of a cgroup's own."""
    pages = 0
    for node in range(m.sc[SC_NR_NODES]):
        for lru in range(first, last + 1):
            pages += reclaimer_nr_lru_pages(m, memcg * m.sc[SC_NR_NODES] + node, lru)
    return pages


@kernel
def mem_cgroup_flush_stats(m):
    """Bring what is known of every cgroup up to date if its time has come (WB_STATS_NS; 0: at once).

    MC_SEEN_FILE, _DIRTY, _WRITEBACK: with those below it. MC_SEEN_PAGES: its own pages on lists and in slabs.
    """
    if m.sc[SC_NOW_NS] < m.wb[WB_STATS_NS]:
        return 0
    m.wb[WB_STATS_NS] = next_stats_refresh(m.sc[SC_NOW_NS])
    for memcg in range(1, m.sc[SC_NR_MEMCGS]):
        row = memcg * MEMCG_STRIDE
        file_pages = 0
        for other in range(memcg, m.sc[SC_NR_MEMCGS]):
            if memcg_is_descendant(m, other, memcg):
                file_pages += memcg_lru_pages(m, other, LRU_INACTIVE_FILE, LRU_ACTIVE_FILE)
        m.memcg[row + MC_SEEN_FILE] = file_pages
        m.memcg[row + MC_SEEN_DIRTY] = m.memcg[row + MC_NR_DIRTY]
        m.memcg[row + MC_SEEN_WRITEBACK] = m.memcg[row + MC_NR_WRITEBACK]
        m.memcg[row + MC_SEEN_PAGES] = memcg_lru_pages(m, memcg, 0, NR_LRU_LISTS - 1) + m.memcg[row + MC_KMEM_PAGES]
    return 0
