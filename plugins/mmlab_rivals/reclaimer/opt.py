"""Belady's OPT: the page whose next access is farthest away goes. No policy can miss less; it needs the whole stream in advance.

Models: Belady, "A study of replacement algorithms" (1966); Mattson et al. (1970) proved it optimal. m.next_use[pfn] holds the event
number of the page's next access (2**62 if there is none), brought up to date by the engine at each access.

Per node a 4-ary heap of (next use, pfn), farthest first; a page in it is on no list, and its forward link holds its place in the heap.
A page just accessed had the nearest next use of all, so it was a leaf, and with a skewed stream it stays low: an access costs O(1) on
average, a victim O(log pages). Left out: as one_list.py; pages whose accesses the stream does not show (page tables' accessed bits,
read-ahead) keep the number they came with.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del, policy_list
from mmlab.kernels.services import reclaim_folio
from mmlab.kernels.zones import page_node
from mmlab.model.const import LRU_UNEVICTABLE, RECLAIM_FREED
from mmlab.model.layout import reserve
from mmlab.model.page import PG_LRU, PG_MLOCKED, PG_SWAPBACKED, page_flags, page_next, set_page_flags, set_page_next
from mmlab.model.rows import SC_NR_NODES
from mmlab.policies import Reclaimer
from mmlab_rivals.reclaimer.one_list import (
    check_list, count_pages, count_shrink, folio_nr_pages, lru_of, nr_lru_pages, put_first, scanned_enough, take_off, zone_sum,
)

FIRST = 3  # entries left unused, so that the four children of an entry share a cache line
SET_ASIDE = 0  # the node's list for pages that could not be freed in this pass


def new_state(params, machine):
    """heap: (next use, pfn) pairs, `run` words a node; size: pairs in use a node; counted: scratch of check()."""
    pages, nodes = machine.sizes.nr_frames, machine.sizes.nr_nodes
    run = 2 * (pages + FIRST) + -2 * (pages + FIRST) % 8
    return {
        "heap": reserve(run * nodes, "int64", huge=pages <= 1 << 24),
        "size": np.zeros(nodes, np.int64),
        "counted": np.zeros(LRU_UNEVICTABLE + 1, np.int64),
        "run": np.array([run], np.int64),
    }


@leaf
def heap_of(st, node):
    """Where entry 0 of a node's heap is."""
    return node * st.run[0] + 2 * FIRST


@leaf
def put(m, st, base, i, next_use, pfn):
    """Write entry i of a node's heap."""
    st.heap[base + 2 * i] = next_use
    st.heap[base + 2 * i + 1] = pfn
    set_page_next(m, pfn, i)


@leaf
def sift_up(m, st, base, hole, next_use, pfn):
    """Fill the hole with an entry, moving nearer ones above it down; where it came to lie."""
    while hole > 0:
        parent = (hole - 1) >> 2
        if st.heap[base + 2 * parent] >= next_use:
            break
        put(m, st, base, hole, st.heap[base + 2 * parent], st.heap[base + 2 * parent + 1])
        hole = parent
    put(m, st, base, hole, next_use, pfn)
    return hole


@leaf
def sift_down(m, st, base, size, hole, next_use, pfn):
    """Fill the hole with an entry, moving farther ones below it up."""
    while True:
        child = 4 * hole + 1
        if child >= size:
            break
        farthest = child
        for other in range(child + 1, min(child + 4, size)):
            if st.heap[base + 2 * other] > st.heap[base + 2 * farthest]:
                farthest = other
        if st.heap[base + 2 * farthest] <= next_use:
            break
        put(m, st, base, hole, st.heap[base + 2 * farthest], st.heap[base + 2 * farthest + 1])
        hole = farthest
    put(m, st, base, hole, next_use, pfn)
    return hole


@leaf
def push(m, st, node, pfn):
    """A page into its node's heap."""
    hole = st.size[node]
    st.size[node] = hole + 1
    return sift_up(m, st, heap_of(st, node), hole, m.next_use[pfn], pfn)


@kernel
def remove(m, st, node, hole):
    """Take entry `hole` out of a node's heap; the last entry fills its place."""
    base = heap_of(st, node)
    size = st.size[node] - 1
    st.size[node] = size
    if hole == size:
        return 0
    next_use = st.heap[base + 2 * size]
    pfn = st.heap[base + 2 * size + 1]
    if sift_up(m, st, base, hole, next_use, pfn) == hole:
        sift_down(m, st, base, size, hole, next_use, pfn)
    return 0


