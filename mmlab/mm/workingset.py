"""What is counted when a page that was reclaimed comes back (whether it counts as working set is the reclaimer's decision), and the shrinker of
index nodes that hold nothing but shadows.

Models: mm/workingset.c workingset_refault(), count_shadow_nodes(), scan_shadow_nodes().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_workingset_refault
from mmlab.kernels.services import xa_store
from mmlab.kernels.zones import page_node
from mmlab.mm.dcache import inode_add_lru
from mmlab.mm.memcg_stat import mem_cgroup_flush_stats
from mmlab.mm.objcg import object_node
from mmlab.mm.xarray import XA_CHUNK_SHIFT, shadow_list
from mmlab.model.const import NR_LRU_LISTS
from mmlab.model.page import PG_ACTIVE, PG_WORKINGSET, page_memcg, page_set
from mmlab.model.rows import (
    MC_SEEN_PAGES, MEMCG_STRIDE, SC_NR_MEMCGS, SC_NR_NODES, SC_NR_ZONES, SHR_FIRST, SHR_NR, XA_STRIDE, XN_COUNT, XN_INODE, XN_OBJ, XN_PARENT,
    XN_SHIFT, XN_SLOT, XN_STRIDE, ZONE_STRIDE, Z_LRU,
)
from mmlab.model.vmstat import (
    VMSTAT_STRIDE, V_NR_SLAB_RECLAIMABLE, V_NR_SLAB_UNRECLAIMABLE, V_WORKINGSET_ACTIVATE_ANON, V_WORKINGSET_NODERECLAIM,
    V_WORKINGSET_REFAULT_ANON, V_WORKINGSET_RESTORE_ANON, mod_node_state,
)

REFAULT_ACTIVATE, REFAULT_RESTORE, REFAULT_RECENT = 1, 2, 4


@leaf
def _count(m, pfn, node, item):
    mod_node_state(m, node, item, 1)
    if m.sc[SC_NR_MEMCGS] > 1:
        m.memcg_stat[page_memcg(m, pfn) * VMSTAT_STRIDE + item] += 1


@kernel
def workingset_refault(m, pfn, shadow, is_file):
    """Page pfn takes a shadow's place; call it before folio_added(). is_file: 0 anonymous, 1 page cache. Returns REFAULT_* bits."""
    node = page_node(m, pfn)
    _count(m, pfn, node, V_WORKINGSET_REFAULT_ANON + is_file)
    found = reclaimer_workingset_refault(m, pfn, shadow)
    if found & REFAULT_ACTIVATE:
        page_set(m, pfn, PG_ACTIVE)
    if found & (REFAULT_ACTIVATE | REFAULT_RECENT):
        _count(m, pfn, node, V_WORKINGSET_ACTIVATE_ANON + is_file)
    if found & REFAULT_RESTORE:
        page_set(m, pfn, PG_WORKINGSET)
        _count(m, pfn, node, V_WORKINGSET_RESTORE_ANON + is_file)
    return found


@leaf
def pages_of_machine(m):
    """Pages on lists and in slabs."""
    pages = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        for lru in range(zone * ZONE_STRIDE + Z_LRU, zone * ZONE_STRIDE + Z_LRU + NR_LRU_LISTS):
            pages += m.zone[lru]
    for node in range(m.sc[SC_NR_NODES]):
        pages += m.vmstat[node * VMSTAT_STRIDE + V_NR_SLAB_RECLAIMABLE] + m.vmstat[node * VMSTAT_STRIDE + V_NR_SLAB_UNRECLAIMABLE]
    return pages


@kernel
def count_shadow_nodes(m, memcg):
    """Nodes of a cgroup with nothing but shadows beyond what is worth keeping: one for eight pages that are on its lists or in slabs, as its
    statistics have it; nothing until they are refreshed for the first time. The root's pages are counted as they are."""
    mem_cgroup_flush_stats(m)
    pages = m.memcg[memcg * MEMCG_STRIDE + MC_SEEN_PAGES] if memcg else pages_of_machine(m)
    return max(0, m.memcg[shadow_list(memcg) + SHR_NR] - (pages >> (XA_CHUNK_SHIFT - 3)))


@leaf
def _first_index(m, node):
    """The index of a node's first slot."""
    index = 0
    at = node
    while m.xa_node[at * XN_STRIDE + XN_PARENT]:
        index += m.xa_node[at * XN_STRIDE + XN_SLOT] << (m.xa_node[at * XN_STRIDE + XN_SHIFT] + XA_CHUNK_SHIFT)
        at = m.xa_node[at * XN_STRIDE + XN_PARENT]
    return index


@kernel
def scan_shadow_nodes(m, memcg, nr_to_scan):
    """The nodes of a cgroup that have waited longest lose their shadows: those pages will not be known when they come back. Returns nodes freed."""
    freed = 0
    while freed < nr_to_scan and m.memcg[shadow_list(memcg) + SHR_FIRST]:
        node = m.memcg[shadow_list(memcg) + SHR_FIRST]
        inode = m.xa_node[node * XN_STRIDE + XN_INODE]
        first = _first_index(m, node)
        mod_node_state(m, object_node(m, m.xa_node[node * XN_STRIDE + XN_OBJ]), V_WORKINGSET_NODERECLAIM, 1)
        for index in range(first, first + XA_STRIDE):
            if m.xa_node[node * XN_STRIDE + XN_COUNT] > 0 and m.xa_node[node * XN_STRIDE + XN_INODE] == inode:
                xa_store(m, inode, index, 0)
        inode_add_lru(m, inode)
        freed += 1
    return freed
