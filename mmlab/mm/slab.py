"""Kernel objects: the services kmem_cache_alloc() and kmem_cache_free(), the caches that a booted kernel has, and the lines of slabinfo.

Models: mm/slab_common.c kmem_cache_create(), create_kmalloc_caches(), kmalloc_slab(), and the sizes that Linux 6.12 on x86-64 gives.
Merging, and kmalloc of more than 8 KiB: mm/slab_common.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mmlab.errors import MmlabError
from mmlab.model import rows as r
from mmlab.model.const import (
    SLAB_STAT_ACTIVE_OBJS, SLAB_STAT_NUM_OBJS, SLAB_STAT_NUM_SLABS, SLAB_STAT_OBJPERSLAB, SLAB_STAT_OBJSIZE, SLAB_STAT_PAGESPERSLAB,
)
from mmlab.model.slabinfo import (
    SLAB_ACCOUNT, SLAB_CACHE_DMA, SLAB_CTOR, SLAB_FREEPTR_INSIDE, SLAB_HWCACHE_ALIGN, SLAB_NO_MERGE, SLAB_PANIC, SLAB_RECLAIM_ACCOUNT,
    SLAB_TYPESAFE_BY_RCU,
)

if TYPE_CHECKING:
    from mmlab._engine.machine import Machine


@attrs.frozen
class KernelCache:
    """What Linux passes to kmem_cache_create(): size in bytes as asked, align a power of two or 0, flags SLAB_*."""

    name: str
    size: int
    align: int = 0
    flags: int = 0


_ALIGN, _RECLAIM, _ACCOUNT, _RCU, _CTOR = SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT, SLAB_ACCOUNT, SLAB_TYPESAFE_BY_RCU, SLAB_CTOR

KMALLOC_SIZES: tuple[int, ...] = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
#: prefix of the name and flags, in the order of cache numbers
KMALLOC_KINDS: tuple[tuple[str, int], ...] = (
    ("kmalloc-", SLAB_NO_MERGE), ("kmalloc-rcl-", _RECLAIM), ("kmalloc-cg-", _ACCOUNT), ("dma-kmalloc-", SLAB_CACHE_DMA),
)
KMALLOC_FIRST = 64  # cache number of kmalloc-8; then KMALLOC_SIZES for each kind
#: numbers free for allocator streams and scripts
USER_CACHES: tuple[int, ...] = (
    *range(r.CACHE_USER, KMALLOC_FIRST), *range(KMALLOC_FIRST + len(KMALLOC_KINDS) * len(KMALLOC_SIZES), r.NR_CACHES),
)  # fmt: skip


def _kmalloc_caches() -> dict[int, KernelCache]:
    caches = {}
    for kind, (prefix, flags) in enumerate(KMALLOC_KINDS):
        for i, size in enumerate(KMALLOC_SIZES):
            name = f"{size // 1024}k" if size >= 1024 else str(size)
            caches[KMALLOC_FIRST + kind * len(KMALLOC_SIZES) + i] = KernelCache(prefix + name, size, size & -size, flags)
    return caches


KERNEL_CACHES: dict[int, KernelCache] = {
    r.CACHE_VM_AREA_STRUCT: KernelCache("vm_area_struct", 176, 0, SLAB_PANIC | _ACCOUNT),
    r.CACHE_VMA_LOCK: KernelCache("vma_lock", 40, 0, SLAB_PANIC | _ACCOUNT),
    r.CACHE_MM_STRUCT: KernelCache("mm_struct", 1360, 0, _ALIGN | SLAB_PANIC | _ACCOUNT),
    r.CACHE_ANON_VMA: KernelCache("anon_vma", 96, 0, _RCU | SLAB_PANIC | _ACCOUNT | _CTOR),
    r.CACHE_ANON_VMA_CHAIN: KernelCache("anon_vma_chain", 64, 0, SLAB_PANIC | _ACCOUNT),
    r.CACHE_MAPLE_NODE: KernelCache("maple_node", 256, 256, SLAB_PANIC),
    r.CACHE_TASK_STRUCT: KernelCache("task_struct", 8392, 64, SLAB_PANIC | _ACCOUNT),
    r.CACHE_RADIX_TREE_NODE: KernelCache("radix_tree_node", 576, 0, SLAB_PANIC | _RECLAIM | _CTOR),
    r.CACHE_INODE: KernelCache("ext4_inode_cache", 1160, 0, _RECLAIM | _ACCOUNT | _CTOR),
    r.CACHE_SHMEM_INODE: KernelCache("shmem_inode_cache", 752, 0, SLAB_PANIC | _ACCOUNT | _CTOR),
    r.CACHE_PROC_INODE: KernelCache("proc_inode_cache", 696, 0, _RECLAIM | _ACCOUNT | SLAB_PANIC | _CTOR),
    r.CACHE_LSM_INODE: KernelCache("lsm_inode_cache", 88, 0, SLAB_PANIC),
    r.CACHE_SYSFS_INODE: KernelCache("inode_cache", 624, 0, _RECLAIM | SLAB_PANIC | _ACCOUNT | _CTOR),
    r.CACHE_BUFFER_HEAD: KernelCache("buffer_head", 104, 0, _RECLAIM | _ACCOUNT | SLAB_PANIC),
    r.CACHE_BIO: KernelCache("bio-192", 192, 8, _ALIGN | _RCU),
    r.CACHE_FILP: KernelCache("filp", 184, 0, _ALIGN | SLAB_PANIC | _ACCOUNT | _RCU | SLAB_FREEPTR_INSIDE),
    r.CACHE_DENTRY: KernelCache("dentry", 192, 0, _RECLAIM | SLAB_PANIC | _ACCOUNT),
    r.CACHE_PID: KernelCache("pid", 128, 64, SLAB_PANIC | _ACCOUNT | _ALIGN),
    r.CACHE_SIGHAND: KernelCache("sighand_cache", 2080, 0, _ALIGN | SLAB_PANIC | _RCU | _ACCOUNT | _CTOR),
    r.CACHE_EXTENT_STATUS: KernelCache("extent_status", 40, 0, _RECLAIM),
    r.CACHE_FILES: KernelCache("files_cache", 704, 0, _ALIGN | SLAB_PANIC | _ACCOUNT),
    **_kmalloc_caches(),
}


def kmalloc_cache(size: int, kind: int = 0) -> int:
    """Number of the kmalloc cache for `size` bytes, 1 .. 8192; kind: place in KMALLOC_KINDS. -1: too big, or no bytes at all."""
    for i, limit in enumerate(KMALLOC_SIZES):
        if 0 < size <= limit:
            return KMALLOC_FIRST + kind * len(KMALLOC_SIZES) + i
    return -1


def create_kernel_caches(machine: Machine) -> None:
    """Make every cache of KERNEL_CACHES in a booted machine. They take no memory until objects are asked for."""
    for number, cache in KERNEL_CACHES.items():
        code = machine.op("slab_allocator", "create", number, cache.size, cache.align, cache.flags)
        if code < 0:
            policy = machine.chosen["slab_allocator"].policy.name
            raise MmlabError(f"slab_allocator {policy!r}: cannot create cache {cache.name!r} (error {code})")


_COLUMNS = (SLAB_STAT_ACTIVE_OBJS, SLAB_STAT_NUM_OBJS, SLAB_STAT_OBJSIZE, SLAB_STAT_OBJPERSLAB, SLAB_STAT_PAGESPERSLAB, SLAB_STAT_NUM_SLABS)


def slabinfo_rows(machine: Machine) -> list[tuple[str, int, int, int, int, int, int, int]]:
    """(name, active_objs, num_objs, objsize, objperslab, pagesperslab, active_slabs, num_slabs) of every cache, by cache number.

    active_slabs is always num_slabs, as in Linux. A cache that nobody named is called cache-NUMBER.
    """
    lines = []
    for number in range(r.NR_CACHES):
        if machine.op("slab_allocator", "stat", number, SLAB_STAT_OBJSIZE) > 0:
            active, objects, size, per_slab, pages, slabs = (machine.op("slab_allocator", "stat", number, what) for what in _COLUMNS)
            name = KERNEL_CACHES[number].name if number in KERNEL_CACHES else machine.cache_names.get(number, f"cache-{number}")
            lines.append((name, active, objects, size, per_slab, pages, slabs, slabs))
    return lines
