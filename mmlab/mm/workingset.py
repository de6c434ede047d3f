"""What is counted when a page that was reclaimed comes back; whether it counts as working set is the reclaimer's decision.

Models: mm/workingset.c workingset_refault(). Left out: memory cgroups.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import reclaimer_workingset_refault
from mmlab.kernels.zones import page_node
from mmlab.model.page import PG_ACTIVE, PG_WORKINGSET, page_set
from mmlab.model.vmstat import V_WORKINGSET_ACTIVATE_ANON, V_WORKINGSET_REFAULT_ANON, V_WORKINGSET_RESTORE_ANON, mod_node_state

REFAULT_ACTIVATE, REFAULT_RESTORE = 1, 2


@kernel
def workingset_refault(m, pfn, shadow, is_file):
    """Page pfn takes a shadow's place; call it before folio_added(). is_file: 0 anonymous, 1 page cache. Returns REFAULT_* bits."""
    node = page_node(m, pfn)
    mod_node_state(m, node, V_WORKINGSET_REFAULT_ANON + is_file, 1)
    found = reclaimer_workingset_refault(m, pfn, shadow)
    if found & REFAULT_ACTIVATE:
        page_set(m, pfn, PG_ACTIVE)
        mod_node_state(m, node, V_WORKINGSET_ACTIVATE_ANON + is_file, 1)
    if found & REFAULT_RESTORE:
        page_set(m, pfn, PG_WORKINGSET)
        mod_node_state(m, node, V_WORKINGSET_RESTORE_ANON + is_file, 1)
    return found
