"""Rows of SLUB's own state, and how a slab's struct page is used.

`st.cache` one row a cache, `st.cpu` one a cache and CPU, `st.node` one a cache and node (flat int64, `array[row * STRIDE + field]`).
`st.next_free` is uint16, 512 entries a page frame: entry `slab * 512 + n` belongs to object n of the slab and holds the number of the free
object after it, END, or ALLOCATED. Of the slab's first page: private = inuse | objects << 15 | frozen << 30, index = head of the slab's own
freelist | length of the CPU partial list from here on << 16, mapping = cache, PG_WORKINGSET = on a node's partial list.
"""

import numpy as np

from mmlab.kernels.jit import leaf
from mmlab.model.const import PAGE_SHIFT
from mmlab.model.page import PG_SLAB, page_folio, page_mapping, page_next, page_private, page_test, set_page_next, set_page_private
from mmlab.model.rows import NR_CACHES, SC_MAX_PFN, SC_NR_CPUS, SC_NR_NODES, SC_SLAB_HEADS

END, ALLOCATED = 0xFFFE, 0xFFFF
SLOTS_SHIFT = 9  # entries of next_free a page frame: the smallest object has 8 bytes
MAX_OBJS_PER_SLAB = 32767
OBJECT_BITS, OBJECT_MASK = 15, 32767  # of an object's number in allocated_object()
RECIPROCAL_SHIFT = 42  # exact for multiples of the size within the largest slab, 4 MiB

CACHE_STRIDE = 16
(
    KC_SIZE, KC_OBJECT_SIZE, KC_ALIGN, KC_INUSE, KC_OFFSET, KC_ORDER, KC_OBJECTS, KC_MIN_ORDER,
    KC_MIN_OBJECTS, KC_MIN_PARTIAL, KC_CPU_PARTIAL, KC_CPU_PARTIAL_SLABS, KC_FLAGS, KC_ALLOCFLAGS, KC_HAS_CPU_PARTIAL, KC_RECIPROCAL,
) = range(16)  # KC_SIZE 0: there is no such cache
CPU_STRIDE = 4
CPU_SLAB, CPU_FREELIST, CPU_PARTIAL = range(3)  # slabs are frame numbers, -1 none
NODE_STRIDE = 4
KN_NR_PARTIAL, KN_NR_SLABS, KN_TOTAL_OBJECTS = range(3)

_COUNT_MASK = 32767


@leaf
def cpu_row(m, cache, cpu):
    """Where the cache's row of a CPU begins in st.cpu."""
    return (cache * m.sc[SC_NR_CPUS] + cpu) * CPU_STRIDE


@leaf
def node_row(m, cache, node):
    """Where the cache's row of a node begins in st.node."""
    return (cache * m.sc[SC_NR_NODES] + node) * NODE_STRIDE


@leaf
def reciprocal_value(size):
    """What to multiply by, and shift by RECIPROCAL_SHIFT, instead of dividing by an object's size."""
    return ((1 << RECIPROCAL_SHIFT) + size - 1) // size


@leaf
def object_number(st, cache, offset):
    """Number of the object that begins at an offset of its slab; for an offset where none begins some other number."""
    return (offset * st.cache[cache * CACHE_STRIDE + KC_RECIPROCAL]) >> RECIPROCAL_SHIFT


@leaf
def partial_head(m, cache, node):
    """Head of the node's partial list."""
    return m.sc[SC_SLAB_HEADS] + node * NR_CACHES + cache


@leaf
def slab_inuse(m, slab):
    """Objects that are not on the slab's own freelist."""
    return page_private(m, slab) & _COUNT_MASK


@leaf
def slab_objects(m, slab):
    """Objects that the slab has."""
    return (page_private(m, slab) >> 15) & _COUNT_MASK


@leaf
def slab_frozen(m, slab):
    """1 while the slab is some CPU's."""
    return page_private(m, slab) >> 30


@leaf
def set_slab_counts(m, slab, inuse, objects, frozen):
    """Replace all three."""
    set_page_private(m, slab, inuse | (objects << 15) | (frozen << 30))


@leaf
def slab_freelist(m, slab):
    """First free object of the slab's own list, or END."""
    return np.int64(m.pagex[slab * 4 + 1]) & 0xFFFF


@leaf
def set_slab_freelist(m, slab, first):
    """Set it."""
    m.pagex[slab * 4 + 1] = (np.int64(m.pagex[slab * 4 + 1]) & 0xFFFF0000) | first


@leaf
def slab_length(m, slab):
    """How many slabs the CPU partial list had from this one on when it was put there."""
    return np.int64(m.pagex[slab * 4 + 1]) >> 16


@leaf
def set_slab_length(m, slab, length):
    """Set it."""
    m.pagex[slab * 4 + 1] = (np.int64(m.pagex[slab * 4 + 1]) & 0xFFFF) | (length << 16)


@leaf
def chain_next(m, slab):
    """The slab after this one on a CPU partial list (or a list of slabs to free), or -1: the last points at itself."""
    after = page_next(m, slab)
    return -1 if after == slab else after


@leaf
def set_chain_next(m, slab, after):
    """Set it; -1 for none."""
    set_page_next(m, slab, slab if after < 0 else after)


@leaf
def next_free(st, slab, n):
    """Entry of object n: the next free object, END or ALLOCATED."""
    return np.int64(st.next_free[(slab << SLOTS_SHIFT) + n])


@leaf
def allocated_object(m, st, obj):
    """The object at an address, as slab << OBJECT_BITS | its number; -1 if no allocated object begins there."""
    pfn = obj >> PAGE_SHIFT if obj >= 0 else -1
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN]:
        return -1
    slab = page_folio(m, pfn)
    if page_test(m, slab, PG_SLAB) == 0:
        return -1
    cache = page_mapping(m, slab)
    offset = obj - (slab << PAGE_SHIFT)
    n = object_number(st, cache, offset)
    if n * st.cache[cache * CACHE_STRIDE + KC_SIZE] != offset or n >= slab_objects(m, slab) or next_free(st, slab, n) != ALLOCATED:
        return -1
    return (slab << OBJECT_BITS) | n


@leaf
def set_next_free(st, slab, n, value):
    """Set it."""
    st.next_free[(slab << SLOTS_SHIFT) + n] = value
