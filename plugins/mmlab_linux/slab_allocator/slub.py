"""SLUB, Linux's slab allocator: objects of one size packed into slabs; each CPU works on a slab of its own.

Models: mm/slub.c ___slab_alloc(), __slab_free(), get_partial(), allocate_slab(), and what rows, geometry, partial, shrink and stat of this
folder say. Left out: what debug caches check and fill in, object addresses behind a left red zone,
pfmemalloc reserves, RCU-delayed frees, the 2 % of remote look-ups that Linux skips at random.
alloc and free are O(1), O(objects per slab) where a slab is made or a CPU's list is moved.
"""

from __future__ import annotations

import attrs
import numpy as np

from mmlab.kernels.jit import cold, kernel, leaf
from mmlab.kernels.lists import list_first
from mmlab.kernels.random import random_below
from mmlab.kernels.services import alloc_pages
from mmlab.kernels.zones import request_zone
from mmlab.model.const import EINVAL, ENOMEM, PAGE_SHIFT
from mmlab.model.gfp import (
    GFP_DIRECT_RECLAIM, GFP_FS, GFP_HARDWALL, GFP_HIGH, GFP_IO, GFP_MEMALLOC, GFP_NOFAIL, GFP_NOMEMALLOC, GFP_NORETRY, GFP_NOWARN,
    GFP_RECLAIM, GFP_RETRY_MAYFAIL, GFP_THISNODE,
)
from mmlab.model.layout import reserve
from mmlab.model.page import (
    KIND_SLAB, PG_HEAD, PG_SLAB, PG_TAIL, PG_WORKINGSET, page_mapping, page_set, page_test, set_page_kind, set_page_mapping,
    set_page_private,
)
from mmlab.model.rows import NR_CACHES, SC_CPU, SC_NODE, SC_SEED, Z_INDEX, Z_NODE, ZONE_STRIDE, ZONELIST_STRIDE
from mmlab.model.slabinfo import KMALLOC_MAX_SIZE, SLAB_DEBUG_FLAGS, SLAB_FLAGS_ALL
from mmlab.policies import SlabAllocator
from mmlab_linux.slab_allocator.geometry import calculate_sizes
from mmlab_linux.slab_allocator.partial import (
    add_partial, count_slab, deactivate_slab, discard_slab, may_discard, put_cpu_partial, remove_partial,
)
from mmlab_linux.slab_allocator.rows import (
    ALLOCATED, CACHE_STRIDE, CPU_FREELIST, CPU_PARTIAL, CPU_SLAB, CPU_STRIDE, END, KC_ALLOCFLAGS, KC_CPU_PARTIAL_SLABS, KC_FLAGS,
    KC_HAS_CPU_PARTIAL, KC_MIN_OBJECTS, KC_MIN_ORDER, KC_MIN_PARTIAL, KC_OBJECTS, KC_ORDER, KC_SIZE, KN_NR_PARTIAL, NODE_STRIDE,
    OBJECT_BITS, OBJECT_MASK, SLOTS_SHIFT, allocated_object, chain_next, cpu_row, next_free, node_row, partial_head, set_chain_next,
    set_next_free, set_slab_counts, set_slab_freelist, set_slab_length, slab_freelist, slab_frozen, slab_inuse, slab_objects,
)
from mmlab_linux.slab_allocator.shrink import destroy, shrink
from mmlab_linux.slab_allocator.stat import check, slab_after, slab_stat, stat

#: what of a caller's flags reaches the page allocator
PAGE_GFP = (
    GFP_RECLAIM | GFP_HIGH | GFP_IO | GFP_FS | GFP_NOWARN | GFP_RETRY_MAYFAIL | GFP_NOFAIL | GFP_NORETRY | GFP_MEMALLOC | GFP_NOMEMALLOC
    | GFP_HARDWALL | GFP_THISNODE
)


def _between(low: int, high: int):
    return [attrs.validators.ge(low), attrs.validators.le(high)]


