"""Belady's OPT: the page whose next access is farthest away goes. No policy can miss less; it needs the whole stream in advance.

Models: Belady, "A study of replacement algorithms" (1966); Mattson et al. (1970) proved it optimal. m.next_use[pfn] holds the event
number of the page's next access (2**62 if there is none), brought up to date by the engine at each access: a page just accessed had the
nearest next use of all, so it was a leaf of the heap. Left out: as heap.py; pages whose accesses the stream does not show (page tables'
accessed bits, read-ahead) keep the number they came with.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import page_flags
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.heap import add, change_key, check, evict_first, folio_removed, heap_state, in_heap, next_aside
from mmlab_rivals.reclaimer.one_list import nr_lru_pages


NEVER = 1 << 62  # of m.next_use


def new_state(params, machine):
    """The heap."""
    return heap_state(machine)


@leaf
def folio_added(m, st, pfn):
    """Into the heap by m.next_use[pfn]."""
    return add(m, st, page_node(m, pfn), pfn, m.next_use[pfn])


@leaf
def folio_accessed(m, st, pfn):
    """To its place by the new m.next_use[pfn]."""
    if in_heap(page_flags(m, pfn)):
        change_key(m, st, pfn, m.next_use[pfn])
    return 0


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Reclaim the farthest pages."""
    freed = evict_first(m, st, node, priority, nr_to_reclaim, scan_flags)
    pfn = next_aside(m, node)
    while pfn >= 0:
        folio_added(m, st, pfn)
        pfn = next_aside(m, node)
    return freed


@kernel
def explain_page(m, st, pfn, what):
    """When the page is accessed next."""
    return m.next_use[pfn] if m.next_use[pfn] < NEVER else -1


OPT = Reclaimer(
    name="opt",
    summary="Belady's optimum: the page needed last goes; knows the future",
    models="Belady 1966",
    level="L2",
    wants_accesses=True,
    needs_future=True,
    new_state=new_state,
    folio_added=folio_added,
    folio_accessed=folio_accessed,
    folio_removed=folio_removed,
    shrink_node=shrink_node,
    nr_lru_pages=nr_lru_pages,
    check=check,
    explains=(Explained("next_use", "number of the event that accesses it next, the latest goes; -1: none does, as far as the stream shows"),), explain_page=explain_page,
)
