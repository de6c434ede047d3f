"""Partial lists: a node's (through mem_map), a CPU's (a chain, newest first), and getting rid of slabs.

Models: mm/slub.c add_partial(), remove_partial(), discard_slab(), put_cpu_partial(), __put_partials(), deactivate_slab().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_add_tail, list_del
from mmlab.kernels.services import free_pages
from mmlab.kernels.zones import page_node
from mmlab.model.page import (
    KIND_FREE, NO_MAPPING, PG_TAIL, PG_WORKINGSET, page_clear, page_mapping, page_order, page_set, set_page_index, set_page_kind,
    set_page_mapping, set_page_private,
)
from mmlab.model.rows import SC_CPU
from mmlab.model.slabinfo import SLAB_RECLAIM_ACCOUNT
from mmlab.model.vmstat import V_NR_SLAB_RECLAIMABLE, V_NR_SLAB_UNRECLAIMABLE, mod_node_state
from mmlab_linux.slab_allocator.rows import (
    CACHE_STRIDE, CPU_FREELIST, CPU_PARTIAL, CPU_SLAB, END, KC_CPU_PARTIAL_SLABS, KC_FLAGS, KC_MIN_PARTIAL, KN_NR_PARTIAL, KN_NR_SLABS,
    KN_TOTAL_OBJECTS, chain_next, cpu_row, next_free, node_row, partial_head, set_chain_next, set_next_free, set_slab_counts,
    set_slab_freelist, set_slab_length, slab_freelist, slab_inuse, slab_length, slab_objects,
)


@leaf
def add_partial(m, st, cache, slab, tail):
    """Onto its node's partial list, at the tail or the head."""
    node = page_node(m, slab)
    st.node[node_row(m, cache, node) + KN_NR_PARTIAL] += 1
    page_set(m, slab, PG_WORKINGSET)
    if tail:
        list_add_tail(m, partial_head(m, cache, node), slab)
    else:
        list_add(m, partial_head(m, cache, node), slab)


@leaf
def remove_partial(m, st, cache, slab):
    """Off its node's partial list."""
    list_del(m, slab)
    page_clear(m, slab, PG_WORKINGSET)
    st.node[node_row(m, cache, page_node(m, slab)) + KN_NR_PARTIAL] -= 1


@leaf
def may_discard(m, st, cache, slab):
    """1 if an empty slab goes back to the page allocator: its node keeps enough partial ones."""
    row = node_row(m, cache, page_node(m, slab))
    return 1 if st.node[row + KN_NR_PARTIAL] >= st.cache[cache * CACHE_STRIDE + KC_MIN_PARTIAL] else 0


@leaf
def count_slab(m, st, cache, slab, order, sign):
    """Add (or, sign -1, take away) the slab in the counters of its node."""
    node = page_node(m, slab)
    row = node_row(m, cache, node)
    st.node[row + KN_NR_SLABS] += sign
    st.node[row + KN_TOTAL_OBJECTS] += sign * slab_objects(m, slab)
    reclaimable = st.cache[cache * CACHE_STRIDE + KC_FLAGS] & SLAB_RECLAIM_ACCOUNT
    mod_node_state(m, node, V_NR_SLAB_RECLAIMABLE if reclaimable else V_NR_SLAB_UNRECLAIMABLE, sign * (1 << order))


@kernel
def discard_slab(m, st, cache, slab):
    """Give the slab's pages back. It is on no list. Returns how many pages."""
    order = page_order(m, slab)
    count_slab(m, st, cache, slab, order, -1)
    set_page_mapping(m, slab, NO_MAPPING)
    set_page_private(m, slab, 0)
    set_page_index(m, slab, 0)
    for tail in range(slab + 1, slab + (1 << order)):
        page_clear(m, tail, PG_TAIL)
        set_page_private(m, tail, 0)
        set_page_kind(m, tail, KIND_FREE)
    free_pages(m, slab, order)
    return 1 << order


@kernel
def discard_chain(m, st, cache, slab):
    """Give back every slab of a chain. Returns how many pages."""
    pages = 0
    while slab >= 0:
        after = chain_next(m, slab)
        pages += discard_slab(m, st, cache, slab)
        slab = after
    return pages


@kernel
def put_partials(m, st, cache, slab):
    """Move a CPU partial list to the nodes, newest first; empty slabs too many are freed at the end, oldest first. Returns pages freed."""
    discard = -1
    while slab >= 0:
        after = chain_next(m, slab)
        if slab_inuse(m, slab) == 0 and may_discard(m, st, cache, slab):
            set_chain_next(m, slab, discard)
            discard = slab
        else:
            add_partial(m, st, cache, slab, 1)
        slab = after
    return discard_chain(m, st, cache, discard)


@kernel
def put_cpu_partial(m, st, cache, slab, drain):
    """Put a slab first on this CPU's partial list; with drain, a list that is long enough moves to the nodes before."""
    row = cpu_row(m, cache, m.sc[SC_CPU])
    old = st.cpu[row + CPU_PARTIAL]
    put = -1
    length = 0
    if old >= 0:
        length = slab_length(m, old)
        if drain and length >= st.cache[cache * CACHE_STRIDE + KC_CPU_PARTIAL_SLABS]:
            put = old
            old = -1
            length = 0
    set_slab_length(m, slab, length + 1)
    set_chain_next(m, slab, old)
    st.cpu[row + CPU_PARTIAL] = slab
    if put >= 0:
        put_partials(m, st, cache, put)
    return 0


@kernel
def deactivate_slab(m, st, slab, freelist):
    """A slab stops being a CPU's; freelist is what the CPU had of it (END: nothing). Returns pages freed."""
    cache = page_mapping(m, slab)
    own = slab_freelist(m, slab)
    tail = 1 if own != END else 0
    inuse = slab_inuse(m, slab)
    if freelist != END:
        last = freelist
        inuse -= 1
        while next_free(st, slab, last) != END:
            last = next_free(st, slab, last)
            inuse -= 1
        set_next_free(st, slab, last, own)
        own = freelist
        set_slab_freelist(m, slab, own)
    set_slab_counts(m, slab, inuse, slab_objects(m, slab), 0)
    if inuse == 0 and may_discard(m, st, cache, slab):
        return discard_slab(m, st, cache, slab)
    if own != END:
        add_partial(m, st, cache, slab, tail)
    return 0


@kernel
def flush_cpu(m, st, cache, cpu):
    """Take a CPU's slab and partial list from it. Returns pages freed."""
    row = cpu_row(m, cache, cpu)
    slab = st.cpu[row + CPU_SLAB]
    partial = st.cpu[row + CPU_PARTIAL]
    freelist = st.cpu[row + CPU_FREELIST]
    st.cpu[row + CPU_SLAB] = -1
    st.cpu[row + CPU_FREELIST] = END
    st.cpu[row + CPU_PARTIAL] = -1
    pages = 0
    if slab >= 0:
        pages += deactivate_slab(m, st, slab, freelist)
    return pages + put_partials(m, st, cache, partial)
