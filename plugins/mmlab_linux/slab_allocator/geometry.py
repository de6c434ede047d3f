"""Sizes of a cache: alignment, place of the free pointer, order and objects of its slabs, limits of its partial lists.

Models: mm/slab_common.c calculate_alignment(), mm/slub.c calculate_sizes(), calculate_order(), set_cpu_partial().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import EINVAL, MAX_ORDER, PAGE_SHIFT, PAGE_SIZE
from mmlab.model.gfp import GFP_COMP, GFP_DMA, GFP_DMA32, GFP_RECLAIMABLE
from mmlab.model.rows import SC_NR_CPUS
from mmlab.model.slabinfo import (
    SLAB_CACHE_DMA, SLAB_CACHE_DMA32, SLAB_CTOR, SLAB_DEBUG_FLAGS, SLAB_FREEPTR_INSIDE, SLAB_HWCACHE_ALIGN, SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU,
)
from mmlab_linux.slab_allocator.rows import (
    CACHE_STRIDE, KC_ALIGN, KC_ALLOCFLAGS, KC_CPU_PARTIAL, KC_CPU_PARTIAL_SLABS, KC_FLAGS, KC_HAS_CPU_PARTIAL, KC_INUSE, KC_MIN_OBJECTS,
    KC_MIN_ORDER, KC_MIN_PARTIAL, KC_OBJECT_SIZE, KC_OBJECTS, KC_OFFSET, KC_ORDER, KC_RECIPROCAL, KC_SIZE, MAX_OBJS_PER_SLAB,
    reciprocal_value,
)

CACHE_LINE = 64
WORD = 8
TRACK = 32  # struct track; STORE_USER keeps two


@leaf
def align_up(value, align):
    """value rounded up to a multiple of align."""
    return (value + align - 1) // align * align


@leaf
def fls(value):
    """Number of the highest bit set, counted from 1; 0 for 0."""
    bits = 0
    while value >> bits:
        bits += 1
    return bits


@leaf
def get_order(size):
    """The smallest order whose block holds size bytes."""
    return fls((size - 1) >> PAGE_SHIFT)


@kernel
def calculate_alignment(flags, align, size):
    """HWCACHE_ALIGN asks for a cache line, for small objects for the part of one that holds the object."""
    if flags & SLAB_HWCACHE_ALIGN:
        line = CACHE_LINE
        while size <= line // 2:
            line //= 2
        align = max(align, line)
    return align_up(max(align, WORD), WORD)


@kernel
def calculate_order(size, min_objects, min_order, max_order):
    """Order of a slab: at least min_objects, and at most 1/16 of it wasted (1/8 .. 1/2 if that fails); -EINVAL: the object is too big."""
    most = max((PAGE_SIZE << max_order) // size, 1)
    start = max(min_order, get_order(min(min_objects, most) * size))
    if (PAGE_SIZE << start) // size > MAX_OBJS_PER_SLAB:
        return get_order(size * MAX_OBJS_PER_SLAB) - 1
    fraction = 16
    while fraction > 1:
        for order in range(start, max_order + 1):
            slab = PAGE_SIZE << order
            if slab % size <= slab // fraction:
                return order
        fraction //= 2
    order = get_order(size)
    return order if order <= MAX_ORDER else -EINVAL


@leaf
def cpu_partial_objects(size):
    """Free objects that a CPU's partial list is meant to hold."""
    if size >= PAGE_SIZE:
        return 6
    if size >= 1024:
        return 24
    if size >= 256:
        return 52
    return 120


@kernel
def calculate_sizes(m, st, cache, object_size, align, flags):
    """Fill the cache's row. 0, or -EINVAL: no order fits."""
    align = calculate_alignment(flags, align, object_size)
    size = align_up(object_size, WORD)
    if flags & SLAB_RED_ZONE and size == object_size:
        size += WORD
    inuse = size
    outside = flags & (SLAB_POISON | SLAB_CTOR)
    if flags & SLAB_TYPESAFE_BY_RCU and flags & SLAB_FREEPTR_INSIDE == 0:
        outside = 1
    if flags & SLAB_RED_ZONE and object_size < WORD:
        outside = 1
    offset = object_size // 2 // WORD * WORD
    if outside:
        offset = size
        size += WORD
    if flags & SLAB_STORE_USER:
        size += 2 * TRACK
    if flags & SLAB_RED_ZONE:
        size += WORD + align_up(WORD, align)
    size = align_up(size, align)
    min_objects = st.slab_min_objects[0]
    if min_objects == 0:
        min_objects = 4 * (fls(m.sc[SC_NR_CPUS]) + 1)
    order = calculate_order(size, min_objects, st.slab_min_order[0], st.slab_max_order[0])
    if order < 0:
        return order
    row = cache * CACHE_STRIDE
    st.cache[row + KC_OBJECT_SIZE] = object_size
    st.cache[row + KC_ALIGN] = align
    st.cache[row + KC_INUSE] = inuse
    st.cache[row + KC_OFFSET] = offset
    st.cache[row + KC_ORDER] = order
    st.cache[row + KC_OBJECTS] = (PAGE_SIZE << order) // size
    st.cache[row + KC_MIN_ORDER] = get_order(size)
    st.cache[row + KC_MIN_OBJECTS] = (PAGE_SIZE << get_order(size)) // size
    st.cache[row + KC_MIN_PARTIAL] = min(10, max(5, (fls(size) - 1) // 2))
    has_cpu_partial = 1 if st.cpu_partial[0] and flags & SLAB_DEBUG_FLAGS == 0 else 0
    objects = cpu_partial_objects(size) if has_cpu_partial else 0
    st.cache[row + KC_HAS_CPU_PARTIAL] = has_cpu_partial
    st.cache[row + KC_CPU_PARTIAL] = objects
    st.cache[row + KC_CPU_PARTIAL_SLABS] = (2 * objects + st.cache[row + KC_OBJECTS] - 1) // st.cache[row + KC_OBJECTS]
    st.cache[row + KC_FLAGS] = flags
    allocflags = GFP_COMP
    if flags & SLAB_CACHE_DMA:
        allocflags |= GFP_DMA
    if flags & SLAB_CACHE_DMA32:
        allocflags |= GFP_DMA32
    if flags & SLAB_RECLAIM_ACCOUNT:
        allocflags |= GFP_RECLAIMABLE
    st.cache[row + KC_ALLOCFLAGS] = allocflags
    st.cache[row + KC_SIZE] = size
    st.cache[row + KC_RECIPROCAL] = reciprocal_value(size)
    return 0
