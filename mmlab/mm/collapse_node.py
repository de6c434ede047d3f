"""On which node a collapse makes its huge page: where most of the small pages lie.

Models: mm/khugepaged.c hpage_collapse_find_target_node(), hpage_collapse_scan_abort(). Left out: of several such nodes the first is tried,
then the next, in the order of their numbers rather than of the first one's zonelist.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import alloc_pages
from mmlab.kernels.zones import page_node
from mmlab.mm.node_reclaim import NODE_RECLAIM_DISTANCE, RECLAIM_UNMAP, RECLAIM_WRITE, RECLAIM_ZONE
from mmlab.model.const import ENOMEM, HPAGE_PMD_ORDER
from mmlab.model.gfp import GFP_THISNODE
from mmlab.model.rows import N_COLLAPSE_LOAD, NODE_STRIDE, SC_NODE_RECLAIM_MODE, SC_NR_NODES


@leaf
def reset_node_load(m):
    """A scan of 512 pages begins."""
    for node in range(m.sc[SC_NR_NODES]):
        m.node[node * NODE_STRIDE + N_COLLAPSE_LOAD] = 0


@leaf
def add_node_load(m, pfn):
    """The scan met a page: 1, or 0 if nodes are reclaimed by themselves and this one is too far from another on which pages lie."""
    node = page_node(m, pfn)
    at = node * NODE_STRIDE + N_COLLAPSE_LOAD
    if m.node[at] == 0 and m.sc[SC_NODE_RECLAIM_MODE] & (RECLAIM_ZONE | RECLAIM_WRITE | RECLAIM_UNMAP):
        for other in range(m.sc[SC_NR_NODES]):
            far = m.distance[node * m.sc[SC_NR_NODES] + other] > NODE_RECLAIM_DISTANCE
            if m.node[other * NODE_STRIDE + N_COLLAPSE_LOAD] and far:
                return 0
    m.node[at] += 1
    return 1


@kernel
def alloc_collapse_pages(m, gfp):
    """2 MiB for what the scan counted: pfn, or -ENOMEM."""
    if m.sc[SC_NR_NODES] == 1:
        return alloc_pages(m, gfp, HPAGE_PMD_ORDER, 0)
    most = 0
    for node in range(m.sc[SC_NR_NODES]):
        most = max(most, m.node[node * NODE_STRIDE + N_COLLAPSE_LOAD])
    for node in range(m.sc[SC_NR_NODES]):
        if m.node[node * NODE_STRIDE + N_COLLAPSE_LOAD] == most:
            pfn = alloc_pages(m, gfp | GFP_THISNODE, HPAGE_PMD_ORDER, node)
            if pfn >= 0:
                return pfn
    return -ENOMEM
