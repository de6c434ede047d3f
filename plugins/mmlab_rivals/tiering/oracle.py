"""Oracle placement: knows when each page is accessed next, and moves pages for nothing. The bound for tiering, no competitor.

An access to slow memory brings its page to fast memory if there is room, or if some page there is needed later: that one goes down (Belady's
MIN with bypass, which has the fewest accesses to slow memory of all placements that may act at every access).
Models: nothing of the kernel. Left out: shared pages are judged by their last access alone. O(log pages) an access.
"""

from typing import Any

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memory_tiers import node_has_room
from mmlab.kernels.services import migrate_folio_to
from mmlab.kernels.zones import page_node
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.layout import reserve
from mmlab.model.page import PG_LRU, page_test
from mmlab.model.rows import N_DEMOTION_TARGETS, N_TOPTIER, NODE_STRIDE, SC_NOW_NS, SC_NR_NODES
from mmlab.policies import Tiering
from mmlab_linux.tiering.linux import next_demotion_node

WMARK_LOW = 1
SIZE = 0  # of st.one


def new_state(params: None, machine: Any) -> dict[str, np.ndarray]:
    """heap: (next use, pfn) pairs, the latest first; outdated entries stay until they come up, or there are too many. one: SIZE."""
    return {"heap": reserve(2 * (4 * machine.sizes.nr_frames + 64), "int64"), "one": np.zeros(1, np.int64)}


@leaf
def is_valid(m, key, pfn):
    """1 if the entry still says when a page of fast memory is needed next."""
    return 1 if m.next_use[pfn] == key and m.node[page_node(m, pfn) * NODE_STRIDE + N_TOPTIER] and page_test(m, pfn, PG_LRU) else 0


@leaf
def push(st, key, pfn):
    """An entry into the heap; there must be room."""
    hole = st.one[SIZE]
    st.one[SIZE] = hole + 1
    while hole > 0 and st.heap[2 * ((hole - 1) >> 1)] < key:
        parent = (hole - 1) >> 1
        st.heap[2 * hole], st.heap[2 * hole + 1] = st.heap[2 * parent], st.heap[2 * parent + 1]
        hole = parent
    st.heap[2 * hole], st.heap[2 * hole + 1] = key, pfn


@leaf
def pop(st):
    """Take the first entry off; the heap must not be empty."""
    size = st.one[SIZE] - 1
    st.one[SIZE] = size
    key, pfn = st.heap[2 * size], st.heap[2 * size + 1]
    hole = 0
    while 2 * hole + 1 < size:
        child = 2 * hole + 1
        if child + 1 < size and st.heap[2 * child + 2] > st.heap[2 * child]:
            child += 1
        if st.heap[2 * child] <= key:
            break
        st.heap[2 * hole], st.heap[2 * hole + 1] = st.heap[2 * child], st.heap[2 * child + 1]
        hole = child
    st.heap[2 * hole], st.heap[2 * hole + 1] = key, pfn


@kernel
def clean(m, st):
    """Drop outdated entries, and those that say the same again, by building the heap anew."""
    size = st.one[SIZE]
    st.one[SIZE] = 0
    for i in range(size):
        key, pfn = st.heap[2 * i], st.heap[2 * i + 1]
        if is_valid(m, key, pfn):
            push(st, key, pfn)
    return 0


@leaf
def node_with_room(m):
    """A fast node above its low watermark, or -1."""
    for node in range(m.sc[SC_NR_NODES]):
        if m.node[node * NODE_STRIDE + N_TOPTIER] and node_has_room(m, node, WMARK_LOW, 1, ZONE_MOVABLE):
            return node
    return -1


@leaf
def make_room(m, st, needed):
    """Move the page of fast memory that is needed last down, if that is later than `needed`: its node, or -1."""
    while st.one[SIZE] > 0 and st.heap[0] > needed:
        key, pfn = st.heap[0], st.heap[1]
        pop(st)
        if is_valid(m, key, pfn) == 0:
            continue
        node = page_node(m, pfn)
        if m.node[node * NODE_STRIDE + N_DEMOTION_TARGETS] and migrate_folio_to(m, pfn, next_demotion_node(m, node)):
            return node
    return -1


@kernel
def page_accessed(m, st, task, pfn, access):
    """Take note of when the page is needed next; a page of slow memory moves up where that helps."""
    key = m.next_use[pfn]
    if 2 * st.one[SIZE] + 2 >= len(st.heap):
        clean(m, st)
    if m.node[page_node(m, pfn) * NODE_STRIDE + N_TOPTIER]:
        push(st, key, pfn)
        return 0
    now = m.sc[SC_NOW_NS]
    node = node_with_room(m)
    if node < 0:
        node = make_room(m, st, key)
    if node >= 0:
        migrate_folio_to(m, pfn, node)
    m.sc[SC_NOW_NS] = now  # for nothing
    return 0


@kernel
def demotion_node(m, st, pfn, node, scan_flags):
    """Reclaim moves nothing."""
    return -1


@kernel
def should_migrate(m, st, task, pfn, source, node):
    """Hinting faults decide nothing."""
    return 0


@kernel
def check(m, st):
    """1 + i of the first entry that is later than the one above it. O(entries)."""
    for i in range(1, st.one[SIZE]):
        if st.heap[2 * i] > st.heap[2 * ((i - 1) >> 1)]:
            return 1 + i
    return 0


ORACLE_PLACEMENT = Tiering(
    name="oracle",
    summary="the best placement: knows every next access, moves pages for nothing",
    level="L1",
    new_state=new_state,
    wants_accesses=True,
    needs_future=True,
    demotion_node=demotion_node,
    should_migrate=should_migrate,
    page_accessed=page_accessed,
    check=check,
)
