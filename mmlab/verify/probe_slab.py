"""The slab allocator's commands of a program (``cache calloc cfree cdump cshrink cdestroy sweep kinfo kmalloc kfree``), and their log lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlab._engine.machine import Machine
from mmlab.errors import MmlabError
from mmlab.kernels.jit import kernel
from mmlab.kernels.services import kmem_cache_alloc, kmem_cache_free
from mmlab.mm import slab_common
from mmlab.mm.slab import kmalloc_cache
from mmlab.mm.slab_common import KmemCache, SlabCaches
from mmlab.model import rows as r
from mmlab.model import slabinfo as s
from mmlab.model.const import MAX_ORDER, PAGE_SHIFT, PAGE_SIZE, SLAB_STAT_OBJSIZE
from mmlab.model.page import PG_SLAB, PG_TAIL, ZONE_SHIFT
from mmlab.verify.ids import Unsupported

#: flag bits as Linux 6.12 numbers them
_KERNEL_BITS = {
    s.SLAB_RED_ZONE: 1, s.SLAB_POISON: 2, s.SLAB_HWCACHE_ALIGN: 4, s.SLAB_CACHE_DMA: 5, s.SLAB_CACHE_DMA32: 6, s.SLAB_STORE_USER: 7,
    s.SLAB_PANIC: 8, s.SLAB_TYPESAFE_BY_RCU: 9, s.SLAB_NO_MERGE: 12, s.SLAB_ACCOUNT: 13, s.SLAB_RECLAIM_ACCOUNT: 16,
}  # fmt: skip
_OBJECT_POISON, _CMPXCHG_DOUBLE = 1 << 17, 1 << 18
_TAGS = {s.SLAB_LIST_CPU: "cpuslab", s.SLAB_LIST_CPU_PARTIAL: "cpupartial", s.SLAB_LIST_NODE_PARTIAL: "partial"}


@kernel
def alloc_objects(m, cache, gfp, objs):
    """kmem_cache_alloc() for every element of objs (int64)."""
    for i in range(len(objs)):
        objs[i] = kmem_cache_alloc(m, cache, gfp)
    return 0


@kernel
def free_objects(m, objs):
    """kmem_cache_free() of every element."""
    for i in range(len(objs)):
        kmem_cache_free(m, objs[i])
    return 0


class SlabProbe:
    """Caches and objects of a program. lines: the log so far; slots: SLOT -> object (address), or (first frame, order) of a large one."""

    def __init__(self, machine: Machine, nomerge: bool = False):
        self.machine = machine
        self.known = SlabCaches(machine, nomerge)
        self.caches: dict[int, KmemCache] = {}
        self.slots: dict[int, int | tuple[int, int]] = {}
        self.seen: dict[int, list[int]] = {}
        self.lines: list[str] = []

    def cache(self, number: int, name: str, size: int, align: int, flags: str, usersize: int = 0) -> None:
        """``cache C NAME SIZE ALIGN FLAGS [usersize=]``."""
        found = self.known.create(name, size, align, slab_common.flags_of(flags), usersize)
        if found is None:
            self.lines.append(f"NEW {name} failed")
            return
        self.caches[number], self.seen[number] = found, []
        self.lines.append(f"NEW {name} {self._geometry(found)}")

    def destroy(self, number: int) -> None:
        """``cdestroy C``."""
        if number in self.caches:
            self.known.destroy(self.caches.pop(number))

    def alloc(self, number: int, slots: list[int], gfp: int) -> None:
        """``calloc C SLOT GFP``."""
        cache = self._simulated(number)
        objs = np.empty(len(slots), np.int64)
        self.machine.run(alloc_objects, cache.number, gfp, objs)
        size = self._stat(cache, SLAB_STAT_OBJSIZE)
        words = []
        for slot, obj in zip(slots, objs.tolist()):
            self.slots.pop(slot, None)
            if obj < 0:
                words.append("-1")
                continue
            slab = self._slab(obj >> PAGE_SHIFT)
            words.append(f"{slab}:{(obj - (slab << PAGE_SHIFT)) // size}")
            self.slots[slot] = obj
            if slab not in self.seen[number]:
                self.seen[number].append(slab)
        self.lines.append(f"O c={number} {' '.join(words)}")

    def free(self, number: int, slots: list[int]) -> None:
        """``cfree C SLOT``."""
        objs = [self.slots.pop(slot) for slot in slots if isinstance(self.slots.get(slot), int)]
        self.machine.run(free_objects, np.array(objs, np.int64))
        self._gone(number)

    def shrink(self, number: int) -> None:
        """``cshrink C``."""
        self.machine.op("slab_allocator", "shrink", self._simulated(number).number)
        self._gone(number)

    def dump(self, number: int, label: str) -> None:
        """``cdump C D``."""
        cache, machine = self._simulated(number), self.machine
        if machine.chosen["slab_allocator"].policy.slab_after is None:
            raise Unsupported(f"slab_allocator {machine.chosen['slab_allocator'].policy.name!r} does not show its lists")
        self.lines.append(f"CACHE {label} c={number} {self._geometry(cache)}")
        for cpu in range(machine.sizes.nr_cpus):
            at_work = self._listed(cache, s.SLAB_LIST_CPU, cpu)
            free = [machine.op("slab_allocator", "slab_stat", slab, s.SLAB_OF_CPU_FREE) for slab in at_work]
            self.lines.append(f"cpu {cpu} freelist= " + ("[" + ",".join("x" * free[0]) + "]" if at_work else "-"))
            self.lines += self._slab_lines(s.SLAB_LIST_CPU, at_work)
            self.lines += self._slab_lines(s.SLAB_LIST_CPU_PARTIAL, self._listed(cache, s.SLAB_LIST_CPU_PARTIAL, cpu))
        slabs = self._all_slabs(cache)
        for node in range(machine.sizes.nr_nodes):
            partial = self._listed(cache, s.SLAB_LIST_NODE_PARTIAL, node)
            of_node = [slab for slab in slabs if self._node(slab) == node]
            objects = sum(machine.op("slab_allocator", "slab_stat", slab, s.SLAB_OF_OBJECTS) for slab in of_node)
            self.lines.append(f"node {node} nr_partial={len(partial)} nr_slabs={len(of_node)} total_objects={objects}")
            self.lines += self._slab_lines(s.SLAB_LIST_NODE_PARTIAL, partial)
        self.lines.append("END")

    def sweep(self, sizes: range, align: int, flags: str) -> None:
        """``sweep FROM TO STEP ALIGN FLAGS``: the geometry of caches that nothing is merged with."""
        for size in sizes:
            cache = self.known.create("mmprobe-sweep", size, align, slab_common.flags_of(flags) | s.SLAB_NO_MERGE)
            if cache is None:
                self.lines.append(f"S {size} {align} failed")
                continue
            self.lines.append(f"S {size} {align} {self._geometry(cache)}")
            self.known.destroy(cache)

    def info(self) -> None:
        """``kinfo``: newest cache first."""
        self.lines += [self._geometry(cache) for cache in reversed(self.known.caches)]

    def kmalloc(self, slots: list[int], size: int, gfp: int) -> None:
        """``kmalloc SLOT SIZE GFP``."""
        for slot in slots:
            self.slots.pop(slot, None)
            number = kmalloc_cache(size, slab_common.kmalloc_type(gfp))
            if number < 0:
                self._kmalloc_large(slot, size, gfp)
                continue
            objs = np.empty(1, np.int64)
            self.machine.run(alloc_objects, number, gfp, objs)
            obj = int(objs[0])
            if obj < 0:
                self.lines.append(f"M {size} -1")
                continue
            self.slots[slot] = obj
            ksize = self.machine.op("slab_allocator", "stat", number, SLAB_STAT_OBJSIZE)
            slab = self._slab(obj >> PAGE_SHIFT)
            name = slab_common.KERNEL_CACHES[number].name
            self.lines.append(f"M {size} {slab}:{(obj - (slab << PAGE_SHIFT)) // ksize} ksize={ksize} cache={name}")

    def _kmalloc_large(self, slot: int, size: int, gfp: int) -> None:
        order = slab_common.kmalloc_order(size)
        pfn = self.machine.run(slab_common.kmalloc_large, gfp, order) if 0 <= order <= MAX_ORDER else -1
        if pfn < 0:
            self.lines.append(f"M {size} -1")
            return
        self.slots[slot] = (pfn, order)
        self.lines.append(f"M {size} {pfn}/{order} ksize={PAGE_SIZE << order} cache=-")

    def kfree(self, slots: list[int]) -> None:
        """``kfree SLOT``."""
        for slot in slots:
            held = self.slots.pop(slot, None)
            if isinstance(held, tuple):
                self.machine.run(slab_common.free_large_kmalloc, *held)
            elif held is not None:
                self.machine.run(free_objects, np.array([held], np.int64))

    def _simulated(self, number: int) -> KmemCache:
        if number not in self.caches:
            raise MmlabError(f"probe: there is no cache {number}")
        if self.caches[number].number < 0:
            raise Unsupported(f"objects of cache {self.caches[number].name!r}, which the kernel fills by itself")
        return self.caches[number]

    def _geometry(self, cache: KmemCache) -> str:
        values = self.known.geometry(cache)
        flags = sum(1 << bit for flag, bit in _KERNEL_BITS.items() if cache.flags & flag)
        if not cache.flags & s.SLAB_STORE_USER:
            flags |= _CMPXCHG_DOUBLE
        if cache.flags & s.SLAB_POISON and not cache.flags & (s.SLAB_TYPESAFE_BY_RCU | s.SLAB_CTOR):
            flags |= _OBJECT_POISON  # without these an object may be filled from its first byte while it is free
        return f"K {cache.name} " + " ".join(f"{name}={value}" for name, value in values.items()) + f" flags={flags:x}"

    def _stat(self, cache: KmemCache, what: int) -> int:
        return self.machine.op("slab_allocator", "stat", cache.number, what)

    def _listed(self, cache: KmemCache, kind: int, owner: int) -> list[int]:
        slabs: list[int] = []
        while (slab := self.machine.op("slab_allocator", "slab_after", cache.number, kind, owner, slabs[-1] if slabs else -1)) >= 0:
            slabs.append(slab)
        return slabs

    def _slab_lines(self, kind: int, slabs: list[int]) -> list[str]:
        lines = []
        for slab in slabs:
            inuse, objects = (self.machine.op("slab_allocator", "slab_stat", slab, what) for what in (s.SLAB_OF_INUSE, s.SLAB_OF_OBJECTS))
            lines.append(f"{_TAGS[kind]} pfn={slab} node={self._node(slab)} inuse={inuse} objects={objects} ")
        return lines

    def _all_slabs(self, cache: KmemCache) -> list[int]:
        flags = self.machine.page[2::4][: self.machine.sizes.nr_frames].astype(np.int64)
        heads = np.flatnonzero((flags & PG_SLAB != 0) & (flags & PG_TAIL == 0))
        return [pfn for pfn in heads.tolist() if self._mapping(pfn) == cache.number]

    def _mapping(self, pfn: int) -> int:
        return int(self.machine.pagex[4 * pfn])

    def _node(self, pfn: int) -> int:
        zone = int(self.machine.page[4 * pfn + 2]) >> ZONE_SHIFT & 31
        return int(self.machine.zone[zone * r.ZONE_STRIDE + r.Z_NODE])

    def _slab(self, pfn: int) -> int:
        tail = int(self.machine.page[4 * pfn + 2]) & PG_TAIL
        return pfn - int(self.machine.pagex[4 * pfn + 2]) if tail else pfn

    def _gone(self, number: int) -> None:
        """Say which of the cache's slabs went back to the page allocator."""
        cache = self.caches.get(number)
        kept: list[int] = []
        for pfn in self.seen.get(number, []):
            slab = self._slab(pfn)
            if cache and int(self.machine.page[4 * slab + 2]) & PG_SLAB and self._mapping(slab) == cache.number:
                kept.append(pfn)
            else:
                self.lines.append(f"D c={number} {pfn}")
        self.seen[number] = kept


