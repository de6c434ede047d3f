"""CLOCK, or second chance: FIFO, but a page that was accessed since it was last looked at goes round once more.

Models: Corbato, "A paging experiment with the Multics system" (1968). One bit a page: the accessed bits of the page-table entries, and
PG_REFERENCED for accesses through read() and write(). A new page has no bit of its own; the fault that brings it in usually sets one.
Amortised O(1) a victim, at most once round the list a pass.
"""

from mmlab.kernels.jit import leaf
from mmlab.policies import Reclaimer
from mmlab_rivals.reclaimer.one_list import MAIN_LIST, POSITION, explain_page, folio_deactivate, folio_rotate, nr_lru_pages, set_referenced, was_accessed
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import begin_pass, check, evict, folio_added, folio_removed, oldest, pass_over, queue_state, requeue


def new_state(params, machine):
    """One queue."""
    return queue_state(machine)


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Reclaim from the old end; a referenced page loses its bit and becomes the newest, as does one that cannot go."""
    begin_pass(m, st, node, priority)
    while more_wanted(st, nr_to_reclaim):
        pfn = oldest(m, node, MAIN_LIST)
        if was_accessed(m, pfn):
            pass_over(m, st, pfn)
            requeue(m, st, node, pfn, MAIN_LIST)
        else:
            evict(m, st, node, pfn, scan_flags)
    return end_pass(m, st, scan_flags)


CLOCK = Reclaimer(
    name="clock",
    summary="second chance: FIFO that passes over accessed pages once",
    models="Corbato 1968",
    level="L2",
    new_state=new_state,
    folio_added=folio_added,
    folio_accessed=set_referenced,
    folio_removed=folio_removed,
    folio_deactivate=folio_deactivate,
    folio_rotate=folio_rotate,
    shrink_node=shrink_node,
    nr_lru_pages=nr_lru_pages,
    check=check,
    explains=(POSITION,), explain_page=explain_page,
)
