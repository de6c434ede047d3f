"""What a reclaimer must not do: name a page that is none of its, or say that it freed pages when it freed none. The run stops, and it is to blame."""

from mmlab.kernels.jit import leaf
from mmlab.mm.policy_fault import stop_for_fault
from mmlab.model.page import KIND_ANON, KIND_FILE, KIND_SHMEM, PG_LRU, page_kind, page_test
from mmlab.model.rows import RECLAIM_FINE, RECLAIM_NO_PAGE, RECLAIM_NOT_USER, RECLAIM_ON_LIST, SC_MAX_PFN, SC_RECLAIM_FAULT, SC_RECLAIM_FAULT_PFN


@leaf
def victim_fault(m, pfn):
    """What is wrong with a page that reclaim_folio() is to free: RECLAIM_FINE, or another RECLAIM_*."""
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN]:
        return RECLAIM_NO_PAGE
    kind = page_kind(m, pfn)
    if kind != KIND_ANON and kind != KIND_FILE and kind != KIND_SHMEM:
        return RECLAIM_NOT_USER
    return RECLAIM_ON_LIST if page_test(m, pfn, PG_LRU) else RECLAIM_FINE


@leaf
def blame_reclaimer(m, why, pfn):
    """Note the first fault, and stop the run at the next event."""
    if m.sc[SC_RECLAIM_FAULT] == RECLAIM_FINE:
        m.sc[SC_RECLAIM_FAULT] = why
        m.sc[SC_RECLAIM_FAULT_PFN] = pfn
    stop_for_fault(m)
