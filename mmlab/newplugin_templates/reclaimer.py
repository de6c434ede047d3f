"""my_policy: first in, first out: the page that came first leaves first, whatever was done with it since. O(1) a page."""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del, list_last, policy_list
from mmlab.kernels.scan import count_scan, count_steal
from mmlab.kernels.services import reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, RECLAIM_FREED
from mmlab.model.page import PG_HEAD, PG_LRU, PG_SWAPBACKED, page_clear, page_order, page_set, page_test
from mmlab.policies import Reclaimer


def new_state(params, machine):
    """nr_pages: pages on the list, anonymous and of files, a node each."""
    return {"nr_pages": np.zeros(2 * machine.sizes.nr_nodes, "int64")}


@leaf
def is_file(m, pfn):
    """1 for a page that is written back to a file, 0 for one that goes to swap."""
    return 0 if page_test(m, pfn, PG_SWAPBACKED) else 1


@leaf
def folio_nr_pages(m, pfn):
    """Pages of the folio that pfn heads."""
    return 1 << page_order(m, pfn) if page_test(m, pfn, PG_HEAD) else 1


@leaf
def put(m, st, pfn):
    """Newest page of its node."""
    node = page_node(m, pfn)
    list_add(m, policy_list(m, node, 0), pfn)
    page_set(m, pfn, PG_LRU)
    st.nr_pages[2 * node + is_file(m, pfn)] += folio_nr_pages(m, pfn)


@leaf
def take(m, st, pfn):
    """Off the list."""
    list_del(m, pfn)
    page_clear(m, pfn, PG_LRU)
    st.nr_pages[2 * page_node(m, pfn) + is_file(m, pfn)] -= folio_nr_pages(m, pfn)


@kernel
def folio_added(m, st, pfn):
    put(m, st, pfn)
    return 0


@kernel
def folio_removed(m, st, pfn):
    if page_test(m, pfn, PG_LRU):
        take(m, st, pfn)
    return 0


@kernel
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    reclaimed = 0
    to_scan = st.nr_pages[2 * node] + st.nr_pages[2 * node + 1]  # at most once round, even if no page can go
    while to_scan > 0 and reclaimed < nr_to_reclaim:
        pfn = list_last(m, policy_list(m, node, 0))
        if pfn < 0:
            break
        file = is_file(m, pfn)
        nr_pages = folio_nr_pages(m, pfn)
        take(m, st, pfn)
        to_scan -= nr_pages
        count_scan(m, scan_flags, file, nr_pages)
        if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
            count_steal(m, scan_flags, file, 1)  # of a huge page, too: reclaim_folio() splits it, and the rest is added again
            reclaimed += 1
        else:
            put(m, st, pfn)
    return reclaimed


@kernel
def nr_lru_pages(m, st, node, lru):
    if lru == LRU_INACTIVE_ANON:
        return st.nr_pages[2 * node]
    return st.nr_pages[2 * node + 1] if lru == LRU_INACTIVE_FILE else 0


POLICY = Reclaimer(
    name="my_policy",
    summary="first in, first out",
    new_state=new_state,
    folio_added=folio_added,
    folio_removed=folio_removed,
    shrink_node=shrink_node,
    nr_lru_pages=nr_lru_pages,
)