#: command -> what it needs of a program's line: (probe, args, options, gfp flags by name)
def run_slab_command(probe: SlabProbe, name: str, args: list[str], options: dict[str, int], gfp_of: Any) -> None:
    """One command of the slab allocator. args: the words without ``=``; gfp_of: flags from their names. Raises Unsupported for others."""
    n, step = options.get("n", 1), options.get("step", 1)

    def slots(first: str) -> list[int]:
        numbers = [int(first) + i * step for i in range(n)]
        return numbers[::-1] if "rev" in args else numbers

    if name == "cache":
        probe.cache(int(args[0]), args[1], int(args[2]), int(args[3]), args[4], options.get("usersize", 0))
    elif name == "calloc":
        if options.get("node", -1) not in (-1, int(probe.machine.sc[r.SC_NODE])):
            raise Unsupported("calloc on another node")
        probe.alloc(int(args[0]), slots(args[1]), gfp_of(args[2]))
    elif name == "cfree":
        probe.free(int(args[0]), slots(args[1]))
    elif name == "cdump":
        probe.dump(int(args[0]), args[1] if len(args) > 1 else "-")
    elif name == "cshrink":
        probe.shrink(int(args[0]))
    elif name == "cdestroy":
        probe.destroy(int(args[0]))
    elif name == "sweep":
        probe.sweep(range(int(args[0]), int(args[1]) + 1, int(args[2])), int(args[3]), args[4])
    elif name == "kinfo":
        probe.info()
    elif name == "kmalloc":
        probe.kmalloc(slots(args[0]), int(args[1]), gfp_of(args[2]))
    elif name == "kfree":
        probe.kfree(slots(args[0]))
    else:
        raise Unsupported(f"probe command {name}")
