"""The fault and the reclaim path, ready to run in mmlab and in C from the same state."""

from __future__ import annotations

import ctypes

from mmlab._engine import loop
from mmlab.mm import vmscan
from mmlab.model import rows as r
from mmlab.model.const import SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT
from mmlab.simulation import Simulation
from reference import Snapshot, call_c

#: policies whose steps the C references take
PLAIN = {"vma_index": {"use": "sorted_array"}, "page_allocator": {"use": "buddy"}, "reclaimer": {"use": "two_list"}, "thp": {"use": "never"}}
DIRECT_RECLAIM = SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | 3 << SCAN_RECLAIM_IDX_SHIFT
WARM_PAGES = 1024  # touched before: anon_vma, upper page tables and the unmovable pageblock exist


class FaultPath:
    """First-touch write faults on `pages` pages of one task. policies: as in an experiment."""

    def __init__(self, pages: int, policies: dict | None = None, memory: str = "2G"):
        self.pages = pages
        self.sim = sim = Simulation.from_table({"memory": memory, "bare": True}, policies=PLAIN if policies is None else policies)
        sim.spawn("A")
        start = sim.mmap("A", (pages + WARM_PAGES) << 12)
        sim.touch("A", start, WARM_PAGES, 1)
        self.task, self.vpn = sim.task("A").index, (start >> 12) + WARM_PAGES
        self.snapshot = Snapshot(sim.machine)

    def ours(self) -> None:
        """In mmlab."""
        assert self.sim.machine.run(loop.touch_range, self.task, self.vpn, self.pages, 1, 1) == self.pages

    def theirs(self, library: ctypes.CDLL) -> None:
        """In C. The task is in the root cgroup, which is not charged."""
        assert call_c(library, "fault", self.sim.machine, (self.task, self.vpn, self.pages)) == self.pages


class ReclaimPath:
    """Reclaim of `pages` dirty, old, anonymous pages, each mapped once, to swap."""

    def __init__(self, pages: int, memory: str = "2G"):
        self.pages = pages // 32 * 32
        table = {"memory": memory, "bare": True, "swap": memory}
        self.sim = sim = Simulation.from_table(table, policies=PLAIN)
        sim.spawn("A")
        start = sim.mmap("A", pages << 12)
        sim.touch("A", start, pages, 1)
        machine = sim.machine
        machine.op("reclaimer", "drain", 0)
        machine.sc[r.SC_STORE_CLASS] = r.CLASS_ZERO  # no write to a device, which would go on after the reclaim
        entries = machine.pt[: (int(machine.sc[r.SC_TABLE_TOP]) + 1) * 512]
        entries[entries & r.PTE_DIRTY != 0] &= ~r.PTE_ACCESSED  # every page is old
        self.snapshot = Snapshot(machine)

    def ours(self) -> None:
        """In mmlab."""
        assert self.sim.machine.run(vmscan.shrink_node, 0, 0, 0, self.pages, DIRECT_RECLAIM, 1) == self.pages

    def theirs(self, library: ctypes.CDLL) -> None:
        """In C."""
        assert call_c(library, "reclaim", self.sim.machine, (self.pages,)) == self.pages
