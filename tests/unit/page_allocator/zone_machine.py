"""A machine of one zone for tests of page allocators: ops without the core's watermarks, and views of the lists."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlab.kernels import ops
from mmlab.model import rows as r
from mmlab.model.page import ZONE_SHIFT
from mmlab.policies import PageAllocator, Policy
from mmlab.testing.harness import small_machine
from mmlab.verify.probe_run import dump_state

STATE = ("sc", "zone", "pcp", "page", "pagex", "pageblock")
FREE_HIGH_BATCH = 2


class ZoneMachine:
    """zone: row of the largest zone; start, end: its span. reset() goes back to what it was after boot."""

    def __init__(self, policy: PageAllocator, memory: str, cpus: int = 1, **others: Policy):
        self.m = small_machine(memory=memory, cpus=cpus, page_allocator=policy, **others)
        managed = self.m.zone[r.Z_MANAGED :: r.ZONE_STRIDE]
        self.zone = int(np.argmax(managed))
        self.row = self.m.zone[self.zone * r.ZONE_STRIDE : (self.zone + 1) * r.ZONE_STRIDE]
        self.start, self.end = int(self.row[r.Z_START_PFN]), int(self.row[r.Z_END_PFN])
        self.m.sc[r.SC_BOOST_FACTOR] = 15000
        self.pcp_row(0)[r.PCP_FLAGS] = FREE_HIGH_BATCH
        arrays = [getattr(self.m, name) for name in STATE] + list(self.m.states["page_allocator"].arrays().values())
        self._saved = [(array, array.copy()) for array in arrays]

    def reset(self) -> None:
        for array, saved in self._saved:
            array[:] = saved

    def pcp_row(self, cpu: int) -> np.ndarray:
        base = (cpu * self.m.sizes.nr_zones + self.zone) * r.PCP_STRIDE
        return self.m.pcp[base : base + r.PCP_STRIDE]

    def alloc(self, order: int = 0, migratetype: int = 1, flags: int = 0) -> int:
        """pfn or a negative errno. The frames get their zone, as get_page_from_freelist() gives it to them."""
        pfn = self.m.run(ops.page_allocator_alloc, self.zone, order, migratetype, flags)
        if pfn >= 0:
            self.m.page[2::4][pfn : pfn + (1 << order)] = self.zone << ZONE_SHIFT
        return pfn

    def free(self, pfn: int, order: int = 0) -> None:
        self.m.run(ops.page_allocator_free, pfn, order)

    def check(self) -> int:
        return self.m.run(ops.page_allocator_check, self.zone)

    def can_alloc(self, order: int, flags: int = 0) -> int:
        return self.m.run(ops.page_allocator_can_alloc, self.zone, order, flags)

    def drain(self, cpu: int = 0) -> int:
        return self.m.run(ops.page_allocator_drain, self.zone, cpu)

    def tick(self, cpu: int = 0) -> None:
        self.m.run(ops.page_allocator_tick, cpu)

    def is_free(self, pfn: int) -> int:
        return self.m.run(ops.page_allocator_is_free, pfn)

    def blocks(self, order: int, migratetype: int = 1) -> int:
        return self.m.run(ops.page_allocator_nr_free_blocks, self.zone, order, migratetype)

    def dump(self) -> dict[str, Any]:
        """The zone as a probe's dump shows it."""
        return dump_state(self.m)[self.zone]

    def free_list(self, order: int, migratetype: int = 1) -> list[int]:
        return self.dump()["free_lists"].get(str(order), {}).get(str(migratetype), [])

    def nr_free(self) -> int:
        diffs = [int(self.pcp_row(cpu)[r.PCP_FREE_DIFF]) for cpu in range(self.m.sizes.nr_cpus)]
        return int(self.row[r.Z_FREE]) + sum(diffs)
