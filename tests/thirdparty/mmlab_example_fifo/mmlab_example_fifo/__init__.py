"""A stranger's plugin for mmlab: a first-in-first-out reclaimer, complete."""

from mmlab.hookspecs import hookimpl
from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_add, list_del, list_last, policy_list
from mmlab.kernels.scan import count_scan, count_steal
from mmlab.kernels.services import reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import RECLAIM_FREED
from mmlab.model.page import PG_LRU, PG_SWAPBACKED, page_clear, page_set, page_test
from mmlab.policies import Reclaimer


@kernel
def folio_added(m, st, pfn):
    """The newest page goes to the front."""
    list_add(m, policy_list(m, page_node(m, pfn), 0), pfn)
    page_set(m, pfn, PG_LRU)
    return 0


@kernel
def folio_removed(m, st, pfn):
    """Whoever frees a page takes it off the list."""
    if page_test(m, pfn, PG_LRU):
        list_del(m, pfn)
        page_clear(m, pfn, PG_LRU)
    return 0


@kernel
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Pages leave from the back; one that cannot go becomes the newest."""
    head = policy_list(m, node, 0)
    reclaimed = 0
    for _ in range(8 * nr_to_reclaim):
        pfn = list_last(m, head)
        if pfn < 0 or reclaimed == nr_to_reclaim:
            break
        is_file = 0 if page_test(m, pfn, PG_SWAPBACKED) else 1
        folio_removed(m, st, pfn)
        count_scan(m, scan_flags, is_file, 1)
        if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
            count_steal(m, scan_flags, is_file, 1)
            reclaimed += 1
        else:
            folio_added(m, st, pfn)
    return reclaimed


EXAMPLE_FIFO = Reclaimer(
    name="example_fifo",
    summary="first in, first out, from another distribution",
    folio_added=folio_added,
    folio_removed=folio_removed,
    shrink_node=shrink_node,
)


@hookimpl
def mmlab_policies():
    """One reclaimer."""
    return [EXAMPLE_FIFO]
