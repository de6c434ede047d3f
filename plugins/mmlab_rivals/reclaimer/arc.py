"""ARC: LRU lists for pages seen once (T1) and more often (T2), whose sizes follow what was evicted too early.

B1 and B2 remember what T1 and T2 evicted. A page that comes back from B1 says that T1 should be larger, one from B2 that it should be
smaller: the target p of T1 moves by max(1, the other list's share of ghosts). Models: Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead
Replacement Cache" (FAST 2003); libCacheSim's ARC, with p and its steps as fractions too. Told of every access. O(1).

On a machine reclaim runs ahead of the fault, so an eviction does not know which page comes in for it: it is always the paper's case IV.

State beside queues.py's and ghosts.py's: p, float64, the target of T1 in pages; coming_from, ghost list + 1 of the page that comes in, 0;
without_ghost, 1 while a page leaves that is not to be remembered. An entry a node.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import page_flags
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.ghosts import (
    REFAULT_RECENT, add_ghost, check, drop_ghost, find_ghost, ghost_list, ghost_shadow, ghost_state, keep_ghosts,
)
from mmlab_rivals.reclaimer.one_list import POSITION, folio_deactivate, folio_rotate, nr_lru_pages
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import (
    begin_pass, can_move, capacity, enqueue, evict, explain_queued, folio_removed, make_newest, nr_queued, oldest, queue_of, queue_state, requeue,
    set_queue,
)

T1, T2 = 0, 1
B1, B2 = 0, 1  # list of a node: 2 * node + this


def new_state(params, machine):
    """Queues, two lists of ghosts, and what the module's docstring lists."""
    nodes = machine.sizes.nr_nodes
    return {
        "p": np.zeros(nodes, np.float64), "coming_from": np.zeros(nodes, np.int64), "without_ghost": np.zeros(nodes, np.int64),
        **queue_state(machine), **ghost_state(machine, 2),
    }  # fmt: skip


@leaf
def folio_accessed(m, st, pfn):
    """Newest of T2."""
    flags = page_flags(m, pfn)
    if can_move(flags):
        node = page_node(m, pfn)
        if queue_of(flags) == T2:
            make_newest(m, node, pfn, flags)
        else:
            requeue(m, st, node, pfn, T2)
    return 0


@kernel
def folio_added(m, st, pfn):
    """Newest of T1, or of T2 if it was remembered."""
    node = page_node(m, pfn)
    st.coming_from[node] = 0
    enqueue(m, st, node, pfn)
    return 0


@kernel
def workingset_refault(m, st, pfn, shadow):
    """Adapt p, and send a page that is remembered to T2."""
    slot = find_ghost(st, shadow)
    if slot < 0:
        return 0
    node = page_node(m, pfn)
    nr_b1 = st.ghost_nr[2 * node + B1]
    nr_b2 = st.ghost_nr[2 * node + B2]
    lst = ghost_list(st, slot)
    if lst == 2 * node + B1:
        st.p[node] = min(st.p[node] + max(nr_b2 / nr_b1, 1.0), float(capacity(m, st, node)))
    elif lst == 2 * node + B2:
        st.p[node] = max(st.p[node] - max(nr_b1 / nr_b2, 1.0), 0.0)
    drop_ghost(st, slot)
    set_queue(m, pfn, T2)
    st.coming_from[node] = 1 + (lst & 1)
    return REFAULT_RECENT


@kernel
def eviction_shadow(m, st, pfn):
    """B1 remembers what leaves T1, B2 what leaves T2."""
    node = page_node(m, pfn)
    if st.without_ghost[node]:
        return 0
    return ghost_shadow(st, add_ghost(st, 2 * node + (B2 if queue_of(page_flags(m, pfn)) == T2 else B1)))


@leaf
def forget(st, node, pages):
    """Case IV, before a page leaves for one that is not remembered: 1 if that page is T1's oldest, and is not to be remembered either."""
    nr_t1 = nr_queued(st, node, T1)
    nr_b1 = st.ghost_nr[2 * node + B1]
    if nr_t1 + nr_b1 >= pages:
        if nr_b1 == 0:
            return 1
        keep_ghosts(st, 2 * node + B1, nr_b1 - 1)
    elif nr_t1 + nr_b1 + nr_queued(st, node, T2) + st.ghost_nr[2 * node + B2] >= 2 * pages:
        keep_ghosts(st, 2 * node + B2, st.ghost_nr[2 * node + B2] - 1)
    return 0


@leaf
def replace(st, node):
    """The list whose oldest page leaves."""
    nr_t1 = nr_queued(st, node, T1)
    if nr_t1 > 0 and (nr_t1 > st.p[node] or (nr_t1 == st.p[node] and st.coming_from[node] == 1 + B2)):
        return T1
    return T1 if nr_queued(st, node, T2) == 0 else T2


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """The oldest of T1 or T2, as p says."""
    begin_pass(m, st, node, priority)
    pages = capacity(m, st, node)
    while more_wanted(st, nr_to_reclaim):
        if st.coming_from[node] == 0:
            st.without_ghost[node] = forget(st, node, pages)
        queue = T1 if st.without_ghost[node] else replace(st, node)
        evict(m, st, node, oldest(m, node, queue), scan_flags)
        st.without_ghost[node] = 0
    return end_pass(m, st, scan_flags)


@kernel
def explain_page(m, st, pfn, what):
    """Its list, its position there, what T1 has beyond its target."""
    return nr_queued(st, page_node(m, pfn), T1) - int(st.p[page_node(m, pfn)]) if what == 2 else explain_queued(m, pfn, what)


ARC = Reclaimer(
    name="arc", summary="LRU lists of pages seen once and more often, whose sizes adapt", models="Megiddo and Modha 2003", level="L2",
    wants_accesses=True, new_state=new_state, folio_added=folio_added, folio_accessed=folio_accessed, folio_removed=folio_removed,
    folio_deactivate=folio_deactivate, folio_rotate=folio_rotate, shrink_node=shrink_node, eviction_shadow=eviction_shadow,
    workingset_refault=workingset_refault, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("queue", "where it is", ("t1", "t2")), POSITION,
              Explained("t1_over_target", "pages that T1 has beyond its target p: above 0 it gives the victim, else T2")), explain_page=explain_page,
)  # fmt: skip
