"""CLOCK, or second chance: FIFO, but a page that was accessed since it was last looked at goes round once more.

Models: Corbato, "A paging experiment with the Multics system" (1968). One bit a page: the accessed bits of the page-table entries, and
PG_REFERENCED for accesses through read() and write(). A new page has no bit of its own; the fault that brings it in usually sets one.
Amortised O(1) a victim, at most once round the list a pass.
"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.lists import list_add, list_del, list_empty, policy_list
from mmlab.kernels.services import reclaim_folio
from mmlab.model.const import RECLAIM_FREED
from mmlab.model.page import PG_SWAPBACKED, page_flags, page_next, page_prev
from mmlab.policies import Reclaimer
from mmlab_rivals.reclaimer.one_list import (
    MAIN_LIST, check, count_shrink, folio_added, folio_deactivate, folio_nr_pages, folio_removed, folio_rotate, new_state, nr_lru_pages,
    put_first, scanned_enough, set_referenced, take_off, was_accessed,
)



@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Reclaim from the old end; a referenced page loses its bit and becomes the newest, as does one that cannot go."""
    head = policy_list(m, node, MAIN_LIST)
    last = page_next(m, head)
    nr_reclaimed = 0
    scanned_anon = scanned_file = freed_anon = freed_file = 0
    pfn = head
    while nr_reclaimed < nr_to_reclaim and pfn != last and list_empty(m, head) == 0:
        if scanned_enough(m, node, priority, scanned_anon + scanned_file):
            break
        pfn = page_prev(m, head)
        referenced = was_accessed(m, pfn)
        flags = page_flags(m, pfn)
        nr_pages = folio_nr_pages(m, pfn, flags)
        freed = 0
        if referenced:
            list_del(m, pfn)
            list_add(m, head, pfn)
        else:
            take_off(m, pfn, flags, nr_pages)
            if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
                freed = 1
                nr_reclaimed += 1
            else:
                put_first(m, node, pfn)
        if flags & PG_SWAPBACKED:
            scanned_anon += nr_pages
            freed_anon += freed
        else:
            scanned_file += nr_pages
            freed_file += freed
    count_shrink(m, scan_flags, scanned_anon, scanned_file, freed_anon, freed_file)
    return nr_reclaimed


CLOCK = Reclaimer(
    name="clock",
    summary="second chance: FIFO that passes over accessed pages once",
    models="Corbato 1968",
    level="L1",
    new_state=new_state,
    folio_added=folio_added,
    folio_accessed=set_referenced,
    folio_removed=folio_removed,
    folio_deactivate=folio_deactivate,
    folio_rotate=folio_rotate,
    shrink_node=shrink_node,
    nr_lru_pages=nr_lru_pages,
    check=check,
)
