"""What slabinfo shows of a cache, and the invariants of SLUB's state.

Models: mm/slub.c get_slabinfo(), count_partial(). Left out: the estimate for lists of more than 10000 slabs (the count is exact here).
"""

from mmlab.kernels.jit import kernel
from mmlab.model.const import (
    EINVAL, SLAB_STAT_ACTIVE_OBJS, SLAB_STAT_NUM_OBJS, SLAB_STAT_NUM_SLABS, SLAB_STAT_OBJPERSLAB, SLAB_STAT_OBJSIZE, SLAB_STAT_PAGESPERSLAB,
)
from mmlab.model.page import PG_SLAB, PG_WORKINGSET, page_mapping, page_next, page_order, page_test
from mmlab.model.rows import NR_CACHES, SC_MAX_PFN, SC_NR_CPUS, SC_NR_NODES
from mmlab.model.slabinfo import (
    SLAB_LIST_CPU, SLAB_LIST_CPU_PARTIAL, SLAB_OF_CPU_FREE, SLAB_OF_INUSE, SLAB_OF_OBJECTS, SLAB_STAT_ALIGN, SLAB_STAT_CPU_PARTIAL,
    SLAB_STAT_CPU_PARTIAL_SLABS, SLAB_STAT_INUSE, SLAB_STAT_LIVE_OBJS, SLAB_STAT_MIN_OBJECTS, SLAB_STAT_MIN_ORDER, SLAB_STAT_MIN_PARTIAL,
    SLAB_STAT_NR_PARTIAL, SLAB_STAT_OBJECT_SIZE, SLAB_STAT_OFFSET, SLAB_STAT_ORDER,
)
from mmlab_linux.slab_allocator.rows import (
    ALLOCATED, CACHE_STRIDE, CPU_FREELIST, CPU_PARTIAL, CPU_SLAB, END, KC_ALIGN, KC_CPU_PARTIAL, KC_CPU_PARTIAL_SLABS, KC_INUSE,
    KC_MIN_OBJECTS, KC_MIN_ORDER, KC_MIN_PARTIAL, KC_OBJECT_SIZE, KC_OBJECTS, KC_OFFSET, KC_ORDER, KC_SIZE, KN_NR_PARTIAL, KN_NR_SLABS,
    KN_TOTAL_OBJECTS, chain_next, cpu_row, next_free, node_row, partial_head, slab_freelist, slab_frozen, slab_inuse, slab_objects,
)

BAD_NODE_SLAB, BAD_NR_PARTIAL, BAD_FREELIST, BAD_CPU_PARTIAL, BAD_CPU_SLAB, BAD_NR_SLABS, BAD_TOTAL_OBJECTS = 1, 2, 3, 4, 5, 6, 7


@kernel
def sum_nodes(m, st, cache, field):
    """A KN_* counter over all nodes."""
    total = 0
    for node in range(m.sc[SC_NR_NODES]):
        total += st.node[node_row(m, cache, node) + field]
    return total


@kernel
def free_on_nodes(m, st, cache):
    """Free objects of the slabs on nodes' partial lists: all that slabinfo takes for free."""
    free = 0
    for node in range(m.sc[SC_NR_NODES]):
        head = partial_head(m, cache, node)
        slab = page_next(m, head)
        while slab != head:
            free += slab_objects(m, slab) - slab_inuse(m, slab)
            slab = page_next(m, slab)
    return free


@kernel
def chain_length(st, slab, first):
    """Objects on a freelist that begins at object `first` of a slab; -1 for a list that is damaged."""
    length = 0
    while first != END:
        if first == ALLOCATED or length > 32767:
            return -1
        length += 1
        first = next_free(st, slab, first)
    return length


