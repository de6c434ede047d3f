"""A machine with SLUB over the simplest page allocator, and views of SLUB's lists."""

from __future__ import annotations

import numpy as np

from mmlab._engine.link import units_of
from mmlab._engine.machine import Machine
from mmlab.kernels.jit import JIT_OFF, kernel
from mmlab.kernels.zones import mod_zone_free, zone_of
from mmlab.model import rows as r
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_KERNEL
from mmlab.model.page import PG_SLAB, page_next, set_page_next
from mmlab.policies import PageAllocator
from mmlab.testing.harness import small_machine
from mmlab.testing.standins import nothing_1, nothing_3
from mmlab_linux.slab_allocator import rows as s
from mmlab_linux.slab_allocator.slub import SLUB, Params


def _pages_state(params, machine):
    """top, end: the part of a zone that was never handed out; free: last block freed by zone and order, then through page_next."""
    zones = machine.sizes.nr_zones
    return {
        "top": np.zeros(zones, "int64"), "end": np.zeros(zones, "int64"),
        "free": np.full(zones * 11, -1, "int64"), "fail_order": np.full(1, 99, "int64"),
    }  # fmt: skip


@kernel
def pages_init_range(m, st, zone, pfn, nr_pages):
    """Keep the range that was handed over last."""
    mod_zone_free(m, zone, nr_pages - (st.end[zone] - st.top[zone]))
    st.top[zone] = pfn
    st.end[zone] = pfn + nr_pages
    return 0


@kernel
def pages_alloc(m, st, zone, order, migratetype, alloc_flags):
    """The block of this order freed last, else the next one never used. Orders from fail_order on fail."""
    if order >= st.fail_order[0]:
        return -ENOMEM
    pfn = st.free[zone * 11 + order]
    if pfn >= 0:
        after = page_next(m, pfn)
        st.free[zone * 11 + order] = -1 if after == pfn else after
    else:
        pfn = (st.top[zone] + (1 << order) - 1) // (1 << order) * (1 << order)
        if pfn + (1 << order) > st.end[zone]:
            return -ENOMEM
        st.top[zone] = pfn + (1 << order)
    mod_zone_free(m, zone, -(1 << order))
    return pfn


@kernel
def pages_free(m, st, pfn, order):
    """Onto the stack of its order."""
    zone = zone_of(m, pfn)
    last = st.free[zone * 11 + order]
    set_page_next(m, pfn, pfn if last < 0 else last)
    st.free[zone * 11 + order] = pfn
    mod_zone_free(m, zone, 1 << order)
    return 0


@kernel
def pages_can_alloc(m, st, zone, order, alloc_flags):
    """Always; alloc() finds out."""
    return 1


TINY_PAGES = PageAllocator(
    name="tiny", summary="stacks of freed blocks", new_state=_pages_state, init_range=pages_init_range, alloc=pages_alloc, free=pages_free,
    can_alloc=pages_can_alloc, is_free=nothing_1, nr_free_blocks=nothing_3, check=nothing_1,
)


class SlabMachine:
    """SLUB on a small machine: ops by name, objects as addresses."""

    def __init__(self, cpus: int = 1, params: Params | None = None, memory: str = "64M", table: dict | None = None):
        policies = {"slab_allocator": SLUB, "page_allocator": TINY_PAGES}
        self.m: Machine = small_machine(memory, cpus, params={"slab_allocator": params}, table=table, **policies)
        self.st = self.m.states["slab_allocator"]

        functions = SLUB.ops()
        self._functions = functions if JIT_OFF else {name: unit.call for name, unit in units_of("slab_allocator slub", functions, self.m._type, self.st._type).items()}

    def op(self, name: str, *args: int) -> int:
        """m.op() without the look-up of the compiled module, which costs 2 ms a call."""
        return int(self._functions[name](self.m, self.st, *args))

    def alloc(self, cache: int, cpu: int = 0, gfp: int = GFP_KERNEL) -> int:
        self.m.sc[r.SC_CPU] = cpu
        return self.op("alloc", cache, gfp)

    def free(self, obj: int, cpu: int = 0) -> int:
        self.m.sc[r.SC_CPU] = cpu
        return self.op("free", obj)

    def field(self, cache: int, name: str) -> int:
        """A KC_* field of the cache's row."""
        return int(self.st.cache[cache * s.CACHE_STRIDE + getattr(s, f"KC_{name.upper()}")])

    def slab_of(self, obj: int) -> int:
        """First frame of the slab that an object lies in."""
        pfn = obj >> 12
        return pfn - int(self.m.pagex[pfn * 4 + 2]) if not self.is_slab(pfn) else pfn

    def is_slab(self, pfn: int) -> bool:
        return bool(int(self.m.page[pfn * 4 + 2]) & PG_SLAB)

    def counts(self, slab: int) -> tuple[int, int]:
        """(inuse, objects) of a slab."""
        word = int(self.m.pagex[slab * 4 + 2])
        return word & 32767, (word >> 15) & 32767

    def cpu_slab(self, cache: int, cpu: int = 0) -> int:
        return int(self.st.cpu[(cache * self.m.sizes.nr_cpus + cpu) * s.CPU_STRIDE + s.CPU_SLAB])

    def private(self, cache: int, cpu: int = 0) -> list[int]:
        """Numbers of the objects on the CPU's freelist, the next to be used first."""
        row = (cache * self.m.sizes.nr_cpus + cpu) * s.CPU_STRIDE
        slab, n, found = self.cpu_slab(cache, cpu), int(self.st.cpu[row + s.CPU_FREELIST]), []
        while n != s.END:
            found.append(n)
            n = int(self.st.next_free[slab * 512 + n])
        return found

    def cpu_partial(self, cache: int, cpu: int = 0) -> list[int]:
        """Slabs of the CPU's partial list."""
        slab = int(self.st.cpu[(cache * self.m.sizes.nr_cpus + cpu) * s.CPU_STRIDE + s.CPU_PARTIAL])
        found = []
        while slab >= 0:
            found.append(slab)
            after = int(self.m.page[slab * 4])
            slab = -1 if after == slab else after
        return found

    def node_partial(self, cache: int, node: int = 0) -> list[int]:
        """Slabs of the node's partial list."""
        head = int(self.m.sc[r.SC_SLAB_HEADS]) + node * r.NR_CACHES + cache
        slab, found = int(self.m.page[head * 4]), []
        while slab != head:
            found.append(slab)
            slab = int(self.m.page[slab * 4])
        return found
