"""What reclaimers with several queues a node share: their sizes, the capacity that shares are taken of, and how a page is evicted.

A policy has up to four queues, numbered as the lists of one_list.py: 0 is where new pages come in; workingset_refault() may give a page that
comes back another one. shrink_node() is begin_pass(), then evict() or pass_over() for a page at a time while more_wanted(), then end_pass().

State: nr, pages a queue, NR_QUEUES a node; capacity, pages a node (see capacity()); that of passes.py; counted, scratch of check(). Left
out: as one_list.py; a page that is migrated starts anew in queue 0.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del, list_last, policy_list
from mmlab.kernels.services import reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import LRU_UNEVICTABLE, RECLAIM_FREED
from mmlab.model.page import GEN_MASK, GEN_SHIFT, PG_LRU, PG_MLOCKED, page_flags, set_page_flags
from mmlab.model.rows import SC_NR_NODES, SC_NR_ZONES, Z_MANAGED, Z_NODE, ZONE_STRIDE
from mmlab_rivals.reclaimer.one_list import NR_QUEUES, check_list, folio_nr_pages, head_of, position_of, put_first, take_off, zone_sum
from mmlab_rivals.reclaimer.passes import begin_looks, freed, look, pass_state


def queue_state(machine):
    """The arrays that every policy with queues has."""
    nodes = machine.sizes.nr_nodes
    return {
        "nr": np.zeros(nodes * NR_QUEUES, np.int64),
        "capacity": np.zeros(nodes, np.int64),
        **pass_state(),
        "counted": np.zeros(LRU_UNEVICTABLE + 1, np.int64),
    }


@leaf
def capacity(m, st, node):
    """Pages that the node's queues hold when memory is full: those when reclaim last began, before that all that the node has."""
    pages = st.capacity[node]
    if pages == 0:
        for zone in range(m.sc[SC_NR_ZONES]):
            if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
                pages += m.zone[zone * ZONE_STRIDE + Z_MANAGED]
    return pages


@leaf
def queue_of(flags):
    """The queue of a page with these flags."""
    return (flags & GEN_MASK) >> GEN_SHIFT


@leaf
def set_queue(m, pfn, queue):
    """Choose the queue of a page that is on none."""
    set_page_flags(m, pfn, (page_flags(m, pfn) & ~GEN_MASK) | (queue << GEN_SHIFT))


@leaf
def nr_queued(st, node, queue):
    """Pages of a queue."""
    return st.nr[node * NR_QUEUES + queue]


@leaf
def queue_pages(m, st, node, pfn, flags, sign):
    """Count a page in (1) or out (-1) of its queue; pages that mlock() holds are in none."""
    if flags & PG_MLOCKED == 0:
        st.nr[node * NR_QUEUES + queue_of(flags)] += sign * folio_nr_pages(m, pfn, flags)


@leaf
def enqueue(m, st, node, pfn):
    """Newest of its queue."""
    put_first(m, node, pfn)
    queue_pages(m, st, node, pfn, page_flags(m, pfn), 1)


@leaf
def dequeue(m, st, node, pfn):
    """Off its queue."""
    flags = page_flags(m, pfn)
    queue_pages(m, st, node, pfn, flags, -1)
    take_off(m, pfn, flags, folio_nr_pages(m, pfn, flags))


@leaf
def requeue(m, st, node, pfn, queue):
    """From its queue to the new end of this one."""
    flags = page_flags(m, pfn)
    queue_pages(m, st, node, pfn, flags, -1)
    flags = (flags & ~GEN_MASK) | (queue << GEN_SHIFT)
    set_page_flags(m, pfn, flags)
    list_del(m, pfn)
    list_add(m, policy_list(m, node, queue), pfn)
    queue_pages(m, st, node, pfn, flags, 1)


@leaf
def make_newest(m, node, pfn, flags):
    """To the new end of the queue that it is on."""
    head = head_of(m, node, flags)
    list_del(m, pfn)
    list_add(m, head, pfn)


@leaf
def oldest(m, node, queue):
    """The page at the old end of a queue, or -1."""
    return list_last(m, policy_list(m, node, queue))


@leaf
def can_move(flags):
    """1 if a page with these flags is on a queue (and not held by mlock())."""
    return 1 if flags & (PG_LRU | PG_MLOCKED) == PG_LRU else 0


@kernel
def folio_added(m, st, pfn):
    """Newest of its queue."""
    enqueue(m, st, page_node(m, pfn), pfn)
    return 0


@kernel
def folio_removed(m, st, pfn):
    """Off its queue."""
    if page_flags(m, pfn) & PG_LRU:
        dequeue(m, st, page_node(m, pfn), pfn)
    return 0


@leaf
def begin_pass(m, st, node, priority):
    """begin_looks() over the node's queues; what they hold is the capacity from now on."""
    pages = 0
    for queue in range(NR_QUEUES):
        pages += st.nr[node * NR_QUEUES + queue]
    begin_looks(st, pages, priority)
    st.capacity[node] = pages


@leaf
def pass_over(m, st, pfn):
    """Count a page that was looked at and stays."""
    look(m, st, pfn, page_flags(m, pfn))


@leaf
def evict(m, st, node, pfn, scan_flags):
    """Take a page off its queue and reclaim it: 1, or 0 if it cannot go and is the newest of its queue now."""
    flags = page_flags(m, pfn)
    look(m, st, pfn, flags)
    dequeue(m, st, node, pfn)
    if reclaim_folio(m, pfn, scan_flags) != RECLAIM_FREED:
        enqueue(m, st, node, pfn)
        return 0
    freed(st, flags)
    return 1


@leaf
def explain_queued(m, pfn, what):
    """0: the page's queue, 1: its POSITION there."""
    return queue_of(page_flags(m, pfn)) if what == 0 else position_of(m, pfn)


@kernel
def explain_page(m, st, pfn, what):
    """Of policies that tell no more."""
    return explain_queued(m, pfn, what)


@leaf
def check_queues(m, st):
    """0, codes 1 to 3 of check_list(), 4: the zones' rows do not hold the number of pages on the lists, 5: nor does st.nr."""
    for node in range(m.sc[SC_NR_NODES]):
        for lru in range(len(st.counted)):
            st.counted[lru] = 0
        before = 0
        for number in range(NR_QUEUES + 1):
            broken = check_list(m, node, number, st.counted)
            if broken:
                return broken
            pages = -before
            for lru in range(len(st.counted)):
                pages += st.counted[lru]
            before += pages
            if number < NR_QUEUES and pages != st.nr[node * NR_QUEUES + number]:
                return 5
        for lru in range(len(st.counted)):
            if zone_sum(m, node, lru) != st.counted[lru]:
                return 4
    return 0


@kernel
def check(m, st):
    """Codes of check_queues()."""
    return check_queues(m, st)
