"""A stranger's plugin for mmlab: a first-in-first-out reclaimer, complete."""

import numpy as np

from mmlab.hookspecs import hookimpl
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del, list_last, policy_list
from mmlab.kernels.scan import count_scan, count_steal
from mmlab.kernels.services import reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, RECLAIM_FREED
from mmlab.model.page import PG_HEAD, PG_LRU, PG_SWAPBACKED, page_flags, page_order, set_page_flags
from mmlab.policies import Reclaimer


def new_state(params, machine):
    """listed: pages on each node's list, anonymous and of files."""
    return {"listed": np.zeros(2 * machine.sizes.nr_nodes, "int64")}


@leaf
def nr_pages(m, pfn, flags):
    """Pages of the folio that pfn heads."""
    return 1 << page_order(m, pfn) if flags & PG_HEAD else 1


@leaf
def put(m, st, pfn, flags):
    """To the front of its node's list."""
    node = page_node(m, pfn)
    list_add(m, policy_list(m, node, 0), pfn)
    set_page_flags(m, pfn, flags | PG_LRU)
    st.listed[2 * node + (0 if flags & PG_SWAPBACKED else 1)] += nr_pages(m, pfn, flags)


@leaf
def take(m, st, pfn, flags):
    """Off its list."""
    list_del(m, pfn)
    set_page_flags(m, pfn, flags & ~PG_LRU)
    st.listed[2 * page_node(m, pfn) + (0 if flags & PG_SWAPBACKED else 1)] -= nr_pages(m, pfn, flags)


@kernel
def folio_added(m, st, pfn):
    """The newest page goes to the front."""
    put(m, st, pfn, page_flags(m, pfn))
    return 0


@kernel
def folio_removed(m, st, pfn):
    """Whoever frees a page takes it off the list."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU:
        take(m, st, pfn, flags)
    return 0


@kernel
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Pages leave from the back; one that cannot go becomes the newest. reclaim_folio() splits a huge page: one of its pages goes."""
    head = policy_list(m, node, 0)
    reclaimed = 0
    for _ in range(8 * nr_to_reclaim):
        pfn = list_last(m, head)
        if pfn < 0 or reclaimed == nr_to_reclaim:
            break
        flags = page_flags(m, pfn)
        is_file = 0 if flags & PG_SWAPBACKED else 1
        take(m, st, pfn, flags)
        count_scan(m, scan_flags, is_file, 1)
        if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
            count_steal(m, scan_flags, is_file, 1)
            reclaimed += 1
        else:
            put(m, st, pfn, page_flags(m, pfn))
    return reclaimed


@kernel
def nr_lru_pages(m, st, node, lru):
    """Every page counts as inactive; without this the core would think that nothing can be reclaimed."""
    if lru == LRU_INACTIVE_ANON:
        return st.listed[2 * node]
    return st.listed[2 * node + 1] if lru == LRU_INACTIVE_FILE else 0


EXAMPLE_FIFO = Reclaimer(
    name="example_fifo",
    summary="first in, first out, from another distribution",
    new_state=new_state,
    folio_added=folio_added,
    folio_removed=folio_removed,
    shrink_node=shrink_node,
    nr_lru_pages=nr_lru_pages,
)


@hookimpl
def mmlab_policies():
    """One reclaimer."""
    return [EXAMPLE_FIFO]
