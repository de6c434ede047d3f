"""Giving memory back: kmem_cache_shrink() and kmem_cache_destroy().

Models: mm/slub.c __kmem_cache_do_shrink(), __kmem_cache_shutdown(), flush_all().
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_add, list_del, list_empty
from mmlab.model.const import EBUSY, EINVAL
from mmlab.model.page import PG_WORKINGSET, page_clear, page_next
from mmlab.model.rows import NR_CACHES, SC_NR_CPUS, SC_NR_NODES
from mmlab_linux.slab_allocator.partial import discard_chain, flush_cpu
from mmlab_linux.slab_allocator.rows import (
    CACHE_STRIDE, KC_SIZE, KN_NR_PARTIAL, chain_next, node_row, partial_head, set_chain_next, slab_inuse, slab_objects,
)
from mmlab_linux.slab_allocator.stat import live_objects

SHRINK_PROMOTE_MAX = 32  # slabs with more free objects than this keep their place


@kernel
def flush_all(m, st, cache):
    """Take the cache's slabs from every CPU. Returns pages freed."""
    pages = 0
    for cpu in range(m.sc[SC_NR_CPUS]):
        pages += flush_cpu(m, st, cache, cpu)
    return pages


@kernel
def shrink_node_list(m, st, cache, node):
    """Free the empty slabs of a node's list; the fullest of the others come first, equal ones in reversed order. Returns pages freed.

    st.promote holds one chain a number of free objects, the empty slabs in chain 0.
    """
    head = partial_head(m, cache, node)
    for free in range(SHRINK_PROMOTE_MAX + 1):
        st.promote[free] = -1
    slab = page_next(m, head)
    while slab != head:
        after = page_next(m, slab)
        free = slab_objects(m, slab) - slab_inuse(m, slab)
        empty = slab_inuse(m, slab) == 0
        if empty or free <= SHRINK_PROMOTE_MAX:
            list_del(m, slab)
            number = 0 if empty else free
            set_chain_next(m, slab, st.promote[number])
            st.promote[number] = slab
            if empty:
                page_clear(m, slab, PG_WORKINGSET)
                st.node[node_row(m, cache, node) + KN_NR_PARTIAL] -= 1
        slab = after
    at = head
    for free in range(1, SHRINK_PROMOTE_MAX + 1):
        slab = st.promote[free]
        while slab >= 0:
            after = chain_next(m, slab)
            list_add(m, at, slab)
            at = slab
            slab = after
    return discard_chain(m, st, cache, st.promote[0])


@kernel
def shrink(m, st, cache):
    """Empty the CPUs' lists, free every empty slab, sort the partial ones. Returns pages freed."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] == 0:
        return -EINVAL
    pages = flush_all(m, st, cache)
    for node in range(m.sc[SC_NR_NODES]):
        if list_empty(m, partial_head(m, cache, node)) == 0:
            pages += shrink_node_list(m, st, cache, node)
    return pages


@kernel
def destroy(m, st, cache):
    """Free the cache's slabs and forget it; -EBUSY, and nothing changes, while objects are in use."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] == 0:
        return -EINVAL
    if live_objects(m, st, cache):
        return -EBUSY
    shrink(m, st, cache)
    st.cache[cache * CACHE_STRIDE + KC_SIZE] = 0
    return 0
