"""slab: the allocator before SLUB: per-CPU arrays of free objects, one shared by a node's CPUs, alien arrays for other nodes' objects.

Allocation pops the CPU's array; an empty one is refilled by half its limit from the shared array, else from partial slabs, else from free
ones, else from a new slab. Freeing pushes; a full array gives the older half to the shared array, or back to the slabs. Objects of another
node wait in an alien array until twelve are there. Free slabs stay until a node has more free objects than its limit.
Models: mm/slab.c (Linux 6.1): cache_alloc_refill(), cache_flusharray(), free_block(), __cache_free_alien(), transfer_objects(),
calculate_slab_order(), enable_cpucache(), __kmem_cache_shrink(). Left out: the reaper that trims arrays every two seconds, free lists outside
of slabs (they lie in an object that is free), colouring, reclaim of dma caches' arrays, what slub leaves out.
Cost: O(1), O(batch) where an array is refilled or flushed. Memory: 1 KiB a cache and CPU, 4 KiB a cache and node, 1 KiB a slab page.
"""

from __future__ import annotations

import attrs
import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add_tail, list_del
from mmlab.kernels.zones import page_node
from mmlab.model.const import (
    EBUSY, EINVAL, MAX_ORDER, PAGE_SHIFT, PAGE_SIZE, SLAB_STAT_ACTIVE_OBJS,
)
from mmlab.model.gfp import GFP_COMP, GFP_DMA, GFP_DMA32, GFP_RECLAIMABLE
from mmlab.model.layout import reserve
from mmlab.model.page import PG_SLAB, page_folio, page_mapping, page_next, page_order, page_prev, page_test
from mmlab.model.rows import NR_CACHES, SC_CPU, SC_MAX_PFN, SC_NODE, SC_NR_CPUS, SC_NR_NODES, SC_TOTALRAM
from mmlab.model.slabinfo import (
    KMALLOC_MAX_SIZE, SLAB_CACHE_DMA, SLAB_CACHE_DMA32, SLAB_FLAGS_ALL, SLAB_RECLAIM_ACCOUNT, SLAB_STAT_LIVE_OBJS,
)
from mmlab.policies import SlabAllocator
from mmlab_linux.slab_allocator.geometry import align_up, calculate_alignment
from mmlab_linux.slab_allocator.partial import add_partial, discard_slab, remove_partial
from mmlab_linux.slab_allocator.rows import (
    ALLOCATED, CACHE_STRIDE, END, KC_ALIGN, KC_ALLOCFLAGS, KC_FLAGS, KC_MIN_OBJECTS, KC_MIN_ORDER, KC_OBJECTS, KC_OBJECT_SIZE, KC_ORDER,
    KC_RECIPROCAL, KC_SIZE, KN_NR_SLABS, KN_TOTAL_OBJECTS, MAX_OBJS_PER_SLAB, NODE_STRIDE, OBJECT_BITS, OBJECT_MASK, SLOTS_SHIFT,
    allocated_object, next_free, object_number, partial_head, reciprocal_value, set_next_free, set_slab_counts, set_slab_freelist,
    slab_freelist, slab_inuse, slab_objects,
)
from mmlab_linux.slab_allocator.slub import allocate_slab
from mmlab_linux.slab_allocator.stat import chain_length, common_stat, sum_nodes

CACHED = 0xFFFD  # an object that lies in an array, beside END and ALLOCATED
# arrays: how many objects, then the objects, the one that came last at the end
AC_STRIDE, AC_TOUCHED, AC_FIRST = 128, 1, 2
SHARED_STRIDE, SHARED_FIRST = 512, 1
ALIEN_STRIDE, ALIEN_FIRST, ALIEN_LIMIT = 16, 1, 12
BATCHREFILL_LIMIT = 16
N3_STRIDE, N3_FREE_OBJECTS, N3_FREE_SLABS = 2, 0, 1  # of a cache and node: free objects of its slabs, first of its free slabs (-1)
BAD_FREELIST, BAD_ARRAY, BAD_FREE_OBJECTS, BAD_PARTIAL, BAD_COUNT = 1, 2, 3, 4, 5


