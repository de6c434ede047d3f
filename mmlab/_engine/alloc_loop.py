"""The loop over an allocator stream: allocations and frees straight to the core's services, with background work on the simulated clock.

A word is op | cpu << 4 | (node + 1) << 14 | gfp << 24 | arg << 48; arg is an order, or the number of a slab cache. `where` tells who has what:
0 nobody; pfn << 2 | 1 a frame of a block; address << 2 | 2 a slab object; (pfn << 4 | order) << 2 | 3 a large kmalloc.
"""

from mmlab._engine.loop import STOP_DONE, STOP_SAMPLE
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.prefetch import LOOK_AHEAD, prefetch, prefetch_page
from mmlab.kernels.services import alloc_pages, background, free_pages, kmem_cache_alloc, kmem_cache_free
from mmlab.model.const import PAGE_SHIFT
from mmlab.mm.slab_common import free_large_kmalloc, kmalloc_large
from mmlab.model.rows import N_FIRST_CPU, N_NR_CPUS, NODE_STRIDE, SC_CPU, SC_EVENT, SC_NEXT_EVENT_NS, SC_NEXT_SAMPLE_NS, SC_NODE, SC_NOW_NS, SC_NR_NODES, SC_TASK

EV_ALLOC_PAGES, EV_FREE_PAGES, EV_ALLOC_OBJECT, EV_KMALLOC_LARGE, EV_FREE_OBJECT = range(5)
CPU_SHIFT, NODE_SHIFT, GFP_SHIFT, ARG_SHIFT = 4, 14, 24, 48
FRAME, OBJECT, LARGE = 1, 2, 3
# counts: allocations that failed; frees of what nobody has; allocations to an id that still had something (its free is missing)
NR_FAILED, NR_UNKNOWN_FREES, NR_MISSING_FREES = range(3)
NR_COUNTS = 3


@leaf
def node_of_cpu(m, cpu):
    """The node that a CPU belongs to."""
    for node in range(m.sc[SC_NR_NODES]):
        first = m.node[node * NODE_STRIDE + N_FIRST_CPU]
        if first >= 0 and first <= cpu and cpu < first + m.node[node * NODE_STRIDE + N_NR_CPUS]:
            return node
    return 0


@leaf
def one_block(where, at, order):
    """1 if the ids are the frames of one aligned block of this order, in their order."""
    if where[at] & 3 != FRAME or (where[at] >> 2) & ((1 << order) - 1):
        return 0
    for i in range(1, 1 << order):
        if where[at + i] != where[at] + (i << 2):
            return 0
    return 1


@kernel
def free_ids(m, where, at, order):
    """Free the block of these ids, or the frames of it that somebody has, one by one. Returns how many frames were free already."""
    if one_block(where, at, order):
        free_pages(m, where[at] >> 2, order)
        for i in range(1 << order):
            where[at + i] = 0
        return 0
    unknown = 0
    for i in range(1 << order):
        if where[at + i] == 0:
            unknown += 1
            continue
        free_pages(m, where[at + i] >> 2, 0)
        where[at + i] = 0
    return unknown


@leaf
def free_object(m, where, at):
    """Free a slab object or a large kmalloc."""
    held = where[at]
    where[at] = 0
    if held & 3 == OBJECT:
        kmem_cache_free(m, held >> 2)
    else:
        free_large_kmalloc(m, held >> 6, (held >> 2) & 15)


@kernel
def run_allocations(m, words, ids, times, where, counts, ns_per_event, start, stop):
    """Run the events [start, stop): the index of the first event not done; m.sc[SC_EVENT] says whether it stopped for a sample.

    words, ids: int64, one an event (ids count frames first, then objects); times: the same, or one element and then every event takes
    ns_per_event; where, counts: see above, read and written.
    """
    m.sc[SC_TASK] = -1
    m.sc[SC_EVENT] = STOP_DONE
    for i in range(start, stop):
        if i + 2 * LOOK_AHEAD < stop:
            prefetch(where, ids[i + 2 * LOOK_AHEAD])
            held = where[ids[i + LOOK_AHEAD]]
            if held & 3 == OBJECT:
                prefetch_page(m, held >> 2 + PAGE_SHIFT)
            elif held & 3 == FRAME:
                prefetch_page(m, held >> 2)
        word = words[i]
        at = ids[i]
        kind = word & 15
        cpu = (word >> CPU_SHIFT) & 1023
        if cpu != m.sc[SC_CPU]:
            m.sc[SC_CPU] = cpu
            m.sc[SC_NODE] = node_of_cpu(m, cpu)
        gfp = (word >> GFP_SHIFT) & 0xFFFFFF
        arg = word >> ARG_SHIFT
        if kind == EV_FREE_PAGES:
            unknown = free_ids(m, where, at, arg)
            if unknown:
                counts[NR_UNKNOWN_FREES] += 1
        elif kind == EV_ALLOC_PAGES:
            still = 0
            for j in range(at, at + (1 << arg)):
                still |= where[j]
            if still:
                counts[NR_MISSING_FREES] += 1
                free_ids(m, where, at, arg)
            pfn = alloc_pages(m, gfp, arg, ((word >> NODE_SHIFT) & 1023) - 1)
            if pfn < 0:
                counts[NR_FAILED] += 1
            else:
                for j in range(1 << arg):
                    where[at + j] = (pfn + j) << 2 | FRAME
        elif kind == EV_FREE_OBJECT:
            if where[at] == 0:
                counts[NR_UNKNOWN_FREES] += 1
            else:
                free_object(m, where, at)
        else:
            if where[at]:
                counts[NR_MISSING_FREES] += 1
                free_object(m, where, at)
            if kind == EV_ALLOC_OBJECT:
                got = kmem_cache_alloc(m, arg, gfp)
                held = got << 2 | OBJECT
            else:
                got = kmalloc_large(m, gfp, arg)
                held = (got << 4 | arg) << 2 | LARGE
            if got < 0:
                counts[NR_FAILED] += 1
            else:
                where[at] = held
        if len(times) > 1:
            m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], times[i])
        else:
            m.sc[SC_NOW_NS] += ns_per_event
        if m.sc[SC_NOW_NS] >= m.sc[SC_NEXT_EVENT_NS]:
            if m.sc[SC_NOW_NS] >= m.sc[SC_NEXT_SAMPLE_NS]:
                m.sc[SC_EVENT] = STOP_SAMPLE
                return i + 1
            background(m)
    return stop
