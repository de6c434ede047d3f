"""zone_reclaim_mode: a node's own clean cache makes room before an allocation goes to another node.

Models: mm/vmscan.c node_reclaim(), __node_reclaim(), node_pagecache_reclaimable(); mm/page_alloc.c zone_allows_reclaim().
Left out: reclaimable slab (no shrinker frees any here).
"""

from mmlab.kernels.zones import request_zone
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_nr_lru_pages
from mmlab.mm.vmscan import shrink_node
from mmlab.model.const import (
    LRU_ACTIVE_FILE, LRU_INACTIVE_FILE, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT, SWAP_CLUSTER_MAX,
)
from mmlab.model.gfp import GFP_DIRECT_RECLAIM
from mmlab.model.rows import (
    N_NR_CPUS, NODE_STRIDE, SC_IN_RECLAIM, SC_MIN_UNMAPPED_RATIO, SC_NODE, SC_NODE_RECLAIM_MODE, SC_NR_NODES, SC_NR_RECLAIMED, SC_NR_SCANNED,
    SC_NR_ZONES, SC_RECLAIM_NOTES, Z_BOOT_LRU, Z_MANAGED, Z_NODE, ZONE_STRIDE,
)
from mmlab.model.vmstat import V_NR_DIRTY, V_NR_FILE_PAGES, V_NR_MAPPED, V_ZONE_RECLAIM_FAILED, V_ZONE_RECLAIM_SUCCESS, VMSTAT_STRIDE

RECLAIM_ZONE, RECLAIM_WRITE, RECLAIM_UNMAP = 1, 2, 4  # bits of vm.zone_reclaim_mode
NODE_RECLAIM_PRIORITY = 4
NODE_RECLAIM_DISTANCE = 30


@leaf
def node_pagecache_reclaimable(m, node):
    """Page cache that the mode allows to reclaim: unmapped, or with RECLAIM_UNMAP all of it; dirty pages only with RECLAIM_WRITE."""
    base = node * VMSTAT_STRIDE
    lru = reclaimer_nr_lru_pages(m, node, LRU_INACTIVE_FILE) + reclaimer_nr_lru_pages(m, node, LRU_ACTIVE_FILE)
    boot = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
            boot += m.zone[zone * ZONE_STRIDE + Z_BOOT_LRU + LRU_INACTIVE_FILE] + m.zone[zone * ZONE_STRIDE + Z_BOOT_LRU + LRU_ACTIVE_FILE]
    if m.sc[SC_NODE_RECLAIM_MODE] & RECLAIM_UNMAP:
        pages = m.vmstat[base + V_NR_FILE_PAGES] + boot
    else:
        pages = max(0, lru + boot - m.vmstat[base + V_NR_MAPPED])
    if m.sc[SC_NODE_RECLAIM_MODE] & RECLAIM_WRITE == 0:
        pages -= min(pages, m.vmstat[base + V_NR_DIRTY])
    return pages


@leaf
def min_unmapped_pages(m, node):
    """Cache that is always left on a node: vm.min_unmapped_ratio percent of it."""
    pages = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
            pages += m.zone[zone * ZONE_STRIDE + Z_MANAGED] * m.sc[SC_MIN_UNMAPPED_RATIO] // 100
    return pages


@kernel
def node_reclaim(m, preferred, zone, gfp, order):
    """Service node_reclaim: passes from priority 4 down until 2^order pages are free: 1 if it tried, 0 where the zone is left alone.

    Left alone: too far from the preferred zone (distance over 30), a node with CPUs that are not the task's, hardly any cache, and
    requests that must not sleep.
    """
    node = m.zone[zone * ZONE_STRIDE + Z_NODE]
    near = m.distance[m.zone[preferred * ZONE_STRIDE + Z_NODE] * m.sc[SC_NR_NODES] + node] <= NODE_RECLAIM_DISTANCE
    if near == 0 or node_pagecache_reclaimable(m, node) <= min_unmapped_pages(m, node):
        return 0
    if gfp & GFP_DIRECT_RECLAIM == 0 or m.sc[SC_IN_RECLAIM]:
        return 0
    if m.node[node * NODE_STRIDE + N_NR_CPUS] > 0 and node != m.sc[SC_NODE]:
        return 0
    flags = SCAN_MAY_SWAP | (request_zone(m, gfp) << SCAN_RECLAIM_IDX_SHIFT)
    if m.sc[SC_NODE_RECLAIM_MODE] & RECLAIM_WRITE:
        flags |= SCAN_MAY_WRITEPAGE
    if m.sc[SC_NODE_RECLAIM_MODE] & RECLAIM_UNMAP:
        flags |= SCAN_MAY_UNMAP
    nr_pages = 1 << order
    m.sc[SC_NR_RECLAIMED] = m.sc[SC_NR_SCANNED] = m.sc[SC_RECLAIM_NOTES] = 0
    priority = NODE_RECLAIM_PRIORITY
    while priority >= 0 and m.sc[SC_NR_RECLAIMED] < nr_pages:
        shrink_node(m, node, 0, priority, max(nr_pages, SWAP_CLUSTER_MAX), flags, 0)
        priority -= 1
    m.vmstat[V_ZONE_RECLAIM_SUCCESS if m.sc[SC_NR_RECLAIMED] >= nr_pages else V_ZONE_RECLAIM_FAILED] += 1
    return 1