@attrs.frozen
class Params:
    """freelist_random: as slub's."""

    freelist_random: bool = False


def new_state(params, machine):
    """cache, node, next_free, order, nr_shuffled: as slub's. ac: by cache and CPU; shared: by cache and node; alien: by cache, node of the CPU and
    node of the object; n3: by cache and node (N3_*)."""
    sizes = machine.sizes
    n3 = np.zeros(NR_CACHES * sizes.nr_nodes * N3_STRIDE, np.int64)
    n3[N3_FREE_SLABS::N3_STRIDE] = -1
    return {
        "cache": np.zeros(NR_CACHES * CACHE_STRIDE, np.int64), "node": np.zeros(NR_CACHES * sizes.nr_nodes * NODE_STRIDE, np.int64), "n3": n3,
        "next_free": reserve(sizes.nr_frames << SLOTS_SHIFT, "uint16"), "order": np.zeros(32768, np.int64), "nr_shuffled": np.zeros(NR_CACHES, np.int64),
        "ac": reserve(NR_CACHES * sizes.nr_cpus * AC_STRIDE, "int64"), "shared": reserve(NR_CACHES * sizes.nr_nodes * SHARED_STRIDE, "int64"),
        "alien": reserve(NR_CACHES * sizes.nr_nodes * sizes.nr_nodes * ALIEN_STRIDE, "int64"),
    }  # fmt: skip


@leaf
def exists(st, cache):
    """1 if there is such a cache."""
    return 1 if cache >= 0 and cache < NR_CACHES and st.cache[cache * CACHE_STRIDE + KC_SIZE] != 0 else 0


@leaf
def ac_at(m, cache, cpu):
    """Where a CPU's array lies in st.ac."""
    return (cache * m.sc[SC_NR_CPUS] + cpu) * AC_STRIDE


@leaf
def shared_at(m, cache, node):
    """Where a node's shared array lies in st.shared."""
    return (cache * m.sc[SC_NR_NODES] + node) * SHARED_STRIDE


@leaf
def alien_at(m, cache, node, of_node):
    """Where the array of a node's CPUs for another node's objects lies in st.alien."""
    return ((cache * m.sc[SC_NR_NODES] + node) * m.sc[SC_NR_NODES] + of_node) * ALIEN_STRIDE


@leaf
def n3_at(m, cache, node):
    """Where the node's row lies in st.n3."""
    return (cache * m.sc[SC_NR_NODES] + node) * N3_STRIDE


@leaf
def array_limit(st, cache):
    """Objects of a CPU's array, by size."""
    size = st.cache[cache * CACHE_STRIDE + KC_SIZE]
    if size > 131072:
        return 1
    if size > PAGE_SIZE:
        return 8
    if size > 1024:
        return 24
    return 54 if size > 256 else 120


@leaf
def batch_count(st, cache):
    """Objects that move at once."""
    return (array_limit(st, cache) + 1) // 2


@leaf
def shared_limit(m, st, cache):
    """Objects of a node's shared array: there is none for large objects, or for one CPU."""
    return 8 * batch_count(st, cache) if m.sc[SC_NR_CPUS] > 1 and st.cache[cache * CACHE_STRIDE + KC_SIZE] <= PAGE_SIZE else 0