@leaf
def add(m, st, node, pfn):
    """An unlinked page into the heap, or onto the list of those that mlock() holds; counted."""
    flags = page_flags(m, pfn)
    if flags & PG_MLOCKED:
        put_first(m, node, pfn)
        return 0
    set_page_flags(m, pfn, flags | PG_LRU)
    count_pages(m, flags, folio_nr_pages(m, pfn, flags))
    return push(m, st, node, pfn)


@leaf
def folio_added(m, st, pfn):
    """Into the heap by m.next_use[pfn]."""
    return add(m, st, page_node(m, pfn), pfn)


@leaf
def folio_accessed(m, st, pfn):
    """To its place by the new m.next_use[pfn]."""
    flags = page_flags(m, pfn)
    if flags & PG_LRU and flags & PG_MLOCKED == 0:
        node = page_node(m, pfn)
        base = heap_of(st, node)
        hole = page_next(m, pfn)
        if sift_up(m, st, base, hole, m.next_use[pfn], pfn) == hole:
            sift_down(m, st, base, st.size[node], hole, m.next_use[pfn], pfn)
    return 0


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
def shrink_node(m, st, node, priority, nr_to_reclaim, scan_flags):
    """Reclaim the farthest pages; those that cannot go are set aside until the pass ends."""
    head = policy_list(m, node, SET_ASIDE)
    nr_reclaimed = 0
    scanned_anon = scanned_file = freed_anon = freed_file = 0
    while nr_reclaimed < nr_to_reclaim and st.size[node] > 0:
        if scanned_enough(m, node, priority, scanned_anon + scanned_file):
            break
        pfn = st.heap[heap_of(st, node) + 1]
        flags = page_flags(m, pfn)
        nr_pages = folio_nr_pages(m, pfn, flags)
        remove(m, st, node, 0)
        set_page_flags(m, pfn, flags & ~PG_LRU)
        count_pages(m, flags, -nr_pages)
        freed = 0
        if reclaim_folio(m, pfn, scan_flags) == RECLAIM_FREED:
            freed = 1
            nr_reclaimed += 1
        else:
            list_add(m, head, pfn)
        if flags & PG_SWAPBACKED:
            scanned_anon += nr_pages
            freed_anon += freed
        else:
            scanned_file += nr_pages
            freed_file += freed
    pfn = page_next(m, head)
    while pfn != head:
        list_del(m, pfn)
        add(m, st, node, pfn)
        pfn = page_next(m, head)
    count_shrink(m, scan_flags, scanned_anon, scanned_file, freed_anon, freed_file)
    return nr_reclaimed


@kernel
def check(m, st):
    """1 to 4 as the other rivals' check; 5: an entry is nearer than one below it; 6: a page's place is wrong; 7: not of this heap."""
    for node in range(m.sc[SC_NR_NODES]):
        base = heap_of(st, node)
        for lru in range(len(st.counted)):
            st.counted[lru] = 0
        broken = check_list(m, node, LRU_UNEVICTABLE, st.counted)
        if broken:
            return broken
        for i in range(st.size[node]):
            pfn = st.heap[base + 2 * i + 1]
            flags = page_flags(m, pfn)
            if i > 0 and st.heap[base + 2 * ((i - 1) >> 2)] < st.heap[base + 2 * i]:
                return 5
            if page_next(m, pfn) != i:
                return 6
            if flags & PG_LRU == 0 or flags & PG_MLOCKED or page_node(m, pfn) != node:
                return 7
            st.counted[lru_of(flags)] += folio_nr_pages(m, pfn, flags)
        for lru in range(len(st.counted)):
            if zone_sum(m, node, lru) != st.counted[lru]:
                return 4
    return 0


OPT = Reclaimer(
    name="opt",
    summary="Belady's optimum: the page needed last goes; knows the future",
    models="Belady 1966",
    level="L1",
    wants_accesses=True,
    needs_future=True,
    new_state=new_state,
    folio_added=folio_added,
    folio_accessed=folio_accessed,
    folio_removed=folio_removed,
    shrink_node=shrink_node,
    nr_lru_pages=nr_lru_pages,
    check=check,
)
