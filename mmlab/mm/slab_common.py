"""Slab caches by name: kmem_cache_create() with the merging of equal caches, kmem_cache_destroy(), kmalloc() of any size, geometry.

Models: mm/slab_common.c kmem_cache_create_usercopy(), find_mergeable(), calculate_alignment(), kmalloc_type(), mm/slub.c
__kmem_cache_alias(), ___kmalloc_large_node(), kmem_cache_alloc_bulk(), kmem_cache_free_bulk(). The caches of a booted kernel
(mm/data/kmem_caches.txt) are candidates for merging; those that the simulation does not use itself have no slabs of their own.
Left out: slab_debug, bulk frees slab by slab. Accounting to memory cgroups: mm/objcg.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from mmlab.errors import MmlabError, NotSupported
from mmlab.kernels.jit import kernel
from mmlab.kernels.services import alloc_pages, free_pages, kmem_cache_alloc, kmem_cache_free
from mmlab.kernels.zones import page_node
from mmlab.mm.slab import KERNEL_CACHES, USER_CACHES
from mmlab.model import slabinfo as s
from mmlab.model.const import PAGE_SHIFT, SLAB_STAT_OBJPERSLAB, SLAB_STAT_OBJSIZE
from mmlab.model.gfp import GFP_ACCOUNT, GFP_COMP, GFP_DMA, GFP_KERNEL, GFP_RECLAIMABLE
from mmlab.model.vmstat import V_NR_SLAB_UNRECLAIMABLE, mod_node_state

if TYPE_CHECKING:
    from mmlab._engine.machine import Machine

BOOTED = Path(__file__).parent / "data" / "kmem_caches.txt"

FLAG_NAMES = {
    "HWCACHE_ALIGN": s.SLAB_HWCACHE_ALIGN, "RECLAIM": s.SLAB_RECLAIM_ACCOUNT, "ACCOUNT": s.SLAB_ACCOUNT, "RCU": s.SLAB_TYPESAFE_BY_RCU,
    "DMA": s.SLAB_CACHE_DMA, "DMA32": s.SLAB_CACHE_DMA32, "PANIC": s.SLAB_PANIC, "NO_MERGE": s.SLAB_NO_MERGE, "POISON": s.SLAB_POISON,
    "RED_ZONE": s.SLAB_RED_ZONE, "STORE_USER": s.SLAB_STORE_USER, "CTOR": s.SLAB_CTOR, "NONE": 0,
}
_NEVER_MERGE = s.SLAB_DEBUG_FLAGS | s.SLAB_TYPESAFE_BY_RCU | s.SLAB_NO_MERGE | s.SLAB_CTOR
_MERGE_SAME = s.SLAB_RECLAIM_ACCOUNT | s.SLAB_CACHE_DMA | s.SLAB_CACHE_DMA32 | s.SLAB_ACCOUNT
_WORD = 8

_GEOMETRY = {
    "size": SLAB_STAT_OBJSIZE, "object_size": s.SLAB_STAT_OBJECT_SIZE, "align": s.SLAB_STAT_ALIGN, "inuse": s.SLAB_STAT_INUSE,
    "offset": s.SLAB_STAT_OFFSET, "order": s.SLAB_STAT_ORDER, "objects": SLAB_STAT_OBJPERSLAB, "min_order": s.SLAB_STAT_MIN_ORDER,
    "min_objects": s.SLAB_STAT_MIN_OBJECTS, "min_partial": s.SLAB_STAT_MIN_PARTIAL, "cpu_partial": s.SLAB_STAT_CPU_PARTIAL,
    "cpu_partial_slabs": s.SLAB_STAT_CPU_PARTIAL_SLABS,
}  # fmt: skip


@kernel
def kmalloc_large(m, gfp, order):
    """A block for more than 8 KiB, straight from the page allocator: its first frame, or -ENOMEM."""
    pfn = alloc_pages(m, gfp | GFP_COMP, order, -1)
    if pfn >= 0:
        mod_node_state(m, page_node(m, pfn), V_NR_SLAB_UNRECLAIMABLE, 1 << order)
    return pfn


@kernel
def free_large_kmalloc(m, pfn, order):
    """Give such a block back."""
    mod_node_state(m, page_node(m, pfn), V_NR_SLAB_UNRECLAIMABLE, -(1 << order))
    free_pages(m, pfn, order)
    return 0


@kernel
def kmem_cache_alloc_bulk(m, objects, cache, gfp):
    """An object into each element of objects (int64): how many, or 0 if memory ran out: then none is kept."""
    for i in range(len(objects)):
        objects[i] = kmem_cache_alloc(m, cache, gfp)
        if objects[i] < 0:
            while i > 0:
                i -= 1
                kmem_cache_free(m, objects[i])
            return 0
    return len(objects)


@kernel
def kmem_cache_free_bulk(m, objects):
    """Give all objects (int64) back, the last one first: how many were none that is allocated."""
    wrong = 0
    i = len(objects)
    while i > 0:
        i -= 1
        if kmem_cache_free(m, objects[i]) < 0:
            wrong += 1
    return wrong


def kmalloc_order(size: int) -> int:
    """Order of the block that kmalloc() of more than 8 KiB takes."""
    return max(0, (size - 1 >> PAGE_SHIFT).bit_length())


def kmalloc_type(gfp: int) -> int:
    """Place in KMALLOC_KINDS of the caches that serve such a request: DMA before reclaimable before accounted."""
    if gfp & GFP_DMA:
        return 3
    if gfp & GFP_RECLAIMABLE:
        return 1
    return 2 if gfp & GFP_ACCOUNT else 0


@attrs.define
class KmemCache:
    """A cache: number in the slab slot (-1: none, a cache of the kernel that the simulation does not use), users, the largest user's
    object_size and (asked) the first one's, which set the geometry; refcount below 0 and usersize, bytes that user space may copy, keep
    others from being merged with it."""

    name: str
    number: int
    object_size: int
    align: int
    flags: int
    refcount: int = 1
    freeptr_offset: int = -1
    asked: int = 0
    usersize: int = 0


def calculate_alignment(flags: int, align: int, size: int) -> int:
    """Bytes: with HWCACHE_ALIGN a cache line, or the part of one that holds the object; at least `align` and a word."""
    if flags & s.SLAB_HWCACHE_ALIGN:
        line = 64
        while size <= line // 2:
            line //= 2
        align = max(align, line)
    return _round_up(max(align, _WORD), _WORD)


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to


def booted_caches() -> list[KmemCache]:
    """The caches of a booted kernel, oldest first."""
    numbers = {cache.name: number for number, cache in KERNEL_CACHES.items()}
    caches = []
    for line in BOOTED.read_text().splitlines():
        if not line.startswith("#"):
            name, size, align, flags, *more = line.split()
            given = dict(word.split("=") for word in more)
            caches.append(KmemCache(
                name, numbers.get(name, -1), int(size), int(align), flags_of(flags), int(given["refcount"]), int(given.get("freeptr", -1)),
                int(given.get("asked", size)), int(given.get("usersize", 0)),
            ))  # fmt: skip
    return caches


def flags_of(names: str) -> int:
    """SLAB_* flags of names joined by ``|``. Raises MmlabError for an unknown name."""
    flags = 0
    for name in names.split("|"):
        if name not in FLAG_NAMES:
            raise MmlabError(f"slab flags {names!r}: no flag {name!r} (known: {', '.join(FLAG_NAMES)})")
        flags |= FLAG_NAMES[name]
    return flags


class SlabCaches:
    """The named caches of a machine, as slab_caches has them. nomerge: the boot parameter slab_nomerge."""

    def __init__(self, machine: Machine, nomerge: bool = False):
        self.machine = machine
        self.nomerge = nomerge
        self.caches = booted_caches()

    def create(self, name: str, size: int, align: int = 0, flags: int = 0, usersize: int = 0) -> KmemCache | None:
        """kmem_cache_create_usercopy(): a new cache, or the older one that serves it as well; None if no slab can hold an object."""
        root = None if usersize else self.find_mergeable(size, align, flags)
        if root is None:
            number = self._create(size, align, flags)
            if number < 0:
                return None
            root = KmemCache(name, number, size, calculate_alignment(flags, align, size), flags, asked=size, usersize=usersize)
            self.caches.append(root)
            self.machine.cache_names[number] = name
            return root
        root.refcount += 1
        root.object_size = max(root.object_size, size)
        return root

    def find_mergeable(self, size: int, align: int, flags: int) -> KmemCache | None:
        """The newest cache whose objects are of this size, rounded up, and whose flags allow to share it."""
        if self.nomerge or flags & _NEVER_MERGE:
            return None
        align = calculate_alignment(flags, align, size)
        size = _round_up(_round_up(size, _WORD), align)
        for root in reversed(self.caches):
            if root.flags & _NEVER_MERGE or root.usersize or root.refcount < 0 or (root.flags ^ flags) & _MERGE_SAME:
                continue
            spare = self._size(root) - size
            if 0 <= spare < _WORD and self._size(root) % align == 0:
                return root
        return None

    def destroy(self, cache: KmemCache) -> None:
        """kmem_cache_destroy() by one user; the last one ends the cache. Raises MmlabError while objects are in use."""
        cache.refcount -= 1
        if cache.refcount == 0:
            if self.machine.op("slab_allocator", "destroy", cache.number) < 0:
                cache.refcount = 1
                live = self.machine.op("slab_allocator", "stat", cache.number, s.SLAB_STAT_LIVE_OBJS)
                raise MmlabError(f"slab cache {cache.name!r} cannot be destroyed: {live} objects are in use")
            self.caches.remove(cache)
            self.machine.cache_names.pop(cache.number)

    def alloc_bulk(self, cache: KmemCache, count: int, gfp: int = GFP_KERNEL) -> list[int]:
        """kmem_cache_alloc_bulk(): addresses of `count` objects, none if memory does not hold them all."""
        objects = np.zeros(count, np.int64)
        return objects[: self.machine.run(kmem_cache_alloc_bulk, objects, cache.number, gfp)].tolist()

    def free_bulk(self, objects: Sequence[int]) -> None:
        """kmem_cache_free_bulk(). Raises MmlabError, after all others were freed, if some were no allocated objects."""
        wrong = self.machine.run(kmem_cache_free_bulk, np.array(objects, np.int64))
        if wrong:
            raise MmlabError(f"free_bulk: {wrong} of {len(objects)} addresses are no objects in use")

    def geometry(self, cache: KmemCache) -> dict[str, int]:
        """size, object_size, align, inuse, offset, order, objects, min_order, min_objects, min_partial, cpu_partial, cpu_partial_slabs,
        refcount. Raises NotSupported if the slab allocator does not say."""
        number = cache.number if cache.number >= 0 else self._create(cache.asked, cache.align, cache.flags)
        values = {name: self.machine.op("slab_allocator", "stat", number, what) for name, what in _GEOMETRY.items()}
        if cache.number < 0:
            self.machine.op("slab_allocator", "destroy", number)
        if min(values.values()) < 0:
            raise NotSupported(f"slab_allocator {self.machine.chosen['slab_allocator'].policy.name!r} has no geometry of this kind")
        grown = _round_up(cache.object_size, _WORD)
        values |= {"object_size": cache.object_size, "inuse": max(values["inuse"], grown), "refcount": cache.refcount}
        if cache.freeptr_offset >= 0:
            values |= {"offset": cache.freeptr_offset, "size": _round_up(grown, cache.align)}
        return values

    def _size(self, cache: KmemCache) -> int:
        """Bytes of an object with its padding; caches that may be merged have no more than that."""
        return _round_up(_round_up(cache.object_size, _WORD), cache.align)

    def _create(self, size: int, align: int, flags: int) -> int:
        """A new cache in the slab slot: its number, or -errno."""
        for number in USER_CACHES:
            if self.machine.op("slab_allocator", "stat", number, SLAB_STAT_OBJSIZE) <= 0:
                error = self.machine.op("slab_allocator", "create", number, size, align, flags)
                return error if error < 0 else number
        raise NotSupported(f"more than {len(USER_CACHES)} slab caches of a script")

