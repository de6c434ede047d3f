"""Switching between the classic LRU and MGLRU while the machine runs: every page leaves the one and joins the other.

Models: mm/vmscan.c lru_gen_change_state(), fill_evictable(), drain_evictable().
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import reclaimer_drain, reclaimer_folio_added, reclaimer_folio_removed
from mmlab.model.page import PG_ACTIVE, page_flags
from mmlab.model.rows import SC_IN_LRU_FAULT, SC_NR_CPUS


@kernel
def leave_lists(m, pfns):
    """The pages pfns (int64) leave the reclaimer: how many there were."""
    for i in range(len(pfns)):
        reclaimer_folio_removed(m, pfns[i])
    return len(pfns)


@kernel
def join_lists(m, pfns):
    """The pages join the reclaimer, active ones as active: how many there were."""
    for i in range(len(pfns)):
        # a new page is active if a fault brings it in: so is one that comes over as active
        m.sc[SC_IN_LRU_FAULT] = 1 if page_flags(m, pfns[i]) & PG_ACTIVE else 0
        reclaimer_folio_added(m, pfns[i])
    m.sc[SC_IN_LRU_FAULT] = 0
    for cpu in range(m.sc[SC_NR_CPUS]):
        reclaimer_drain(m, cpu)
    return len(pfns)