@kernel
def live_objects(m, st, cache):
    """Objects that callers hold."""
    live = sum_nodes(m, st, cache, KN_TOTAL_OBJECTS) - free_on_nodes(m, st, cache)
    for cpu in range(m.sc[SC_NR_CPUS]):
        row = cpu_row(m, cache, cpu)
        slab = st.cpu[row + CPU_SLAB]
        if slab >= 0:
            live -= slab_objects(m, slab) - slab_inuse(m, slab) + chain_length(st, slab, st.cpu[row + CPU_FREELIST])
        slab = st.cpu[row + CPU_PARTIAL]
        while slab >= 0:
            live -= slab_objects(m, slab) - slab_inuse(m, slab)
            slab = chain_next(m, slab)
    return live


@kernel
def common_stat(m, st, cache, what):
    """What every allocator of these rows has: counts of slabs and objects, and the geometry of an object and a slab; -EINVAL for the rest."""
    row = cache * CACHE_STRIDE
    if what == SLAB_STAT_NUM_OBJS:
        return sum_nodes(m, st, cache, KN_TOTAL_OBJECTS)
    if what == SLAB_STAT_OBJSIZE:
        return st.cache[row + KC_SIZE]
    if what == SLAB_STAT_OBJPERSLAB:
        return st.cache[row + KC_OBJECTS]
    if what == SLAB_STAT_PAGESPERSLAB:
        return 1 << st.cache[row + KC_ORDER]
    if what == SLAB_STAT_NUM_SLABS:
        return sum_nodes(m, st, cache, KN_NR_SLABS)
    if what == SLAB_STAT_OBJECT_SIZE:
        return st.cache[row + KC_OBJECT_SIZE]
    if what == SLAB_STAT_ALIGN:
        return st.cache[row + KC_ALIGN]
    return st.cache[row + KC_ORDER] if what == SLAB_STAT_ORDER else -EINVAL


