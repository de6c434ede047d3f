"""W-TinyLFU: new pages pass through a small LRU window; into the main part comes only what was asked for more often than its next victim.

The main part is a segmented LRU: probation for what came in, protected for what was accessed there. When the window's oldest page and
probation's compete for the last place, the one with fewer accesses goes (the window's if they are equal). All numbers of accesses are
halved after every `sample_factor` accesses for each page of the main part. Models: Einziger, Friedman and Manes, "TinyLFU: A Highly
Efficient Cache Admission Policy" (TOS 2017); libCacheSim's WTinyLFU with an SLRU of 1:4. Told of every access. O(1).

A number of accesses is exact and kept for good: with the page, and in the shadow of one that was evicted. The paper and libCacheSim estimate
it in a counting Bloom filter, whose collisions raise some (fewer the larger the filter is against the number of objects), so misses differ a
little. libCacheSim gives two segments whose sizes are rounded down, and where they do not add up evicts at some hits; not here.

State beside queues.py's: freq, int32, accesses a page | halvings so far << 16; returning, pfn + 1 of the page that comes in and has a number;
age: accesses to the main part since the last halving, halvings so far.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import and_, ge, gt, le, lt

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import page_flags
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.one_list import POSITION, folio_deactivate, folio_rotate, nr_lru_pages
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import (
    begin_pass, can_move, capacity, check, enqueue, evict, explain_queued, folio_removed, make_newest, nr_queued, oldest, pass_over, queue_of, queue_state,
    requeue,
)

WINDOW, PROBATION, PROTECTED = 0, 1, 2
AGE_SHIFT, AGE_MASK = 16, (1 << 14) - 1
MAX_FREQ = (1 << AGE_SHIFT) - 1
SINCE, HALVINGS = 0, 1


@attrs.frozen
class Params:
    """window_size: the window's share of memory, one page at least. protected_size: the protected segment's share of the main part.
    sample_factor: accesses between halvings, for each page of the main part."""

    window_size: float = attrs.field(default=0.01, validator=and_(gt(0), lt(1)))
    protected_size: float = attrs.field(default=0.8, validator=and_(ge(0), lt(1)))
    sample_factor: int = attrs.field(default=32, validator=and_(ge(1), le(1 << 20)))


def new_state(params: Params, machine: Any) -> dict[str, Any]:
    """Queues, and what the module's docstring lists."""
    nodes = machine.sizes.nr_nodes
    return {"freq": machine.page_column("int32"), "returning": np.zeros(nodes, np.int64), "age": np.zeros(2, np.int64), **queue_state(machine)}


@leaf
def freq_of(st, packed):
    """Accesses, from a number that was noted some halvings ago."""
    return (packed & MAX_FREQ) >> min((st.age[HALVINGS] - (packed >> AGE_SHIFT)) & AGE_MASK, AGE_SHIFT)


@leaf
def count_access(st, pfn):
    """One access more."""
    freq = min(freq_of(st, np.int64(st.freq[pfn])) + 1, MAX_FREQ)
    st.freq[pfn] = freq | (st.age[HALVINGS] & AGE_MASK) << AGE_SHIFT


@leaf
def main_size(m, st, node):
    """Pages of the main part."""
    pages = capacity(m, st, node)
    return pages - max(1, int(pages * st.window_size[0]))


@leaf
def put_in_main(m, st, node, pfn):
    """A page of the window into the main part: to probation, to protected while only that has room."""
    pages = main_size(m, st, node)
    protected = int(pages * st.protected_size[0])
    full = nr_queued(st, node, PROBATION) >= pages - protected
    requeue(m, st, node, pfn, PROTECTED if full and nr_queued(st, node, PROTECTED) < protected else PROBATION)


@kernel
def access_main(m, st, node, pfn, flags):
    """An access to a page of the main part: newest of protected, whose oldest goes back to probation for it."""
    pages = main_size(m, st, node)
    if queue_of(flags) == PROTECTED:
        make_newest(m, node, pfn, flags)
    else:
        requeue(m, st, node, pfn, PROTECTED)
        if nr_queued(st, node, PROTECTED) > int(pages * st.protected_size[0]):
            requeue(m, st, node, oldest(m, node, PROTECTED), PROBATION)
    count_access(st, pfn)
    st.age[SINCE] += 1
    if st.age[SINCE] >= st.sample_factor[0] * pages:
        st.age[SINCE] = 0
        st.age[HALVINGS] += 1
    return 0


@leaf
def folio_accessed(m, st, pfn):
    """In the window: newest. In the main part also counted."""
    flags = page_flags(m, pfn)
    if can_move(flags):
        node = page_node(m, pfn)
        if queue_of(flags) == WINDOW:
            make_newest(m, node, pfn, flags)
        else:
            access_main(m, st, node, pfn, flags)
    return 0


@kernel
def workingset_refault(m, st, pfn, shadow):
    """The page has its number of accesses again."""
    st.freq[pfn] = shadow
    st.returning[page_node(m, pfn)] = pfn + 1
    return 0


@kernel
def eviction_shadow(m, st, pfn):
    """The page's number of accesses."""
    return np.int64(st.freq[pfn])


@kernel
def folio_added(m, st, pfn):
    """Newest of the window, counted."""
    node = page_node(m, pfn)
    if st.returning[node] != pfn + 1:
        st.freq[pfn] = 0
    st.returning[node] = 0
    count_access(st, pfn)
    enqueue(m, st, node, pfn)
    return 0


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """The window's oldest goes to the main part while that has room, else the one with fewer accesses of the two leaves."""
    begin_pass(m, st, node, priority)
    pages = main_size(m, st, node)
    while more_wanted(st, nr_to_reclaim):
        rival = oldest(m, node, PROBATION if nr_queued(st, node, PROBATION) > 0 else PROTECTED)
        pfn = oldest(m, node, WINDOW)
        if pfn < 0:
            evict(m, st, node, rival, scan_flags)
        elif nr_queued(st, node, PROBATION) + nr_queued(st, node, PROTECTED) < pages:
            pass_over(m, st, pfn)
            put_in_main(m, st, node, pfn)
            count_access(st, pfn)
        elif rival >= 0 and freq_of(st, np.int64(st.freq[pfn])) > freq_of(st, np.int64(st.freq[rival])):
            if evict(m, st, node, rival, scan_flags):
                put_in_main(m, st, node, pfn)
                count_access(st, pfn)
        else:
            count_access(st, pfn)
            evict(m, st, node, pfn, scan_flags)
    return end_pass(m, st, scan_flags)


@kernel
def explain_page(m, st, pfn, what):
    """Its queue, its position there, its accesses."""
    return freq_of(st, np.int64(st.freq[pfn])) if what == 2 else explain_queued(m, pfn, what)


W_TINYLFU = Reclaimer(
    name="w_tinylfu", summary="an LRU window, and a main part that only more popular pages come into", models="Einziger et al. 2017",
    left_out="the sketch: numbers of accesses are exact", level="L1", params=Params, wants_accesses=True, new_state=new_state,
    folio_added=folio_added, folio_accessed=folio_accessed, folio_removed=folio_removed, folio_deactivate=folio_deactivate,
    folio_rotate=folio_rotate, shrink_node=shrink_node, eviction_shadow=eviction_shadow, workingset_refault=workingset_refault,
    nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("queue", "where it is", ("window", "probation", "protected")), POSITION,
              Explained("accesses", "halved from time to time; of the window's and probation's oldest the one with fewer goes")), explain_page=explain_page,
)  # fmt: skip