@attrs.frozen
class Params:
    """Boot parameters slab_min_order, slab_max_order, slab_min_objects (0: from the number of CPUs); cpu_partial: CONFIG_SLUB_CPU_PARTIAL;
    freelist_random: CONFIG_SLAB_FREELIST_RANDOM: a cache hands out the objects of a new slab in an order drawn from the experiment's seed,
    each slab beginning at another place of it; without, in order of address."""

    slab_min_order: int = attrs.field(default=0, validator=_between(0, 9))
    slab_max_order: int = attrs.field(default=3, validator=_between(0, 9))
    slab_min_objects: int = attrs.field(default=0, validator=_between(0, 32767))
    cpu_partial: bool = True
    freelist_random: bool = False


def new_state(params, machine):
    """Rows of caches, CPUs and nodes; next_free takes 1 KiB a page frame of address space, memory only where there are slabs."""
    sizes = machine.sizes
    cpu = np.full(NR_CACHES * sizes.nr_cpus * CPU_STRIDE, -1, "int64")
    cpu[CPU_FREELIST::CPU_STRIDE] = END
    return {
        "cache": np.zeros(NR_CACHES * CACHE_STRIDE, "int64"),
        "cpu": cpu,
        "node": np.zeros(NR_CACHES * sizes.nr_nodes * NODE_STRIDE, "int64"),
        "next_free": reserve(sizes.nr_frames << SLOTS_SHIFT, "uint16", huge=sizes.nr_frames <= 1 << 24),
        "nr_shuffled": np.zeros(NR_CACHES, "int64"),
        "order": np.zeros(32768, "int64"),
        "promote": np.zeros(33, "int64"),
    }


@kernel
def create(m, st, cache, size, align, flags):
    """A cache of objects of `size` bytes, aligned to a power of two (0: none asked)."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] != 0:
        return -EINVAL
    if size <= 0 or size > KMALLOC_MAX_SIZE or flags & ~SLAB_FLAGS_ALL != 0:
        return -EINVAL
    if align < 0 or align > KMALLOC_MAX_SIZE or align & (align - 1) != 0:
        return -EINVAL
    return calculate_sizes(m, st, cache, size, align, flags)


@kernel
def link_objects(m, st, cache, slab, objects):
    """Chain the objects of a new slab, in order or at random: the first one."""
    if st.freelist_random[0] == 0:
        for n in range(objects - 1):
            set_next_free(st, slab, n, n + 1)
        set_next_free(st, slab, objects - 1, END)
        return 0
    for n in range(objects):  # the cache's own order, the same every time
        at = random_below(m.sc[SC_SEED], cache, n, n + 1)
        st.order[n] = st.order[at]
        st.order[at] = n
    first = random_below(m.sc[SC_SEED], NR_CACHES + cache, st.nr_shuffled[cache], objects)
    st.nr_shuffled[cache] += 1
    for n in range(objects - 1):
        set_next_free(st, slab, st.order[(first + n) % objects], st.order[(first + n + 1) % objects])
    set_next_free(st, slab, st.order[(first + objects - 1) % objects], END)
    return st.order[first]


@kernel
def allocate_slab(m, st, cache, gfp):
    """Pages for a slab, of the smaller order if the better one is not to be had: its first frame, or -ENOMEM."""
    row = cache * CACHE_STRIDE
    flags = (gfp & PAGE_GFP) | st.cache[row + KC_ALLOCFLAGS]
    order = st.cache[row + KC_ORDER]
    objects = st.cache[row + KC_OBJECTS]
    gentle = (flags | GFP_NOWARN | GFP_NORETRY) & ~GFP_NOFAIL
    if gentle & GFP_DIRECT_RECLAIM and order > st.cache[row + KC_MIN_ORDER]:
        gentle = (gentle | GFP_NOMEMALLOC) & ~GFP_RECLAIM
    slab = alloc_pages(m, gentle, order, -1)
    if slab < 0:
        order = st.cache[row + KC_MIN_ORDER]
        objects = st.cache[row + KC_MIN_OBJECTS]
        slab = alloc_pages(m, flags, order, -1)
        if slab < 0:
            return -ENOMEM
    page_set(m, slab, PG_SLAB | (PG_HEAD if order else 0))
    set_page_kind(m, slab, KIND_SLAB)
    set_page_mapping(m, slab, cache)
    for tail in range(slab + 1, slab + (1 << order)):
        page_set(m, tail, PG_TAIL)
        set_page_private(m, tail, tail - slab)
        set_page_kind(m, tail, KIND_SLAB)
    set_slab_length(m, slab, 0)
    set_slab_freelist(m, slab, link_objects(m, st, cache, slab, objects))
    set_slab_counts(m, slab, 0, objects, 0)
    count_slab(m, st, cache, slab, order, 1)
    return slab


@kernel
def get_partial_node(m, st, cache, node):
    """The first slab of a node's partial list, or -1; some of those behind it move to this CPU's list."""
    head = partial_head(m, cache, node)
    slab = list_first(m, head)
    if slab < 0:
        return -1
    remove_partial(m, st, cache, slab)
    limit = st.cache[cache * CACHE_STRIDE + KC_CPU_PARTIAL_SLABS]
    if limit > 0:
        for _ in range(limit // 2 + 1):
            other = list_first(m, head)
            if other < 0:
                break
            remove_partial(m, st, cache, other)
            put_cpu_partial(m, st, cache, other, 0)
    return slab


@kernel
def get_partial(m, st, cache, gfp):
    """A partial slab of this node, else of the nearest node that has more than min_partial of them, or -1."""
    node = m.sc[SC_NODE]
    slab = get_partial_node(m, st, cache, node)
    if slab >= 0 or gfp & GFP_THISNODE:
        return slab
    highest = request_zone(m, gfp)
    at = node * ZONELIST_STRIDE
    last = node
    while m.zonelist[at] >= 0:
        zone = m.zonelist[at] * ZONE_STRIDE
        at += 1
        if m.zone[zone + Z_NODE] == last or m.zone[zone + Z_INDEX] > highest:
            continue
        last = m.zone[zone + Z_NODE]
        if st.node[node_row(m, cache, last) + KN_NR_PARTIAL] > st.cache[cache * CACHE_STRIDE + KC_MIN_PARTIAL]:
            slab = get_partial_node(m, st, cache, last)
            if slab >= 0:
                return slab
    return -1


@leaf
def freeze_slab(m, slab):
    """Everything that is free in the slab becomes the CPU's; the first free object."""
    first = slab_freelist(m, slab)
    objects = slab_objects(m, slab)
    set_slab_freelist(m, slab, END)
    set_slab_counts(m, slab, objects, objects, 1)
    return first


