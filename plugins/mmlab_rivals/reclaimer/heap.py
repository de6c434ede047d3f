"""What reclaimers share that rank pages by a number: a heap a node, whose first page goes first.

Per node a 4-ary heap of (key, pfn), the largest key first; a page in it is on no list, and its forward link holds its place in the heap.
A page whose key falls stays low in the heap, as pages do that are accessed often: an access costs O(1) on average, a victim O(log pages).
Pages that mlock() holds are on a list. Left out: as one_list.py.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del, list_first, policy_list
from mmlab.kernels.services import reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import LRU_UNEVICTABLE, RECLAIM_FREED
from mmlab.model.layout import reserve
from mmlab.model.page import PG_LRU, PG_MLOCKED, page_flags, page_next, set_page_flags, set_page_next
from mmlab.model.rows import SC_NR_NODES
from mmlab_rivals.reclaimer.one_list import (
    check_begin, check_end, check_placed, count_pages, evictable_pages, folio_nr_pages, put_first, take_off,
)
from mmlab_rivals.reclaimer.passes import begin_looks, end_pass, freed, look, more_wanted, pass_state

FIRST = 3  # entries left unused, so that the four children of an entry share a cache line
SET_ASIDE = 0  # the node's list for pages that could not be freed in this pass


def heap_state(machine):
    """heap: (key, pfn) pairs, `run` words a node; size: pairs in use a node; counted: scratch of check(); that of passes.py."""
    pages, nodes = machine.sizes.nr_frames, machine.sizes.nr_nodes
    run = 2 * (pages + FIRST) + -2 * (pages + FIRST) % 8
    return {
        "heap": reserve(run * nodes, "int64", huge=pages <= 1 << 24),
        "size": np.zeros(nodes, np.int64),
        "counted": np.zeros(LRU_UNEVICTABLE + 1, np.int64),
        "run": np.array([run], np.int64),
        **pass_state(),
    }


@leaf
def heap_of(st, node):
    """Where entry 0 of a node's heap is."""
    return node * st.run[0] + 2 * FIRST


@leaf
def put(m, st, base, i, key, pfn):
    """Write entry i of a node's heap."""
    st.heap[base + 2 * i] = key
    st.heap[base + 2 * i + 1] = pfn
    set_page_next(m, pfn, i)


@leaf
def sift_up(m, st, base, hole, key, pfn):
    """Fill the hole with an entry, moving smaller ones above it down; where it came to lie."""
    while hole > 0:
        parent = (hole - 1) >> 2
        if st.heap[base + 2 * parent] >= key:
            break
        put(m, st, base, hole, st.heap[base + 2 * parent], st.heap[base + 2 * parent + 1])
        hole = parent
    put(m, st, base, hole, key, pfn)
    return hole


@leaf
def sift_down(m, st, base, size, hole, key, pfn):
    """Fill the hole with an entry, moving larger ones below it up."""
    while True:
        child = 4 * hole + 1
        if child >= size:
            break
        largest = child
        for other in range(child + 1, min(child + 4, size)):
            if st.heap[base + 2 * other] > st.heap[base + 2 * largest]:
                largest = other
        if st.heap[base + 2 * largest] <= key:
            break
        put(m, st, base, hole, st.heap[base + 2 * largest], st.heap[base + 2 * largest + 1])
        hole = largest
    put(m, st, base, hole, key, pfn)
    return hole


@leaf
def push(m, st, node, pfn, key):
    """A page into its node's heap."""
    hole = st.size[node]
    st.size[node] = hole + 1
    return sift_up(m, st, heap_of(st, node), hole, key, pfn)


@kernel
def remove(m, st, node, hole):
    """Take entry `hole` out of a node's heap; the last entry fills its place."""
    base = heap_of(st, node)
    size = st.size[node] - 1
    st.size[node] = size
    if hole == size:
        return 0
    key = st.heap[base + 2 * size]
    pfn = st.heap[base + 2 * size + 1]
    if sift_up(m, st, base, hole, key, pfn) == hole:
        sift_down(m, st, base, size, hole, key, pfn)
    return 0


@leaf
def add(m, st, node, pfn, key):
    """An unlinked page into the heap, or onto the list of those that mlock() holds; counted."""
    flags = page_flags(m, pfn)
    if flags & PG_MLOCKED:
        put_first(m, node, pfn)
        return 0
    set_page_flags(m, pfn, flags | PG_LRU)
    count_pages(m, flags, folio_nr_pages(m, pfn, flags))
    return push(m, st, node, pfn, key)


@leaf
def in_heap(flags):
    """1 if a page with these flags is in the heap."""
    return 1 if flags & (PG_LRU | PG_MLOCKED) == PG_LRU else 0


@leaf
def change_key(m, st, pfn, key):
    """A page of the heap to its place by a new key."""
    node = page_node(m, pfn)
    base = heap_of(st, node)
    hole = page_next(m, pfn)
    if sift_up(m, st, base, hole, key, pfn) == hole:
        sift_down(m, st, base, st.size[node], hole, key, pfn)


@kernel
def folio_removed(m, st, pfn):
    """Out of the heap."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU == 0:
        return 0
    if flags & PG_MLOCKED:
        take_off(m, pfn, flags, folio_nr_pages(m, pfn, flags))
        return 0
    set_page_flags(m, pfn, flags & ~PG_LRU)
    count_pages(m, flags, -folio_nr_pages(m, pfn, flags))
    return remove(m, st, page_node(m, pfn), page_next(m, pfn))


@leaf
def evict_first(m, st, node, priority, nr_to_reclaim, scan_flags):
    """One pass: reclaim the first pages; those that cannot go are set aside, for the caller to take back by next_aside(). Pages freed."""
    begin_looks(st, evictable_pages(m, node), priority)
    while more_wanted(st, nr_to_reclaim) and st.size[node] > 0:
        pfn = st.heap[heap_of(st, node) + 1]
        flags = page_flags(m, pfn)
        look(m, st, pfn, flags)
        remove(m, st, node, 0)
        set_page_flags(m, pfn, flags & ~PG_LRU)
        count_pages(m, flags, -folio_nr_pages(m, pfn, flags))
        if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
            freed(st, flags)
        else:
            list_add(m, policy_list(m, node, SET_ASIDE), pfn)
    return end_pass(m, st, scan_flags)


@leaf
def next_aside(m, node):
    """A page that a pass has set aside, unlinked now, or -1."""
    pfn = list_first(m, policy_list(m, node, SET_ASIDE))
    if pfn >= 0:
        list_del(m, pfn)
    return pfn


@kernel
def check(m, st):
    """1 to 4 as the other rivals' check; 5: an entry is smaller than one below it; 6: a page's place is wrong; 7: not of this heap."""
    for node in range(m.sc[SC_NR_NODES]):
        base = heap_of(st, node)
        broken = check_begin(m, st, node)
        for i in range(st.size[node]):
            if broken == 0 and i > 0 and st.heap[base + 2 * ((i - 1) >> 2)] < st.heap[base + 2 * i]:
                broken = 5
            if broken == 0:
                broken = check_placed(m, st, node, st.heap[base + 2 * i + 1], i)
        if broken == 0:
            broken = check_end(m, st, node)
        if broken:
            return broken
    return 0
