"""sheaves: SLUB behind arrays of objects: a CPU takes and gives back whole sheaves, a node keeps full and empty ones in its barn.

A CPU has a main and a spare sheaf. Allocation pops the main one; when it is empty the spare one takes its place, or a full one from the
barn, or it is filled from SLUB. Freeing pushes; when the main sheaf is full the spare one takes its place if it has room, else the full one
goes to the barn for an empty one. The barn keeps at most ten of each; what it cannot take is flushed to SLUB. An object of another node
goes to SLUB directly.
Models: mm/slub.c of Linux 6.18 and later: alloc_from_pcs(), __pcs_replace_empty_main(), free_to_pcs(), __pcs_replace_full_main(),
barn_replace_empty_sheaf(), barn_replace_full_sheaf(), calculate_sheaf_capacity(). Left out: the sheaf for kfree_rcu(), prefilled sheaves,
what slub leaves out; that every cache has sheaves is from after 6.18, where they are asked for by cache.
Cost: O(1), O(capacity) where a sheaf is filled or flushed. Memory: 512 bytes a sheaf, 22 a cache, one byte a possible object.
"""

from __future__ import annotations

import attrs
import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import page_node
from mmlab.model.const import EBUSY, EINVAL, PAGE_SHIFT, PAGE_SIZE
from mmlab.model.layout import reserve
from mmlab.model.page import PG_SLAB, page_folio, page_mapping, page_test
from mmlab.model.rows import NR_CACHES, SC_CPU, SC_MAX_PFN, SC_NODE, SC_NR_CPUS, SC_NR_NODES
from mmlab.model.slabinfo import SLAB_STAT_LIVE_OBJS
from mmlab_linux.slab_allocator import slub
from mmlab_linux.slab_allocator.rows import ALLOCATED, CACHE_STRIDE, KC_SIZE, OBJECT_BITS, OBJECT_MASK, SLOTS_SHIFT, allocated_object, object_number, slab_objects
from mmlab_linux.slab_allocator.shrink import destroy as slub_destroy
from mmlab_linux.slab_allocator.shrink import shrink as slub_shrink
from mmlab_linux.slab_allocator.slub import SLUB
from mmlab_linux.slab_allocator.slub import alloc as slub_alloc
from mmlab_linux.slab_allocator.slub import check as slub_check
from mmlab_linux.slab_allocator.slub import free as slub_free
from mmlab_linux.slab_allocator.slub import stat as slub_stat

SHEAF_STRIDE = 64  # how many objects, then the objects
MAX_CAPACITY = SHEAF_STRIDE - 1
MAX_SHEAVES = 10  # of each kind in a barn
BARN_STRIDE = 2 + 2 * MAX_SHEAVES  # full and empty ones: how many; then their numbers
BAD_HELD, BAD_SHEAF = 20, 21


@attrs.frozen
class Params(slub.Params):
    """slub's, and sheaf_capacity: objects a sheaf holds, 0: by the object's size."""

    cpu_partial: bool = False
    sheaf_capacity: int = attrs.field(default=0, validator=[attrs.validators.ge(0), attrs.validators.le(MAX_CAPACITY)])


def new_state(params, machine):
    """slub's arrays. sheaf: all sheaves, SHEAF_STRIDE each: by cache two a CPU, then what its barns may keep. pcs: by cache and CPU the numbers
    of the main and the spare sheaf, 0 before the first use. barn: BARN_STRIDE a cache and node. unused: sheaves of a cache that are in no
    barn: how many, then numbers. held: uint8, 1 for an object (as in next_free) that lies in a sheaf."""
    sizes = machine.sizes
    sheaves = sheaves_of(sizes.nr_cpus, sizes.nr_nodes)
    return {
        **slub.new_state(params, machine), "sheaf": reserve(NR_CACHES * sheaves * SHEAF_STRIDE, "int64"),
        "pcs": np.zeros(NR_CACHES * sizes.nr_cpus * 2, np.int64), "barn": np.zeros(NR_CACHES * sizes.nr_nodes * BARN_STRIDE, np.int64),
        "unused": np.zeros(NR_CACHES * (sheaves + 1), np.int64), "held": reserve(sizes.nr_frames << SLOTS_SHIFT, "uint8"),
    }  # fmt: skip


