"""Reclaim that moves a page to a slower node instead of freeing it.

Models: mm/vmscan.c demote_folio_list(), alloc_demote_folio(). Where to is the tiering slot's to say. Left out: a large folio
for which there is no block of its size is not split to move in pieces, it takes the ordinary way. Neither cpusets nor policies are asked, as in Linux.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import tiering_demotion_node
from mmlab.kernels.services import migrate_folio
from mmlab.kernels.zones import page_node
from mmlab.mm.migrate import alloc_migration_target, is_cached
from mmlab.model.const import SCAN_KSWAPD
from mmlab.model.gfp import GFP_KSWAPD_RECLAIM, GFP_NOMEMALLOC, GFP_THISNODE
from mmlab.model.page import PG_WRITEBACK, folio_nr_pages, page_refs, page_test
from mmlab.model.rows import N_LOWER_TIERS, NODE_STRIDE, SC_NR_NODES
from mmlab.model.vmstat import V_PGDEMOTE_DIRECT, V_PGDEMOTE_KSWAPD, V_PGMIGRATE_FAIL, mod_node_state


@kernel
def alloc_demote_folio(m, folio, node, target):
    """A block for what is demoted from `node`: on the target, else on any node of a lower tier; without reclaim. -ENOMEM if all are full."""
    gfp = GFP_KSWAPD_RECLAIM | GFP_NOMEMALLOC | GFP_THISNODE
    pfn = alloc_migration_target(m, folio, gfp, target)
    lower = m.node[node * NODE_STRIDE + N_LOWER_TIERS] & ~(1 << target)
    for other in range(m.sc[SC_NR_NODES]):
        if pfn < 0 and (lower >> other) & 1:
            pfn = alloc_migration_target(m, folio, gfp, other)
    return pfn


@kernel
def demote_folio(m, pfn, scan_flags):
    """1 if the folio, which is on no list, moved to a slower node; 0 with nothing changed if it could not."""
    if page_test(m, pfn, PG_WRITEBACK) or page_refs(m, pfn) != is_cached(m, pfn):
        return 0
    node = page_node(m, pfn)
    target = tiering_demotion_node(m, pfn, node, scan_flags)
    if target < 0:
        return 0
    nr = folio_nr_pages(m, pfn)
    dst = alloc_demote_folio(m, pfn, node, target)
    if dst < 0:
        m.vmstat[V_PGMIGRATE_FAIL] += nr
        return 0
    migrate_folio(m, pfn, dst)
    mod_node_state(m, node, V_PGDEMOTE_KSWAPD if scan_flags & SCAN_KSWAPD else V_PGDEMOTE_DIRECT, nr)
    return 1
