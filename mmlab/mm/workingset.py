"""What is counted when a page that was reclaimed comes back; whether it counts as working set is the reclaimer's decision.

Models: mm/workingset.c workingset_refault().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_workingset_refault
from mmlab.kernels.zones import page_node
from mmlab.model.page import PG_ACTIVE, PG_WORKINGSET, page_memcg, page_set
from mmlab.model.rows import SC_NR_MEMCGS
from mmlab.model.vmstat import (
    V_WORKINGSET_ACTIVATE_ANON, V_WORKINGSET_REFAULT_ANON, V_WORKINGSET_RESTORE_ANON, VMSTAT_STRIDE, mod_node_state,
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
