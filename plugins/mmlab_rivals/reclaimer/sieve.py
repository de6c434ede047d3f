"""SIEVE: FIFO order with a hand that goes from old to new, takes the first page that was not accessed, and clears the mark of those it passes.

Pages never move: the hand does, and new pages come in behind it. Models: Zhang et al., "SIEVE is Simpler than LRU" (NSDI 2024);
libCacheSim's Sieve. The mark is the accessed bit of the page-table entries, and PG_REFERENCED for accesses through read() and write().
A page that cannot be freed becomes the newest. Amortised O(1) a victim.

State beside queues.py's: hand, where the search goes on: a page, or the list's head for its old end; an entry a node.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import policy_list
from mmlab.kernels.zones import page_node
from mmlab.model.page import PG_LRU, page_flags, page_prev
from mmlab.model.rows import SC_NR_NODES
from mmlab.model.vmstat import V_PGROTATED, count_vm_events
from mmlab.policies import Explained, Reclaimer
from mmlab_rivals.reclaimer.one_list import MAIN_LIST, make_oldest, nr_lru_pages, set_referenced, was_accessed
from mmlab_rivals.reclaimer.passes import end_pass, more_wanted
from mmlab_rivals.reclaimer.queues import begin_pass, check_queues, dequeue, evict, folio_added, nr_queued, pass_over, queue_state



def new_state(params, machine):
    """The hand of each node, -1 before the first eviction."""
    return {"hand": np.full(machine.sizes.nr_nodes, -1, np.int64), **queue_state(machine)}


@leaf
def step_hand(m, st, pfn):
    """If the hand is at this page, on to the next newer one: the page will not be where it was."""
    node = page_node(m, pfn)
    if st.hand[node] == pfn:
        st.hand[node] = page_prev(m, pfn)


@kernel
def folio_removed(m, st, pfn):
    """Off the list."""
    if page_flags(m, pfn) & PG_LRU:
        step_hand(m, st, pfn)
        dequeue(m, st, page_node(m, pfn), pfn)
    return 0


@kernel
def folio_deactivate(m, st, pfn):
    """To the old end."""
    step_hand(m, st, pfn)
    make_oldest(m, pfn)
    return 0


@kernel
def folio_rotate(m, st, pfn):
    """To the old end, counted as rotated."""
    step_hand(m, st, pfn)
    count_vm_events(m, V_PGROTATED, make_oldest(m, pfn))
    return 0


@leaf
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Move the hand; a page with a mark loses it, one without goes."""
    head = policy_list(m, node, MAIN_LIST)
    begin_pass(m, st, node, priority)
    while more_wanted(st, nr_to_reclaim):
        pfn = st.hand[node]
        if pfn < 0 or pfn == head:
            pfn = page_prev(m, head)
        st.hand[node] = page_prev(m, pfn)
        if was_accessed(m, pfn):
            pass_over(m, st, pfn)
        else:
            evict(m, st, node, pfn, scan_flags)
    return end_pass(m, st, scan_flags)


@kernel
def check(m, st):
    """Codes of check_queues(), or 6: the hand is not on the list."""
    broken = check_queues(m, st)
    if broken:
        return broken
    for node in range(m.sc[SC_NR_NODES]):
        hand = st.hand[node]
        if hand >= 0 and hand != policy_list(m, node, MAIN_LIST) and page_flags(m, hand) & PG_LRU == 0:
            return 6
    return 0


@kernel
def explain_page(m, st, pfn, what):
    """How far the hand is away."""
    if page_flags(m, pfn) & PG_LRU == 0:
        return -1
    node = page_node(m, pfn)
    head = policy_list(m, node, MAIN_LIST)
    at = st.hand[node]
    if at < 0 or at == head:
        at = page_prev(m, head)
    passed = 0
    while at != pfn and passed <= nr_queued(st, node, MAIN_LIST):
        passed += 1 if at != head else 0
        at = page_prev(m, at)
    return passed


SIEVE = Reclaimer(
    name="sieve", summary="FIFO with a hand that passes over accessed pages and leaves them where they are", models="Zhang et al. 2024",
    level="L2", new_state=new_state, folio_added=folio_added, folio_accessed=set_referenced, folio_removed=folio_removed,
    folio_deactivate=folio_deactivate, folio_rotate=folio_rotate, shrink_node=shrink_node, nr_lru_pages=nr_lru_pages, check=check,
    explains=(Explained("to_hand", "pages that the hand looks at before it; -1: it is off the list"),), explain_page=explain_page,
)  # fmt: skip