@leaf
def free_limit(m, st, cache):
    """Free objects of a node from which on free slabs go back."""
    return (1 + m.sc[SC_NR_CPUS] // m.sc[SC_NR_NODES]) * batch_count(st, cache) + st.cache[cache * CACHE_STRIDE + KC_OBJECTS]


@kernel
def create(m, st, cache, size, align, flags):
    """A cache of objects of `size` bytes: the smallest order that wastes at most an eighth, but not above 1 (0 below 32 MiB)."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] != 0:
        return -EINVAL
    if size <= 0 or size > KMALLOC_MAX_SIZE or flags & ~SLAB_FLAGS_ALL or align < 0 or align > KMALLOC_MAX_SIZE or align & (align - 1):
        return -EINVAL
    row = cache * CACHE_STRIDE
    align = calculate_alignment(flags, align, size)
    padded = align_up(size, align)
    highest = 1 if m.sc[SC_TOTALRAM] > 8192 else 0
    order = 0
    while order <= MAX_ORDER:
        slab = PAGE_SIZE << order
        if slab >= padded and (flags & SLAB_RECLAIM_ACCOUNT or order >= highest or slab % padded * 8 <= slab):
            break
        order += 1
    if order > MAX_ORDER or (PAGE_SIZE << order) // padded > MAX_OBJS_PER_SLAB:
        return -EINVAL
    st.cache[row + KC_OBJECT_SIZE] = size
    st.cache[row + KC_ALIGN] = align
    st.cache[row + KC_ORDER] = st.cache[row + KC_MIN_ORDER] = order
    st.cache[row + KC_OBJECTS] = st.cache[row + KC_MIN_OBJECTS] = (PAGE_SIZE << order) // padded
    st.cache[row + KC_FLAGS] = flags
    zone = (GFP_DMA if flags & SLAB_CACHE_DMA else 0) | (GFP_DMA32 if flags & SLAB_CACHE_DMA32 else 0)
    st.cache[row + KC_ALLOCFLAGS] = GFP_COMP | zone | (GFP_RECLAIMABLE if flags & SLAB_RECLAIM_ACCOUNT else 0)
    st.cache[row + KC_SIZE] = padded
    st.cache[row + KC_RECIPROCAL] = reciprocal_value(padded)
    return 0


@leaf
def free_slabs_add(m, st, n3, slab):
    """A slab becomes the first of its node's free ones."""
    first = st.n3[n3 + N3_FREE_SLABS]
    if first >= 0:
        list_add_tail(m, first, slab)  # a ring: in front of the first
    else:
        list_del(m, slab)  # a ring of one: linked to itself
    st.n3[n3 + N3_FREE_SLABS] = slab


@leaf
def free_slabs_del(m, st, n3, slab):
    """A slab leaves its node's free ones."""
    after = page_next(m, slab)
    if st.n3[n3 + N3_FREE_SLABS] == slab:
        st.n3[n3 + N3_FREE_SLABS] = after if after != slab else -1
    list_del(m, slab)


@kernel
def unlist(m, st, cache, slab):
    """Take a slab off the list that its count of objects puts it on (full ones are on none)."""
    inuse = slab_inuse(m, slab)
    if inuse == 0:
        free_slabs_del(m, st, n3_at(m, cache, page_node(m, slab)), slab)
    elif inuse < slab_objects(m, slab):
        remove_partial(m, st, cache, slab)
    return 0


@kernel
def alloc_block(m, st, cache, slab, ac, batch):
    """Up to `batch` objects of a slab that is on no list go into the array; then the slab is listed again. Returns how many are left to get."""
    n3 = n3_at(m, cache, page_node(m, slab))
    size = st.cache[cache * CACHE_STRIDE + KC_SIZE]
    inuse = slab_inuse(m, slab)
    first = slab_freelist(m, slab)
    while batch > 0 and first != END:
        st.ac[ac + AC_FIRST + st.ac[ac]] = (slab << PAGE_SHIFT) + first * size
        st.ac[ac] += 1
        after = next_free(st, slab, first)
        set_next_free(st, slab, first, CACHED)
        first = after
        inuse += 1
        batch -= 1
        st.n3[n3 + N3_FREE_OBJECTS] -= 1
    set_slab_freelist(m, slab, first)
    set_slab_counts(m, slab, inuse, slab_objects(m, slab), 0)
    if first != END:
        add_partial(m, st, cache, slab, 0)
    return batch


@kernel
def cache_alloc_refill(m, st, cache, ac, gfp):
    """The CPU's array is empty: fill it by a batch. 0, or -errno if there is nothing at all."""
    node = m.sc[SC_NODE]
    batch = batch_count(st, cache)
    if st.ac[ac + AC_TOUCHED] == 0:
        batch = min(batch, BATCHREFILL_LIMIT)
    shared = shared_at(m, cache, node)
    if st.shared[shared] > 0:
        count = min(batch, st.shared[shared])
        st.shared[shared] -= count
        for i in range(count):
            st.ac[ac + AC_FIRST + i] = st.shared[shared + SHARED_FIRST + st.shared[shared] + i]
        st.ac[ac] = count
        return 0
    head = partial_head(m, cache, node)
    while batch > 0:
        slab = page_next(m, head)
        if slab == head:
            slab = st.n3[n3_at(m, cache, node) + N3_FREE_SLABS]
            if slab < 0:
                break
        unlist(m, st, cache, slab)
        batch = alloc_block(m, st, cache, slab, ac, batch)
    if st.ac[ac] == 0:
        slab = allocate_slab(m, st, cache, gfp)
        if slab < 0:
            return slab
        st.n3[n3_at(m, cache, page_node(m, slab)) + N3_FREE_OBJECTS] += slab_objects(m, slab)
        alloc_block(m, st, cache, slab, ac, min(batch, array_limit(st, cache) - st.ac[ac]))
    return 0


@kernel
def alloc(m, st, cache, gfp):
    """An object: from the CPU's array."""
    if exists(st, cache) == 0:
        return -EINVAL
    ac = ac_at(m, cache, m.sc[SC_CPU])
    if st.ac[ac] == 0:
        error = cache_alloc_refill(m, st, cache, ac, gfp)
        if error < 0:
            return error
    st.ac[ac + AC_TOUCHED] = 1
    st.ac[ac] -= 1
    obj = st.ac[ac + AC_FIRST + st.ac[ac]]
    slab = page_folio(m, obj >> PAGE_SHIFT)
    set_next_free(st, slab, object_number(st, cache, obj - (slab << PAGE_SHIFT)), ALLOCATED)
    return obj


@kernel
def put_obj(m, st, cache, obj):
    """An object of an array goes back to its slab."""
    slab = page_folio(m, obj >> PAGE_SHIFT)
    n3 = n3_at(m, cache, page_node(m, slab))
    n = object_number(st, cache, obj - (slab << PAGE_SHIFT))
    unlist(m, st, cache, slab)
    set_next_free(st, slab, n, slab_freelist(m, slab))
    set_slab_freelist(m, slab, n)
    set_slab_counts(m, slab, slab_inuse(m, slab) - 1, slab_objects(m, slab), 0)
    st.n3[n3 + N3_FREE_OBJECTS] += 1
    if slab_inuse(m, slab) == 0:
        free_slabs_add(m, st, n3, slab)
    else:
        add_partial(m, st, cache, slab, 1)
    return 0


@kernel
def trim_free_slabs(m, st, cache, node, limit):
    """Give back the free slabs that are oldest, while the node has more free objects than `limit`. Returns pages freed."""
    n3 = n3_at(m, cache, node)
    pages = 0
    while st.n3[n3 + N3_FREE_OBJECTS] > limit and st.n3[n3 + N3_FREE_SLABS] >= 0:
        slab = page_prev(m, st.n3[n3 + N3_FREE_SLABS])
        free_slabs_del(m, st, n3, slab)
        st.n3[n3 + N3_FREE_OBJECTS] -= slab_objects(m, slab)
        pages += discard_slab(m, st, cache, slab)
    return pages


@kernel
def flush_to_node(m, st, cache, node, obj):
    """An object goes to the node's shared array, or to its slab if that is full. Returns 1 if it went to its slab."""
    shared = shared_at(m, cache, node)
    if st.shared[shared] < shared_limit(m, st, cache):
        st.shared[shared + SHARED_FIRST + st.shared[shared]] = obj
        st.shared[shared] += 1
        return 0
    put_obj(m, st, cache, obj)
    return 1


@kernel
def cache_flusharray(m, st, cache, ac):
    """The CPU's array is full: its oldest objects go to the shared array as far as they fit, or, if none fits, to their slabs."""
    node = m.sc[SC_NODE]
    shared = shared_at(m, cache, node)
    count = batch_count(st, cache)
    room = shared_limit(m, st, cache) - st.shared[shared]
    if room > 0:
        count = min(count, room)
    for i in range(count):
        flush_to_node(m, st, cache, node, st.ac[ac + AC_FIRST + i])
    st.ac[ac] -= count
    for i in range(st.ac[ac]):
        st.ac[ac + AC_FIRST + i] = st.ac[ac + AC_FIRST + count + i]
    if room <= 0:
        trim_free_slabs(m, st, cache, node, free_limit(m, st, cache))
    return 0


@kernel
def drain_alien(m, st, cache, node, of_node):
    """The objects of another node that wait here go there."""
    alien = alien_at(m, cache, node, of_node)
    for i in range(st.alien[alien]):
        flush_to_node(m, st, cache, of_node, st.alien[alien + ALIEN_FIRST + i])
    st.alien[alien] = 0
    return trim_free_slabs(m, st, cache, of_node, free_limit(m, st, cache))


@kernel
def free(m, st, obj):
    """Give an object back; -EINVAL, and nothing changes, if obj is not the address of an allocated one."""
    at = allocated_object(m, st, obj)
    if at < 0:
        return -EINVAL
    slab, n = at >> OBJECT_BITS, at & OBJECT_MASK
    cache = page_mapping(m, slab)
    node = page_node(m, slab)
    if node != m.sc[SC_NODE]:
        alien = alien_at(m, cache, m.sc[SC_NODE], node)
        if st.alien[alien] == ALIEN_LIMIT:
            drain_alien(m, st, cache, m.sc[SC_NODE], node)
        st.alien[alien + ALIEN_FIRST + st.alien[alien]] = obj
        st.alien[alien] += 1
    else:
        ac = ac_at(m, cache, m.sc[SC_CPU])
        if st.ac[ac] == array_limit(st, cache):
            cache_flusharray(m, st, cache, ac)
        st.ac[ac + AC_FIRST + st.ac[ac]] = obj
        st.ac[ac] += 1
    set_next_free(st, slab, n, CACHED)
    return 0


@kernel
def drain_arrays(m, st, cache):
    """Every object that lies in an array goes back to its slab."""
    for cpu in range(m.sc[SC_NR_CPUS]):
        ac = ac_at(m, cache, cpu)
        for i in range(st.ac[ac]):
            put_obj(m, st, cache, st.ac[ac + AC_FIRST + i])
        st.ac[ac] = st.ac[ac + AC_TOUCHED] = 0
    for node in range(m.sc[SC_NR_NODES]):
        shared = shared_at(m, cache, node)
        for i in range(st.shared[shared]):
            put_obj(m, st, cache, st.shared[shared + SHARED_FIRST + i])
        st.shared[shared] = 0
        for of_node in range(m.sc[SC_NR_NODES]):
            alien = alien_at(m, cache, node, of_node)
            for i in range(st.alien[alien]):
                put_obj(m, st, cache, st.alien[alien + ALIEN_FIRST + i])
            st.alien[alien] = 0
    return 0


@kernel
def shrink(m, st, cache):
    """Empty the arrays and give back every free slab. Returns pages freed."""
    if exists(st, cache) == 0:
        return -EINVAL
    drain_arrays(m, st, cache)
    pages = 0
    for node in range(m.sc[SC_NR_NODES]):
        pages += trim_free_slabs(m, st, cache, node, -1)
    return pages


@kernel
def in_arrays(m, st, cache):
    """Objects that lie in arrays of the cache."""
    objects = 0
    for cpu in range(m.sc[SC_NR_CPUS]):
        objects += st.ac[ac_at(m, cache, cpu)]
    for node in range(m.sc[SC_NR_NODES]):
        objects += st.shared[shared_at(m, cache, node)]
        for of_node in range(m.sc[SC_NR_NODES]):
            objects += st.alien[alien_at(m, cache, node, of_node)]
    return objects


@kernel
def free_in_slabs(m, st, cache):
    """Free objects of the cache's slabs."""
    objects = 0
    for node in range(m.sc[SC_NR_NODES]):
        objects += st.n3[n3_at(m, cache, node) + N3_FREE_OBJECTS]
    return objects


@kernel
def stat(m, st, cache, what):
    """A column of slabinfo or another value (SLAB_STAT_*); -EINVAL for a cache that does not exist or a value that SLAB does not have."""
    if exists(st, cache) == 0:
        return -EINVAL
    if what == SLAB_STAT_ACTIVE_OBJS:
        return sum_nodes(m, st, cache, KN_TOTAL_OBJECTS) - free_in_slabs(m, st, cache)
    if what == SLAB_STAT_LIVE_OBJS:
        return sum_nodes(m, st, cache, KN_TOTAL_OBJECTS) - free_in_slabs(m, st, cache) - in_arrays(m, st, cache)
    return common_stat(m, st, cache, what)


@kernel
def destroy(m, st, cache):
    """Free the cache's slabs and forget it; -EBUSY, and nothing changes, while objects are in use."""
    if exists(st, cache) == 0:
        return -EINVAL
    if stat(m, st, cache, SLAB_STAT_LIVE_OBJS) > 0:
        return -EBUSY
    shrink(m, st, cache)
    st.cache[cache * CACHE_STRIDE + KC_SIZE] = 0
    return 0


@kernel
def check_lists(m, st, cache):
    """The partial and free slabs of a cache are what their counts of objects say."""
    for node in range(m.sc[SC_NR_NODES]):
        head = partial_head(m, cache, node)
        slab = page_next(m, head)
        free = 0
        while slab != head:
            if page_mapping(m, slab) != cache or slab_inuse(m, slab) == 0 or slab_inuse(m, slab) == slab_objects(m, slab):
                return BAD_PARTIAL
            free += slab_objects(m, slab) - slab_inuse(m, slab)
            slab = page_next(m, slab)
        first = st.n3[n3_at(m, cache, node) + N3_FREE_SLABS]
        slab = first
        while slab >= 0:
            if slab_inuse(m, slab):
                return BAD_PARTIAL
            free += slab_objects(m, slab)
            slab = page_next(m, slab) if page_next(m, slab) != first else -1
        if free != st.n3[n3_at(m, cache, node) + N3_FREE_OBJECTS]:
            return BAD_FREE_OBJECTS
    return 0


@kernel
def check(m, st):
    """BAD_*, or 0: lists, freelists and arrays against the marks of every object, and the counters against every slab in memory."""
    slabs = 0
    cached = 0
    for cache in range(NR_CACHES):
        slabs += sum_nodes(m, st, cache, KN_NR_SLABS)
        cached += in_arrays(m, st, cache)
        if exists(st, cache):
            code = check_lists(m, st, cache)
            if code:
                return code
    pfn = 0
    while pfn < m.sc[SC_MAX_PFN]:
        if page_test(m, pfn, PG_SLAB) == 0:
            pfn += 1
            continue
        slabs -= 1
        used = 0
        for n in range(slab_objects(m, pfn)):
            if next_free(st, pfn, n) == CACHED:
                cached -= 1
                used += 1
            elif next_free(st, pfn, n) == ALLOCATED:
                used += 1
        if used != slab_inuse(m, pfn) or chain_length(st, pfn, slab_freelist(m, pfn)) != slab_objects(m, pfn) - used:
            return BAD_FREELIST
        pfn += 1 << page_order(m, pfn)
    if cached:
        return BAD_ARRAY
    return BAD_COUNT if slabs else 0


SLAB = SlabAllocator(
    name="slab", summary="SLAB: arrays of free objects by CPU, shared by a node, alien for other nodes", models="mm/slab.c of Linux 6.1",
    left_out="the reaper, free lists outside of slabs, colouring", params=Params, new_state=new_state, create=create, alloc=alloc, free=free,
    shrink=shrink, destroy=destroy, stat=stat, check=check,
)  # fmt: skip
