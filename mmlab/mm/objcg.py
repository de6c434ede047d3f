"""Kernel objects that count as their task's memory: what cgroups are charged for beside pages.

A row keeps its object as `obj << 16 | cgroup`, so that the charge goes back to whom it was laid on.
Models: mm/memcontrol.c __memcg_slab_post_alloc_hook(), __memcg_slab_free_hook(), obj_cgroup_charge(), obj_full_size(). Left out: the stock of
bytes and pages that a CPU keeps charged. O(1) beside the slab allocator's part.
"""

from mmlab.kernels.jit import cold, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.ops import slab_allocator_stat
from mmlab.kernels.services import kmem_cache_alloc, kmem_cache_free, try_charge
from mmlab.kernels.zones import page_node
from mmlab.mm.page_counter import current_memcg, page_counter_charge
from mmlab.model.const import ENOMEM, PAGE_SHIFT, SLAB_STAT_OBJSIZE
from mmlab.model.gfp import GFP_KERNEL
from mmlab.model.rows import MC_KMEM_BYTES, MC_KMEM_PAGES, MEMCG_STRIDE, SC_NR_MEMCGS

MEMCG_BITS = 16
NOTE_BYTES = 8  # beside each object: to whom it is charged


@leaf
def charge_object(m, memcg, size_bytes):
    """A slab object (negative: freed) of the cgroup; whole pages of them are charged. 0, or -ENOMEM."""
    base = memcg * MEMCG_STRIDE
    pages = (m.memcg[base + MC_KMEM_BYTES] + size_bytes + 4095) >> 12
    more = pages - m.memcg[base + MC_KMEM_PAGES]
    if more > 0 and try_charge(m, memcg, GFP_KERNEL, more) < 0:
        return -ENOMEM
    if more < 0:
        page_counter_charge(m, memcg, more)
    m.memcg[base + MC_KMEM_BYTES] += size_bytes
    m.memcg[base + MC_KMEM_PAGES] += more
    return 0


@cold
def _charge_new(m, cache, obj):
    """Lay an object on the running task's cgroup: the handle, or -ENOMEM and the object is gone."""
    memcg = current_memcg(m)
    if memcg and charge_object(m, memcg, slab_allocator_stat(m, cache, SLAB_STAT_OBJSIZE) + NOTE_BYTES) < 0:
        kmem_cache_free(m, obj)
        return -ENOMEM
    return obj << MEMCG_BITS | memcg


@cold
def _uncharge(m, cache, memcg):
    charge_object(m, memcg, -(slab_allocator_stat(m, cache, SLAB_STAT_OBJSIZE) + NOTE_BYTES))
    return 0


@leaf
def object_node(m, handle):
    """The NUMA node of its slab."""
    return page_node(m, handle >> MEMCG_BITS + PAGE_SHIFT)


@leaf
def object_memcg(handle):
    """The cgroup that is charged for it."""
    return handle & ((1 << MEMCG_BITS) - 1)


@leaf
def alloc_object(m, cache):
    """An object of a cache that counts (SLAB_ACCOUNT, or asked for with __GFP_ACCOUNT): its handle > 0, or -ENOMEM."""
    obj = kmem_cache_alloc(m, cache, GFP_KERNEL)
    if obj < 0:
        return -ENOMEM
    if unlikely(m.sc[SC_NR_MEMCGS] > 1):
        return _charge_new(m, cache, obj)
    return obj << MEMCG_BITS


@leaf
def free_object(m, cache, handle):
    """Give it back."""
    kmem_cache_free(m, handle >> MEMCG_BITS)
    if unlikely(object_memcg(handle)):
        _uncharge(m, cache, object_memcg(handle))
