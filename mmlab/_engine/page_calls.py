"""Blocks of pages that Python holds: alloc_pages() and free_pages() of a simulation, which refuses what cannot be freed."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlab.errors import MmlabError
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.mm.page_bulk import alloc_pages_bulk
from mmlab.model import rows as r
from mmlab.model.const import MAX_ORDER
from mmlab.model.page import KIND_ANON, KIND_FILE, KIND_FREE, KIND_SHMEM, KIND_SLAB, KIND_TABLE
from mmlab.workload.gfp_names import gfp_flags

_OWNERS = {KIND_ANON: "a task's memory", KIND_FILE: "the page cache", KIND_SHMEM: "shared memory", KIND_SLAB: "a slab", KIND_TABLE: "a page table"}


class HeldBlocks:
    """Who asked for them knows no more than frames and orders; what is held is kept here."""

    def __init__(self, sim: Any):
        self.sim = sim
        self.orders: dict[int, int] = {}

    def alloc(self, order: int, gfp: str | int, node: int, cpu: int) -> int:
        """The block's first frame, or -errno."""
        if not 0 <= order <= MAX_ORDER:
            raise MmlabError(f"alloc_pages: order must be 0 to {MAX_ORDER}, got {order}")
        flags = self._request("alloc_pages", gfp, node, cpu)
        pfn = self.sim.machine.run(alloc_pages, flags, order, node)
        if pfn >= 0:
            self.orders[pfn] = order
        return pfn

    def alloc_bulk(self, count: int, gfp: str | int, node: int, cpu: int) -> list[int]:
        """Single frames, as many of `count` as come at once."""
        if count < 0:
            raise MmlabError(f"alloc_pages_bulk: count must not be negative, got {count}")
        flags = self._request("alloc_pages_bulk", gfp, node, cpu)
        pages = np.zeros(count, np.int64)
        got = pages[: self.sim.machine.run(alloc_pages_bulk, pages, flags, node)].tolist()
        self.orders |= dict.fromkeys(got, 0)
        return got

    def _request(self, what: str, gfp: str | int, node: int, cpu: int) -> int:
        """The flags of a request that a CPU makes from now on; MmlabError for what the machine does not have."""
        sizes = self.sim.machine.sizes
        if not 0 <= cpu < sizes.nr_cpus or not -1 <= node < sizes.nr_nodes:
            raise MmlabError(f"{what}: no CPU {cpu} or no node {node}: the machine has {sizes.nr_cpus} and {sizes.nr_nodes}")
        try:
            flags = gfp_flags(gfp) if isinstance(gfp, str) else gfp
        except ValueError as error:
            raise MmlabError(f"{what}: {error}") from None
        self._on(cpu)
        return flags

    def free(self, pfn: int, order: int, cpu: int) -> None:
        """Give a block back. Raises MmlabError, and changes nothing, unless exactly this block is held."""
        held = self.orders.get(pfn)
        if held != order:
            raise MmlabError(f"free_pages: frame {pfn} cannot be freed with order {order}: it is {self.state(pfn)}")
        del self.orders[pfn]
        self._on(cpu)
        self.sim.machine.run(free_pages, pfn, order)

    def state(self, pfn: int) -> str:
        """What a frame is now, in words."""
        machine = self.sim.machine
        if not any(start <= pfn < end for zone in self.sim.layout.zones for start, end in zone.ranges):
            return "no frame of this machine"
        for order in range(MAX_ORDER + 1):
            head = pfn >> order << order
            if self.orders.get(head, -1) >= order:
                whole = f"block of order {self.orders[head]}"
                return f"in use, a {whole}" if head == pfn else f"in use, a part of the {whole} at frame {head}"
            if (found := machine.op("page_allocator", "is_free", head)) > order:
                return f"free, in the free block of order {found - 1} at frame {head}"
        kind = int(machine.pagex[4 * pfn + 3]) >> 12 & 15
        if kind == KIND_FREE:
            return "free, on a list of a CPU or beside a larger free block"
        return f"in use by {_OWNERS.get(kind, 'the kernel')}"

    def _on(self, cpu: int) -> None:
        sc = self.sim.machine.sc
        sc[r.SC_TASK], sc[r.SC_CPU], sc[r.SC_NODE] = -1, cpu, self.sim._node_of(cpu)