@leaf
def nr_sheaves(nr_cpus, nr_nodes):
    """Sheaves of a cache, one more than there can be: number 0 is no sheaf."""
    return 2 * nr_cpus + 2 * MAX_SHEAVES * nr_nodes + 2


def sheaves_of(nr_cpus: int, nr_nodes: int) -> int:
    """nr_sheaves() for Python."""
    return 2 * nr_cpus + 2 * MAX_SHEAVES * nr_nodes + 2


@leaf
def sheaf_at(m, cache, number):
    """Where a cache's sheaf lies in st.sheaf."""
    return (cache * nr_sheaves(m.sc[SC_NR_CPUS], m.sc[SC_NR_NODES]) + number) * SHEAF_STRIDE


@leaf
def pcs_at(m, cache, cpu):
    """Where the CPU's main and spare sheaf stand in st.pcs."""
    return (cache * m.sc[SC_NR_CPUS] + cpu) * 2


@leaf
def barn_at(m, cache, node):
    """Where the node's barn lies in st.barn."""
    return (cache * m.sc[SC_NR_NODES] + node) * BARN_STRIDE


@leaf
def capacity(st, cache):
    """Objects that a sheaf of the cache holds."""
    if st.sheaf_capacity[0]:
        return st.sheaf_capacity[0]
    size = st.cache[cache * CACHE_STRIDE + KC_SIZE]
    if size >= PAGE_SIZE:
        return 4
    if size >= 1024:
        return 12
    return 26 if size >= 256 else 60


@leaf
def held_at(st, slab, obj, cache):
    """Where an object's mark lies in st.held."""
    return (slab << SLOTS_SHIFT) + object_number(st, cache, obj - (slab << PAGE_SHIFT))


@leaf
def push(m, st, cache, sheaf, slab, obj):
    """An object into a sheaf that has room."""
    st.sheaf[sheaf] += 1
    st.sheaf[sheaf + st.sheaf[sheaf]] = obj
    st.held[held_at(st, slab, obj, cache)] = 1


@leaf
def pop(m, st, cache, sheaf):
    """The object that came last into a sheaf that is not empty."""
    obj = st.sheaf[sheaf + st.sheaf[sheaf]]
    st.sheaf[sheaf] -= 1
    st.held[held_at(st, page_folio(m, obj >> PAGE_SHIFT), obj, cache)] = 0
    return obj


@kernel
def flush_sheaf(m, st, cache, sheaf):
    """All of a sheaf's objects go back to SLUB."""
    while st.sheaf[sheaf] > 0:
        slub_free(m, st, pop(m, st, cache, sheaf))
    return 0


@leaf
def barn_get(st, barn, full):
    """A full (1) or empty (0) sheaf from the barn, or 0."""
    kind = 0 if full else 1
    if st.barn[barn + kind] == 0:
        return 0
    st.barn[barn + kind] -= 1
    return st.barn[barn + 2 + kind * MAX_SHEAVES + st.barn[barn + kind]]


@leaf
def barn_put(st, barn, full, number):
    """1 if the barn takes the sheaf, 0 if it has ten of the kind."""
    kind = 0 if full else 1
    if st.barn[barn + kind] == MAX_SHEAVES:
        return 0
    st.barn[barn + 2 + kind * MAX_SHEAVES + st.barn[barn + kind]] = number
    st.barn[barn + kind] += 1
    return 1


@leaf
def new_sheaf(m, st, cache):
    """A sheaf that is in no barn and no CPU's, empty."""
    sheaves = nr_sheaves(m.sc[SC_NR_CPUS], m.sc[SC_NR_NODES])
    base = cache * (sheaves + 1)
    if st.unused[base] > 0:
        st.unused[base] -= 1
        return st.unused[base + 1 + st.unused[base]]
    st.sheaf[cache * sheaves * SHEAF_STRIDE] += 1  # sheaf 0 counts those that were ever made
    return st.sheaf[cache * sheaves * SHEAF_STRIDE]


