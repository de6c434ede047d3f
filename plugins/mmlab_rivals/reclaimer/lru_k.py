"""LRU-K: the page whose K-th last access is longest ago goes; pages with fewer accesses go before all others, first in, first out.

Models: O'Neil, O'Neil and Weikum, "The LRU-K page replacement algorithm for database disk buffering" (SIGMOD 1993); libCacheSim's LRU_K.
The paper keeps the history of a page for a while after it left, and takes accesses in quick succession as one; neither is done here or
there. Told of every access. O(log pages) a victim, O(k) an access on average.

State beside heap.py's: times, int64, k a page, its last accesses, newest first, by st.clock (0: none); clock, accesses and arrivals so far.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import and_, ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.layout import reserve
from mmlab.model.page import page_flags
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.heap import add, change_key, check, evict_first, folio_removed, heap_state, in_heap, next_aside
from mmlab_rivals.reclaimer.one_list import nr_lru_pages

ALWAYS_FIRST = 1 << 61


@attrs.frozen
class Params:
    """k: which last access counts; 1 is LRU."""

    k: int = attrs.field(default=2, validator=and_(ge(1), le(16)))


def new_state(params: Params, machine: Any) -> dict[str, Any]:
    """The heap, and what the module's docstring lists."""
    return {"times": reserve(params.k * machine.sizes.nr_frames, "int64"), "clock": np.zeros(1, np.int64), **heap_state(machine)}


@leaf
def key_of(st, pfn):
    """By its K-th last access; a page with fewer was added when its oldest was noted."""
    base = pfn * st.k[0]
    last = st.times[base + st.k[0] - 1]
    if last > 0:
        return -last
    i = st.k[0] - 1
    while st.times[base + i] == 0:
        i -= 1
    return ALWAYS_FIRST - st.times[base + i]


@leaf
def note_access(st, pfn):
    """An access now: the page's key."""
    base = pfn * st.k[0]
    i = st.k[0] - 1
    while i > 0:
        st.times[base + i] = st.times[base + i - 1]
        i -= 1
    st.clock[0] += 1
    st.times[base] = st.clock[0]
    return key_of(st, pfn)


@leaf
def folio_added(m, st, pfn):
    """The first access."""
    for i in range(st.k[0]):
        st.times[pfn * st.k[0] + i] = 0
    return add(m, st, page_node(m, pfn), pfn, note_access(st, pfn))


@leaf
def folio_accessed(m, st, pfn):
    """One access more."""
    if in_heap(page_flags(m, pfn)):
        change_key(m, st, pfn, note_access(st, pfn))
    return 0


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Reclaim the pages whose K-th last access is longest ago; one that cannot go keeps its place."""
    freed = evict_first(m, st, node, priority, nr_to_reclaim, scan_flags)
    pfn = next_aside(m, node)
    while pfn >= 0:
        add(m, st, node, pfn, key_of(st, pfn))
        pfn = next_aside(m, node)
    return freed


@kernel
def explain_page(m, st, pfn, what):
    """How long ago the page's K-th last access and its last one are, by st.clock."""
    last = st.times[pfn * st.k[0] + (st.k[0] - 1 if what == 0 else 0)]
    return st.clock[0] - last if last > 0 else -1


LRU_K = Reclaimer(
    name="lru_k", summary="the page whose K-th last access is longest ago goes, told of every access", models="O'Neil et al. 1993",
    left_out="histories of evicted pages, correlated accesses", level="L2", params=Params, wants_accesses=True, new_state=new_state,
    folio_added=folio_added, folio_accessed=folio_accessed, folio_removed=folio_removed, shrink_node=shrink_node,
    nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("accesses_since_kth", "accesses and arrivals of all pages since its K-th last access, the most go; -1: it has had fewer than K, and goes before all others"),
              Explained("accesses_since_last", "the same since its last access")), explain_page=explain_page,
)  # fmt: skip
