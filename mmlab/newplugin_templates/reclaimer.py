"""my_policy: first in, first out: the page that came first leaves first, whatever was done with it since. O(1) a page."""

from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_add, list_del, list_last, policy_list
from mmlab.kernels.scan import count_scan, count_steal
from mmlab.kernels.services import reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import RECLAIM_FREED
from mmlab.model.page import PG_HEAD, PG_LRU, PG_SWAPBACKED, page_clear, page_order, page_set, page_test
from mmlab.policies import Reclaimer


@kernel
def folio_added(m, st, pfn):
    list_add(m, policy_list(m, page_node(m, pfn), 0), pfn)
    page_set(m, pfn, PG_LRU)
    return 0


@kernel
def folio_removed(m, st, pfn):
    if page_test(m, pfn, PG_LRU):
        list_del(m, pfn)
        page_clear(m, pfn, PG_LRU)
    return 0


@kernel
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    head = policy_list(m, node, 0)
    reclaimed = 0
    for _ in range(4 * nr_to_reclaim):  # a pass has an end, even if no page can go
        pfn = list_last(m, head)
        if pfn < 0 or reclaimed >= nr_to_reclaim:
            break
        is_file = 0 if page_test(m, pfn, PG_SWAPBACKED) else 1
        nr_pages = 1 << page_order(m, pfn) if page_test(m, pfn, PG_HEAD) else 1
        list_del(m, pfn)
        page_clear(m, pfn, PG_LRU)
        count_scan(m, scan_flags, is_file, nr_pages)
        if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
            count_steal(m, scan_flags, is_file, nr_pages)
            reclaimed += nr_pages
        else:
            list_add(m, head, pfn)
            page_set(m, pfn, PG_LRU)
    return reclaimed


MY_POLICY = Reclaimer(name="my_policy", summary="first in, first out", folio_added=folio_added, folio_removed=folio_removed, shrink_node=shrink_node)