@leaf
def drop_sheaf(m, st, cache, number):
    """An empty sheaf is not needed any more."""
    base = cache * (nr_sheaves(m.sc[SC_NR_CPUS], m.sc[SC_NR_NODES]) + 1)
    st.unused[base + 1 + st.unused[base]] = number
    st.unused[base] += 1


@leaf
def pcs_init(m, st, cache, pcs):
    """The CPU's first use of the cache: two empty sheaves."""
    if st.pcs[pcs] == 0:
        st.pcs[pcs] = new_sheaf(m, st, cache)
        st.pcs[pcs + 1] = new_sheaf(m, st, cache)


@kernel
def replace_empty_main(m, st, cache, pcs, gfp):
    """The main sheaf is empty: another one that is not takes its place, or it is filled. Its number, or -errno of SLUB."""
    main, spare = st.pcs[pcs], st.pcs[pcs + 1]
    if st.sheaf[sheaf_at(m, cache, spare)] > 0:
        st.pcs[pcs], st.pcs[pcs + 1] = spare, main
        return spare
    barn = barn_at(m, cache, m.sc[SC_NODE])
    full = barn_get(st, barn, 1)
    if full:
        st.pcs[pcs] = full
        if barn_put(st, barn, 0, main) == 0:
            drop_sheaf(m, st, cache, main)
        return full
    sheaf = sheaf_at(m, cache, main)
    error = 0
    while st.sheaf[sheaf] < capacity(st, cache):
        obj = slub_alloc(m, st, cache, gfp)
        if obj < 0:
            error = obj
            break
        push(m, st, cache, sheaf, page_folio(m, obj >> PAGE_SHIFT), obj)
    return main if st.sheaf[sheaf] > 0 else error


@kernel
def replace_full_main(m, st, cache, pcs):
    """The main sheaf is full: one with room takes its place. Its number."""
    main, spare = st.pcs[pcs], st.pcs[pcs + 1]
    if st.sheaf[sheaf_at(m, cache, spare)] < capacity(st, cache):
        st.pcs[pcs], st.pcs[pcs + 1] = spare, main
        return spare
    barn = barn_at(m, cache, m.sc[SC_NODE])
    if st.barn[barn] < MAX_SHEAVES:
        empty = barn_get(st, barn, 0)
        if empty == 0:
            empty = new_sheaf(m, st, cache)
        barn_put(st, barn, 1, main)
        st.pcs[pcs] = empty
        return empty
    flush_sheaf(m, st, cache, sheaf_at(m, cache, spare))
    st.pcs[pcs], st.pcs[pcs + 1] = spare, main
    return spare


@kernel
def alloc(m, st, cache, gfp):
    """An object: from the CPU's main sheaf."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] == 0:
        return -EINVAL
    pcs = pcs_at(m, cache, m.sc[SC_CPU])
    pcs_init(m, st, cache, pcs)
    main = st.pcs[pcs]
    if st.sheaf[sheaf_at(m, cache, main)] == 0:
        main = replace_empty_main(m, st, cache, pcs, gfp)
        if main < 0:
            return main
    return pop(m, st, cache, sheaf_at(m, cache, main))


@kernel
def free(m, st, obj):
    """Give an object back; -EINVAL, and nothing changes, if obj is not the address of an allocated one."""
    at = allocated_object(m, st, obj)
    if at < 0:
        return -EINVAL
    slab, n = at >> OBJECT_BITS, at & OBJECT_MASK
    if st.held[(slab << SLOTS_SHIFT) + n]:
        return -EINVAL
    cache = page_mapping(m, slab)
    if page_node(m, slab) != m.sc[SC_NODE]:
        return slub_free(m, st, obj)
    pcs = pcs_at(m, cache, m.sc[SC_CPU])
    pcs_init(m, st, cache, pcs)
    main = st.pcs[pcs]
    if st.sheaf[sheaf_at(m, cache, main)] == capacity(st, cache):
        main = replace_full_main(m, st, cache, pcs)
    push(m, st, cache, sheaf_at(m, cache, main), slab, obj)
    return 0


@kernel
def in_sheaves(m, st, cache):
    """Objects that lie in sheaves of the cache."""
    objects = 0
    for number in range(1, nr_sheaves(m.sc[SC_NR_CPUS], m.sc[SC_NR_NODES])):
        objects += st.sheaf[sheaf_at(m, cache, number)]
    return objects


@kernel
def flush_all_sheaves(m, st, cache):
    """Every CPU's sheaves and the barns are emptied; the empty sheaves stay."""
    for number in range(1, nr_sheaves(m.sc[SC_NR_CPUS], m.sc[SC_NR_NODES])):
        flush_sheaf(m, st, cache, sheaf_at(m, cache, number))
    for node in range(m.sc[SC_NR_NODES]):
        barn = barn_at(m, cache, node)
        while st.barn[barn] > 0:
            number = barn_get(st, barn, 1)
            if barn_put(st, barn, 0, number) == 0:
                drop_sheaf(m, st, cache, number)
    return 0