@kernel
def stat(m, st, cache, what):
    """A column of slabinfo or another value (SLAB_STAT_*); -EINVAL for a cache that does not exist."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] == 0:
        return -EINVAL
    row = cache * CACHE_STRIDE
    if what == SLAB_STAT_ACTIVE_OBJS:
        return sum_nodes(m, st, cache, KN_TOTAL_OBJECTS) - free_on_nodes(m, st, cache)
    if what == SLAB_STAT_LIVE_OBJS:
        return live_objects(m, st, cache)
    if what == SLAB_STAT_NR_PARTIAL:
        return sum_nodes(m, st, cache, KN_NR_PARTIAL)
    if what == SLAB_STAT_MIN_PARTIAL:
        return st.cache[row + KC_MIN_PARTIAL]
    if what == SLAB_STAT_CPU_PARTIAL_SLABS:
        return st.cache[row + KC_CPU_PARTIAL_SLABS]
    if what == SLAB_STAT_INUSE:
        return st.cache[row + KC_INUSE]
    if what == SLAB_STAT_OFFSET:
        return st.cache[row + KC_OFFSET]
    if what == SLAB_STAT_MIN_ORDER:
        return st.cache[row + KC_MIN_ORDER]
    if what == SLAB_STAT_MIN_OBJECTS:
        return st.cache[row + KC_MIN_OBJECTS]
    if what == SLAB_STAT_CPU_PARTIAL:
        return st.cache[row + KC_CPU_PARTIAL]
    return common_stat(m, st, cache, what)


@kernel
def slab_after(m, st, cache, kind, owner, slab):
    """Walk a list of slabs: the one behind `slab` (-1: the first), -1 at the end."""
    if kind == SLAB_LIST_CPU:
        return st.cpu[cpu_row(m, cache, owner) + CPU_SLAB] if slab < 0 else -1
    if kind == SLAB_LIST_CPU_PARTIAL:
        return st.cpu[cpu_row(m, cache, owner) + CPU_PARTIAL] if slab < 0 else chain_next(m, slab)
    head = partial_head(m, cache, owner)
    after = page_next(m, head if slab < 0 else slab)
    return -1 if after == head else after


@kernel
def slab_stat(m, st, slab, what):
    """A value of one slab (SLAB_OF_*); -EINVAL for another."""
    if what == SLAB_OF_INUSE:
        return slab_inuse(m, slab)
    if what == SLAB_OF_OBJECTS:
        return slab_objects(m, slab)
    if what == SLAB_OF_CPU_FREE:
        return chain_length(st, slab, cpu_freelist_of(m, st, slab))
    return -EINVAL


@kernel
def check_freelists(m, st, slab, cpu_freelist):
    """0 if the slab's own list has objects - inuse entries and these and the CPU's are all objects that are not allocated."""
    own = chain_length(st, slab, slab_freelist(m, slab))
    of_cpu = chain_length(st, slab, cpu_freelist)
    if of_cpu < 0 or own != slab_objects(m, slab) - slab_inuse(m, slab):
        return BAD_FREELIST
    free = 0
    for n in range(slab_objects(m, slab)):
        if next_free(st, slab, n) != ALLOCATED:
            free += 1
    return 0 if free == own + of_cpu else BAD_FREELIST


@kernel
def check_cache(m, st, cache):
    """The lists of one cache."""
    for node in range(m.sc[SC_NR_NODES]):
        head = partial_head(m, cache, node)
        length = 0
        slab = page_next(m, head)
        while slab != head:
            length += 1
            if page_mapping(m, slab) != cache or page_test(m, slab, PG_WORKINGSET) == 0:
                return BAD_NODE_SLAB
            if slab_frozen(m, slab) or slab_freelist(m, slab) == END:
                return BAD_NODE_SLAB
            slab = page_next(m, slab)
        if length != st.node[node_row(m, cache, node) + KN_NR_PARTIAL]:
            return BAD_NR_PARTIAL
    for cpu in range(m.sc[SC_NR_CPUS]):
        row = cpu_row(m, cache, cpu)
        slab = st.cpu[row + CPU_PARTIAL]
        while slab >= 0:
            if page_mapping(m, slab) != cache or page_test(m, slab, PG_WORKINGSET) or slab_frozen(m, slab) or slab_freelist(m, slab) == END:
                return BAD_CPU_PARTIAL
            slab = chain_next(m, slab)
        slab = st.cpu[row + CPU_SLAB]
        if slab < 0:
            if st.cpu[row + CPU_FREELIST] != END:
                return BAD_CPU_SLAB
        elif page_mapping(m, slab) != cache or page_test(m, slab, PG_WORKINGSET) or slab_frozen(m, slab) == 0:
            return BAD_CPU_SLAB
    return 0


@kernel
def cpu_freelist_of(m, st, slab):
    """What some CPU has of this slab; END if it is no CPU's."""
    for cpu in range(m.sc[SC_NR_CPUS]):
        row = cpu_row(m, page_mapping(m, slab), cpu)
        if st.cpu[row + CPU_SLAB] == slab:
            return st.cpu[row + CPU_FREELIST]
    return END


@kernel
def check(m, st):
    """BAD_*, or 0: lists, flags, freelists against what is allocated, and the counters against every slab in memory."""
    slabs = 0
    objects = 0
    for cache in range(NR_CACHES):
        if st.cache[cache * CACHE_STRIDE + KC_SIZE]:
            code = check_cache(m, st, cache)
            if code:
                return code
        slabs += sum_nodes(m, st, cache, KN_NR_SLABS)
        objects += sum_nodes(m, st, cache, KN_TOTAL_OBJECTS)
    pfn = 0
    while pfn < m.sc[SC_MAX_PFN]:
        if page_test(m, pfn, PG_SLAB):
            slabs -= 1
            objects -= slab_objects(m, pfn)
            code = check_freelists(m, st, pfn, cpu_freelist_of(m, st, pfn))
            if code:
                return code
            pfn += 1 << page_order(m, pfn)
        else:
            pfn += 1
    if slabs != 0:
        return BAD_NR_SLABS
    return BAD_TOTAL_OBJECTS if objects != 0 else 0
