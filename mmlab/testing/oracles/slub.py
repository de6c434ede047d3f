"""SLUB in plain Python: lists of slab objects, one node. Numbers slabs in the order in which they are made."""

from __future__ import annotations

import math

import attrs

from mmlab.model.slabinfo import (
    SLAB_CTOR, SLAB_DEBUG_FLAGS, SLAB_FREEPTR_INSIDE, SLAB_HWCACHE_ALIGN, SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU,
)


@attrs.frozen
class Geometry:
    """Sizes of a cache in bytes, objects and slabs, by the names of struct kmem_cache."""

    size: int
    align: int
    offset: int
    order: int
    objects: int
    min_order: int
    min_partial: int
    cpu_partial: int
    cpu_partial_slabs: int


def _up(value: int, align: int) -> int:
    return math.ceil(value / align) * align


def _order_for(size: int) -> int:
    return next(order for order in range(64) if 4096 << order >= size)


def geometry(
    object_size: int, align: int = 0, flags: int = 0, cpus: int = 1, min_order: int = 0, max_order: int = 3, min_objects: int = 0,
) -> Geometry:  # fmt: skip
    """What kmem_cache_create(object_size, align, flags) gives on a machine with `cpus` CPUs."""
    if flags & SLAB_HWCACHE_ALIGN:
        align = max(align, next(line for line in (8, 16, 32, 64) if object_size <= line or line == 64))
    align = _up(max(align, 8), 8)
    size = _up(object_size, 8)
    if flags & SLAB_RED_ZONE and size == object_size:
        size += 8
    moved = flags & (SLAB_POISON | SLAB_CTOR) or (flags & SLAB_TYPESAFE_BY_RCU and not flags & SLAB_FREEPTR_INSIDE)
    offset = object_size // 2 // 8 * 8
    if moved or (flags & SLAB_RED_ZONE and object_size < 8):
        offset, size = size, size + 8
    size += (64 if flags & SLAB_STORE_USER else 0) + (8 + _up(8, align) if flags & SLAB_RED_ZONE else 0)
    size = _up(size, align)
    order = _slab_order(size, min_objects or 4 * (cpus.bit_length() + 1), min_order, max_order)
    objects = (4096 << order) // size
    cpu_partial = 0 if flags & SLAB_DEBUG_FLAGS else 6 if size >= 4096 else 24 if size >= 1024 else 52 if size >= 256 else 120
    min_partial = min(max(int(math.log2(size)) // 2, 5), 10)
    return Geometry(size, align, offset, order, objects, _order_for(size), min_partial, cpu_partial, math.ceil(2 * cpu_partial / objects))


def _slab_order(size: int, min_objects: int, min_order: int, max_order: int) -> int:
    wanted = min(min_objects, max((4096 << max_order) // size, 1))
    start = max(min_order, _order_for(wanted * size))
    if (4096 << start) // size > 32767:
        return _order_for(size * 32767) - 1
    for part in (16, 8, 4, 2):
        for order in range(start, max_order + 1):
            if (4096 << order) % size <= (4096 << order) // part:
                return order
    return _order_for(size)


@attrs.define(eq=False)
class Slab:
    """One slab. free: its own free objects, the next to be used last; cpu: who works on it (None: nobody)."""

    number: int
    objects: int
    free: list[int]
    cpu: int | None = None

    @property
    def inuse(self) -> int:
        return self.objects - len(self.free)


class SlubOracle:
    """One cache on one node. Slabs are lists' elements, first element first; private: what each CPU has of its slab."""

    def __init__(self, cache: Geometry, cpus: int = 1):
        self.cache = cache
        self.slabs: dict[int, Slab] = {}
        self.cpu_slab: list[Slab | None] = [None] * cpus
        self.private: list[list[int]] = [[] for _ in range(cpus)]
        self.cpu_partial: list[list[Slab]] = [[] for _ in range(cpus)]
        self.lengths: list[list[int]] = [[] for _ in range(cpus)]  # what each slab of cpu_partial believes the list's length to be
        self.node_partial: list[Slab] = []
        self.made = 0

    def alloc(self, cpu: int) -> tuple[int, int]:
        """(number of the slab, number of the object)."""
        if not self.private[cpu]:
            self._refill(cpu)
        slab = self.cpu_slab[cpu]
        assert slab is not None
        return slab.number, self.private[cpu].pop()

    def free(self, cpu: int, number: int, n: int) -> None:
        """Give back an object that alloc() returned."""
        slab = self.slabs[number]
        if slab.cpu == cpu:
            self.private[cpu].append(n)
            return
        was_full = not slab.free
        slab.free.append(n)
        if slab.cpu is not None:
            return
        if was_full and self.cache.cpu_partial:
            self._put_cpu_partial(cpu, slab, drain=True)
        elif was_full and not (slab.inuse == 0 and self._enough()):
            self.node_partial.append(slab)
        elif slab.inuse == 0 and (was_full or slab in self.node_partial) and self._enough():
            if not was_full:
                self.node_partial.remove(slab)
            del self.slabs[number]

    def shrink(self) -> None:
        """kmem_cache_shrink()."""
        for cpu in range(len(self.cpu_slab)):
            slab, self.cpu_slab[cpu] = self.cpu_slab[cpu], None
            if slab is not None:
                self._deactivate(slab, self.private[cpu])
                self.private[cpu] = []
            self._to_node(cpu)
        for slab in [s for s in self.node_partial if s.inuse == 0]:
            self.node_partial.remove(slab)
            del self.slabs[slab.number]
        few = [s for s in reversed(self.node_partial) if len(s.free) <= 32]
        self.node_partial = sorted(few, key=lambda s: len(s.free)) + [s for s in self.node_partial if len(s.free) > 32]

    def active_objs(self) -> int:
        """slabinfo's active_objs."""
        return self.num_objs() - sum(len(s.free) for s in self.node_partial)

    def num_objs(self) -> int:
        """slabinfo's num_objs."""
        return sum(s.objects for s in self.slabs.values())

    def _enough(self) -> bool:
        return len(self.node_partial) >= self.cache.min_partial

    def _refill(self, cpu: int) -> None:
        slab = self.cpu_slab[cpu]
        if slab is not None and not slab.free:
            slab.cpu = None
            slab = None
        if slab is None:
            slab = self._next_slab(cpu)
        self.cpu_slab[cpu] = slab
        slab.cpu = cpu
        self.private[cpu], slab.free = slab.free, []

    def _next_slab(self, cpu: int) -> Slab:
        if self.cpu_partial[cpu]:
            self.lengths[cpu].pop(0)
            return self.cpu_partial[cpu].pop(0)
        if self.node_partial:
            slab = self.node_partial.pop(0)
            for _ in range(self.cache.cpu_partial_slabs // 2 + 1 if self.cache.cpu_partial else 0):
                if self.node_partial:
                    self._put_cpu_partial(cpu, self.node_partial.pop(0), drain=False)
            return slab
        slab = Slab(self.made, self.cache.objects, list(range(self.cache.objects))[::-1])
        self.slabs[self.made] = slab
        self.made += 1
        return slab

    def _put_cpu_partial(self, cpu: int, slab: Slab, drain: bool) -> None:
        if drain and self.lengths[cpu] and self.lengths[cpu][0] >= self.cache.cpu_partial_slabs:
            self._to_node(cpu)
        self.lengths[cpu].insert(0, (self.lengths[cpu] or [0])[0] + 1)
        self.cpu_partial[cpu].insert(0, slab)

    def _to_node(self, cpu: int) -> None:
        slabs, self.cpu_partial[cpu], self.lengths[cpu] = self.cpu_partial[cpu], [], []
        for slab in slabs:
            if slab.inuse == 0 and self._enough():
                del self.slabs[slab.number]
            else:
                self.node_partial.append(slab)

    def _deactivate(self, slab: Slab, private: list[int]) -> None:
        tail = bool(slab.free)
        slab.free += private
        slab.cpu = None
        if slab.inuse == 0 and self._enough():
            del self.slabs[slab.number]
        elif slab.free:
            self.node_partial.insert(len(self.node_partial) if tail else 0, slab)