@kernel
def shrink(m, st, cache):
    """Empty the sheaves, then SLUB's lists. Returns pages freed there at the end."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] == 0:
        return -EINVAL
    flush_all_sheaves(m, st, cache)
    return slub_shrink(m, st, cache)


@kernel
def stat(m, st, cache, what):
    """As SLUB; objects in sheaves count as active, as in Linux, but not as live."""
    value = slub_stat(m, st, cache, what)
    return value - in_sheaves(m, st, cache) if what == SLAB_STAT_LIVE_OBJS and value >= 0 else value


@kernel
def destroy(m, st, cache):
    """Free the cache's slabs and forget it; -EBUSY, and nothing changes, while objects are in use."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * CACHE_STRIDE + KC_SIZE] == 0:
        return -EINVAL
    if stat(m, st, cache, SLAB_STAT_LIVE_OBJS) > 0:
        return -EBUSY
    flush_all_sheaves(m, st, cache)
    return slub_destroy(m, st, cache)


@kernel
def check(m, st):
    """SLUB's invariants; what sheaves hold is allocated to SLUB, marked, and within their capacity."""
    code = slub_check(m, st)
    if code:
        return code
    held = 0
    for cache in range(NR_CACHES):
        if st.cache[cache * CACHE_STRIDE + KC_SIZE] == 0:
            continue
        for number in range(1, nr_sheaves(m.sc[SC_NR_CPUS], m.sc[SC_NR_NODES])):
            sheaf = sheaf_at(m, cache, number)
            if st.sheaf[sheaf] < 0 or st.sheaf[sheaf] > capacity(st, cache):
                return BAD_SHEAF
            for at in range(sheaf + 1, sheaf + 1 + st.sheaf[sheaf]):
                slab = page_folio(m, st.sheaf[at] >> PAGE_SHIFT)
                place = held_at(st, slab, st.sheaf[at], cache)
                if page_mapping(m, slab) != cache or st.held[place] == 0 or np.int64(st.next_free[place]) != ALLOCATED:
                    return BAD_HELD
                held += 1
    for pfn in range(m.sc[SC_MAX_PFN]):
        if page_test(m, pfn, PG_SLAB):
            for n in range(slab_objects(m, pfn)):
                held -= np.int64(st.held[(pfn << SLOTS_SHIFT) + n])
    return BAD_HELD if held else 0


SHEAVES = attrs.evolve(
    SLUB, name="sheaves", summary="arrays of objects on every CPU and in a barn a node, SLUB behind them", models="mm/slub.c of Linux 6.18+",
    left_out="kfree_rcu's sheaf, prefilled sheaves, what slub leaves out", level="L0", params=Params, new_state=new_state, alloc=alloc, free=free,
    shrink=shrink, destroy=destroy, stat=stat, check=check,
)  # fmt: skip