@cold
def alloc_single(m, st, cache, slab):
    """An object of a debug cache, whose slabs are never a CPU's; one that has more to give stays first on its node's list.

    Models: alloc_single_from_partial(), alloc_single_from_new_slab()."""
    n = slab_freelist(m, slab)
    set_slab_freelist(m, slab, next_free(st, slab, n))
    set_next_free(st, slab, n, ALLOCATED)
    inuse = slab_inuse(m, slab) + 1
    objects = slab_objects(m, slab)
    set_slab_counts(m, slab, inuse, objects, 0)
    if inuse < objects:
        add_partial(m, st, cache, slab, 0)
    return (slab << PAGE_SHIFT) + n * st.cache[cache * CACHE_STRIDE + KC_SIZE]


@kernel
def slab_alloc(m, st, cache, gfp):
    """The CPU's freelist is empty: find a slab, make it the CPU's, take its first object. The object's address, or -ENOMEM."""
    cpu = cpu_row(m, cache, m.sc[SC_CPU])
    slab = st.cpu[cpu + CPU_SLAB]
    first = END
    if slab >= 0 and slab_freelist(m, slab) != END:
        first = freeze_slab(m, slab)
    else:
        st.cpu[cpu + CPU_SLAB] = -1
        if slab >= 0:
            set_slab_counts(m, slab, slab_inuse(m, slab), slab_objects(m, slab), 0)
        slab = st.cpu[cpu + CPU_PARTIAL]
        if slab >= 0:
            st.cpu[cpu + CPU_PARTIAL] = chain_next(m, slab)
            set_chain_next(m, slab, -1)
        else:
            slab = get_partial(m, st, cache, gfp)
        if slab < 0:
            slab = allocate_slab(m, st, cache, gfp)
            if slab < 0:
                return slab
            old = st.cpu[cpu + CPU_SLAB]
            if old >= 0:  # reclaim for this very slab allocated from the cache
                freelist = st.cpu[cpu + CPU_FREELIST]
                st.cpu[cpu + CPU_SLAB] = -1
                st.cpu[cpu + CPU_FREELIST] = END
                deactivate_slab(m, st, old, freelist)
        if st.cache[cache * CACHE_STRIDE + KC_FLAGS] & SLAB_DEBUG_FLAGS:
            return alloc_single(m, st, cache, slab)
        first = freeze_slab(m, slab)
        st.cpu[cpu + CPU_SLAB] = slab
    st.cpu[cpu + CPU_FREELIST] = next_free(st, slab, first)
    set_next_free(st, slab, first, ALLOCATED)
    return (slab << PAGE_SHIFT) + first * st.cache[cache * CACHE_STRIDE + KC_SIZE]


