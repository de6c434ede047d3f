"""Strict LRU: each access makes its page the newest; the page whose last access is oldest goes.

Models: Mattson et al., "Evaluation techniques for storage hierarchies" (1970). No machine can afford it, since it has to see every access;
it is the order that real policies approximate. O(1) an access and a victim.
"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.lists import list_add, list_del
from mmlab.kernels.zones import page_node
from mmlab.model.page import PG_LRU, page_flags, page_prev
from mmlab.policies import Reclaimer
from mmlab_rivals.reclaimer.one_list import (
    POSITION, check, explain_page, folio_added, folio_deactivate, folio_removed, folio_rotate, head_of, new_state, nr_lru_pages, shrink_oldest,
)


@leaf
def folio_accessed(m, st, pfn):
    """Newest."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU:
        head = head_of(m, page_node(m, pfn), flags)
        if page_prev(m, pfn) != head:
            list_del(m, pfn)
            list_add(m, head, pfn)
    return 0


LRU = Reclaimer(
    name="lru",
    summary="strict least recently used, told of every access",
    models="Mattson et al. 1970",
    level="L2",
    wants_accesses=True,
    new_state=new_state,
    folio_added=folio_added,
    folio_accessed=folio_accessed,
    folio_removed=folio_removed,
    folio_deactivate=folio_deactivate,
    folio_rotate=folio_rotate,
    shrink_node=shrink_oldest,
    nr_lru_pages=nr_lru_pages,
    check=check,
    explains=(POSITION,), explain_page=explain_page,
)
