"""CAR: ARC with clocks in place of its LRU lists, so that an access sets a bit and moves nothing.

T1 and T2 are clocks, B1 and B2 remember in LRU order what they evicted; p, the target of T1, adapts as in ARC. An eviction looks at T1 while
that has max(1, p) pages, else at T2: an accessed page loses its bit and goes to T2's new end. Models: Bansal and Modha, "CAR: Clock with
Adaptive Replacement" (FAST 2004), figure 2, where p adapts after the eviction. (libCacheSim's CAR.c is not in its Python package; it divides
whole numbers, tests `!in_B1 || !in_B2`, which always holds, and never drops from B2.) The bit is the accessed bit of the page-table
entries, and PG_REFERENCED for accesses through read() and write(). Amortised O(1).

State beside queues.py's and ghosts.py's: p, float64, the target of T1; returning, slot + 1 of the ghost whose page comes in, or 0.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import page_flags
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.ghosts import (
    REFAULT_RECENT, add_ghost, check, drop_ghost, find_ghost, ghost_list, ghost_shadow, ghost_state, keep_ghosts,
)
from mmlab_rivals.reclaimer.one_list import POSITION, folio_deactivate, folio_rotate, nr_lru_pages, set_referenced, was_accessed
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import (
    begin_pass, capacity, enqueue, evict, explain_queued, folio_removed, nr_queued, oldest, pass_over, queue_of, queue_state, requeue, set_queue,
)

T1, T2 = 0, 1
B1, B2 = 0, 1  # list of a node: 2 * node + this


def new_state(params, machine):
    """Queues, two lists of ghosts, and what the module's docstring lists."""
    nodes = machine.sizes.nr_nodes
    return {"p": np.zeros(nodes, np.float64), "returning": np.zeros(nodes, np.int64), **queue_state(machine), **ghost_state(machine, 2)}


@kernel
def workingset_refault(m, st, pfn, shadow):
    """A page that is remembered goes to T2; p adapts when it is added, after the eviction that makes room for it."""
    slot = find_ghost(st, shadow)
    if slot < 0:
        return 0
    st.returning[page_node(m, pfn)] = slot + 1
    set_queue(m, pfn, T2)
    return REFAULT_RECENT


@leaf
def adapt(m, st, node, slot):
    """The page of this ghost is back: move p, and forget the ghost."""
    nr_b1 = st.ghost_nr[2 * node + B1]
    nr_b2 = st.ghost_nr[2 * node + B2]
    if ghost_list(st, slot) == 2 * node + B1:
        st.p[node] = min(st.p[node] + max(nr_b2 / nr_b1, 1.0), float(capacity(m, st, node)))
    elif ghost_list(st, slot) == 2 * node + B2:
        st.p[node] = max(st.p[node] - max(nr_b1 / nr_b2, 1.0), 0.0)
    drop_ghost(st, slot)


@kernel
def folio_added(m, st, pfn):
    """At the new end of T1, or of T2 if it was remembered."""
    node = page_node(m, pfn)
    if st.returning[node]:
        adapt(m, st, node, st.returning[node] - 1)
        st.returning[node] = 0
    enqueue(m, st, node, pfn)
    return 0


@kernel
def eviction_shadow(m, st, pfn):
    """B1 remembers what leaves T1, B2 what leaves T2."""
    return ghost_shadow(st, add_ghost(st, 2 * page_node(m, pfn) + (B2 if queue_of(page_flags(m, pfn)) == T2 else B1)))


@leaf
def forget(st, node, pages):
    """After an eviction for a page that is not remembered: keep T1 and B1 within memory, and all four within twice that."""
    nr_t1 = nr_queued(st, node, T1)
    nr_b1 = st.ghost_nr[2 * node + B1]
    nr_b2 = st.ghost_nr[2 * node + B2]
    if nr_t1 + nr_b1 >= pages:
        keep_ghosts(st, 2 * node + B1, nr_b1 - 1)
    elif nr_t1 + nr_b1 + nr_queued(st, node, T2) + nr_b2 >= 2 * pages:
        keep_ghosts(st, 2 * node + B2, nr_b2 - 1)


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Turn the clock that is over its target."""
    begin_pass(m, st, node, priority)
    pages = capacity(m, st, node)
    while more_wanted(st, nr_to_reclaim):
        queue = T1 if nr_queued(st, node, T1) >= max(1.0, st.p[node]) or nr_queued(st, node, T2) == 0 else T2
        pfn = oldest(m, node, queue)
        if was_accessed(m, pfn):
            pass_over(m, st, pfn)
            requeue(m, st, node, pfn, T2)
        elif evict(m, st, node, pfn, scan_flags) and st.returning[node] == 0:
            forget(st, node, pages)
    return end_pass(m, st, scan_flags)


@kernel
def explain_page(m, st, pfn, what):
    """Its list, its position there, what T1 has beyond its target."""
    return nr_queued(st, page_node(m, pfn), T1) - int(st.p[page_node(m, pfn)]) if what == 2 else explain_queued(m, pfn, what)


CAR = Reclaimer(
    name="car", summary="ARC with clocks in place of LRU lists", models="Bansal and Modha 2004", level="L1", new_state=new_state,
    folio_added=folio_added, folio_accessed=set_referenced, folio_removed=folio_removed, folio_deactivate=folio_deactivate,
    folio_rotate=folio_rotate, shrink_node=shrink_node, eviction_shadow=eviction_shadow, workingset_refault=workingset_refault,
    nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("queue", "where it is", ("t1", "t2")), POSITION,
              Explained("t1_over_target", "pages that T1 has beyond its target p: above 0 it gives the victim, else T2")), explain_page=explain_page,
)  # fmt: skip