@kernel
def alloc(m, st, cache, gfp):
    """An object: from the CPU's freelist, else by slab_alloc()."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] == 0:
        return -EINVAL
    cpu = cpu_row(m, cache, m.sc[SC_CPU])
    first = st.cpu[cpu + CPU_FREELIST]
    if first == END:
        return slab_alloc(m, st, cache, gfp)
    slab = st.cpu[cpu + CPU_SLAB]
    st.cpu[cpu + CPU_FREELIST] = next_free(st, slab, first)
    set_next_free(st, slab, first, ALLOCATED)
    return (slab << PAGE_SHIFT) + first * st.cache[cache * CACHE_STRIDE + KC_SIZE]


@kernel
def slab_free(m, st, cache, slab, n):
    """Free an object of a slab that is not this CPU's: onto the slab's own freelist; a slab that was full or is empty now changes lists."""
    prior = slab_freelist(m, slab)
    inuse = slab_inuse(m, slab) - 1
    frozen = slab_frozen(m, slab)
    set_next_free(st, slab, n, prior)
    set_slab_freelist(m, slab, n)
    set_slab_counts(m, slab, inuse, slab_objects(m, slab), frozen)
    if frozen or (inuse != 0 and prior != END):
        return 0
    has_cpu_partial = st.cache[cache * CACHE_STRIDE + KC_HAS_CPU_PARTIAL]
    if has_cpu_partial and prior == END:
        return put_cpu_partial(m, st, cache, slab, 1)
    if prior != END and page_test(m, slab, PG_WORKINGSET) == 0:
        return 0  # on some CPU's partial list, where empty slabs stay
    if inuse == 0 and may_discard(m, st, cache, slab):
        if prior != END:
            remove_partial(m, st, cache, slab)
        discard_slab(m, st, cache, slab)
    elif prior == END:
        add_partial(m, st, cache, slab, 1)
    return 0


@kernel
def free(m, st, obj):
    """Give an object back; -EINVAL, and nothing changes, if obj is not the address of an allocated one."""
    at = allocated_object(m, st, obj)
    if at < 0:
        return -EINVAL
    slab, n = at >> OBJECT_BITS, at & OBJECT_MASK
    cache = page_mapping(m, slab)
    cpu = cpu_row(m, cache, m.sc[SC_CPU])
    if st.cpu[cpu + CPU_SLAB] != slab:
        return slab_free(m, st, cache, slab, n)
    set_next_free(st, slab, n, st.cpu[cpu + CPU_FREELIST])
    st.cpu[cpu + CPU_FREELIST] = n
    return 0


SLUB = SlabAllocator(
    name="slub",
    summary="slabs of one size, one a CPU at work, partial ones on lists of CPUs and nodes",
    models="mm/slub.c, mm/slab_common.c",
    left_out="checks of debug caches, pfmemalloc, RCU-delayed frees",
    level="L3",
    params=Params,
    new_state=new_state,
    create=create,
    alloc=alloc,
    free=free,
    shrink=shrink,
    destroy=destroy,
    stat=stat,
    slab_after=slab_after,
    slab_stat=slab_stat,
    check=check,
)
