"""LFU: the page with the fewest accesses since it came in goes; among equals the one that reached that number first.

Models: the textbook's rule without aging; libCacheSim's LFU. A page that leaves is forgotten, so it comes back with one access.
Told of every access. O(log pages) a victim, O(1) an access on average.

State beside heap.py's: freq, accesses a page (int32); clock, accesses and arrivals so far.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import page_flags
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.heap import add, change_key, check, evict_first, folio_removed, heap_state, in_heap, next_aside
from mmlab_rivals.reclaimer.one_list import nr_lru_pages

CLOCK_BITS = 40
MAX_FREQ = (1 << 22) - 1


def new_state(params, machine):
    """The heap, and what the module's docstring lists."""
    return {"freq": machine.page_column("int32"), "clock": np.zeros(1, np.int64), **heap_state(machine)}


@leaf
def count_access(st, pfn, freq):
    """The page has so many accesses now: its key."""
    st.freq[pfn] = freq
    st.clock[0] += 1
    return -(freq << CLOCK_BITS | st.clock[0])


@leaf
def folio_added(m, st, pfn):
    """One access."""
    return add(m, st, page_node(m, pfn), pfn, count_access(st, pfn, 1))


@leaf
def folio_accessed(m, st, pfn):
    """One access more."""
    if in_heap(page_flags(m, pfn)):
        change_key(m, st, pfn, count_access(st, pfn, min(np.int64(st.freq[pfn]) + 1, MAX_FREQ)))
    return 0


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Reclaim the pages with the fewest accesses; one that cannot go is the last of its equals."""
    freed = evict_first(m, st, node, priority, nr_to_reclaim, scan_flags)
    pfn = next_aside(m, node)
    while pfn >= 0:
        add(m, st, node, pfn, count_access(st, pfn, np.int64(st.freq[pfn])))
        pfn = next_aside(m, node)
    return freed


@kernel
def explain_page(m, st, pfn, what):
    """The page's accesses."""
    return np.int64(st.freq[pfn])


LFU = Reclaimer(
    name="lfu", summary="least frequently used since it came in, told of every access", models="textbook LFU, in memory only",
    left_out="aging", level="L2", wants_accesses=True, new_state=new_state, folio_added=folio_added, folio_accessed=folio_accessed,
    folio_removed=folio_removed, shrink_node=shrink_node, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("accesses", "since it came in; the fewest go"),), explain_page=explain_page,
)  # fmt: skip
