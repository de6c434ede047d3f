"""The page allocator, the fault and the reclaim path, ready to run in mmlab and in C from the same state."""

from __future__ import annotations

import ctypes

import numpy as np
from drivers import block_pairs, fill_blocks, map_pairs, page_pairs, replace_blocks
from mmlab._engine import loop
from mmlab.mm import vmscan
from mmlab.model import rows as r
from mmlab.model.const import MIGRATE_MOVABLE, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.simulation import Simulation
from reference import Snapshot, call_c

#: policies whose steps the C references take
PLAIN = {"vma_index": {"use": "sorted_array"}, "page_allocator": {"use": "buddy"}, "reclaimer": {"use": "two_list"}, "thp": {"use": "never"}}
DIRECT_RECLAIM = SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | 3 << SCAN_RECLAIM_IDX_SHIFT
WARM_PAGES = 1024  # touched before: anon_vma, upper page tables and the unmovable pageblock exist


class BlockPairs:
    """A page from an otherwise untouched zone and back, `count` times: every time a block of 2^10 pages is cut ten times and merged ten times."""

    def __init__(self, count: int, memory: str = "1G"):
        self.count = count
        self.machine = Simulation.from_table({"memory": memory, "bare": True}, policies=PLAIN | {"page_allocator": {"use": "buddy_nopcp"}}).machine
        self.zone = int(self.machine.zonelist[0])
        for order in range(10):  # what boot took left blocks of all orders: they stay in use
            while self.machine.op("page_allocator", "nr_free_blocks", self.zone, order, MIGRATE_MOVABLE):
                assert self.machine.op("page_allocator", "alloc", self.zone, order, MIGRATE_MOVABLE, 0) >= 0
        self.snapshot = Snapshot(self.machine)

    def ours(self) -> None:
        """In mmlab."""
        assert self.machine.run(block_pairs, self.zone, MIGRATE_MOVABLE, self.count) == self.count

    def theirs(self, library: ctypes.CDLL) -> None:
        """In C."""
        assert call_c(library, "pairs", self.machine, (self.zone, self.count)) == self.count


class RandomBlocks:
    """Of `memory` half the pages are held, at random places; a random one is freed and another allocated, `count` times."""

    def __init__(self, count: int, memory: str = "1G", policy: str = "buddy_nopcp"):
        self.machine = Simulation.from_table({"memory": memory, "bare": True}, policies=PLAIN | {"page_allocator": {"use": policy}}).machine
        self.zone, rng = int(self.machine.zonelist[0]), np.random.default_rng(5)
        nr = int(self.machine.zone[self.zone * r.ZONE_STRIDE + r.Z_FREE])  // 16 * 15
        self.held, self.orders = np.zeros(nr, np.int64), np.zeros(nr, np.int64)
        assert self.machine.run(fill_blocks, self.held, self.orders, self.zone, MIGRATE_MOVABLE) == nr
        rng.shuffle(self.held)
        for pfn in self.held[nr // 2 :]:
            self.machine.op("page_allocator", "free", int(pfn), 0)
        self.held, nr = self.held[: nr // 2].copy(), nr // 2
        self.picks = rng.integers(0, nr, count)
        self._kept = self.held.copy()
        self._snapshot = Snapshot(self.machine)
        self.snapshot = self

    def restore(self) -> None:
        """The state of the start."""
        self._snapshot.restore()
        self.held[:] = self._kept

    def values(self) -> dict[str, np.ndarray]:
        """The arrays as they are now."""
        return {**self._snapshot.values(), "held": self.held.copy()}

    def ours(self) -> None:
        """In mmlab."""
        assert self.machine.run(replace_blocks, self.held, self.orders, self.picks, self.zone, MIGRATE_MOVABLE) == len(self.picks)

    def theirs(self, library: ctypes.CDLL) -> None:
        """In C."""
        args = (self.zone, self.held.ctypes.data, self.picks.ctypes.data, len(self.picks))
        assert call_c(library, "replace", self.machine, args) == len(self.picks)


class PagePairs:
    """alloc_pages() and free_pages() of a page that the CPU's list has, `count` times: watermark, NUMA and page counters."""

    def __init__(self, count: int, memory: str = "1G"):
        self.count = count
        self.machine = Simulation.from_table({"memory": memory, "bare": True}, policies=PLAIN).machine
        assert self.machine.run(page_pairs, GFP_HIGHUSER_MOVABLE, 1) == 1  # the list is filled
        self.snapshot = Snapshot(self.machine)

    def ours(self) -> None:
        """In mmlab."""
        assert self.machine.run(page_pairs, GFP_HIGHUSER_MOVABLE, self.count) == self.count

    def theirs(self, library: ctypes.CDLL) -> None:
        """In C."""
        assert call_c(library, "pcp_pairs", self.machine, (self.count,)) == self.count


class FaultPath:
    """First touches of `pages` pages of one task. policies: as in an experiment; access: 1 writes, 0 reads, which map the zero page."""

    def __init__(self, pages: int, policies: dict | None = None, memory: str = "2G", access: int = 1):
        self.pages, self.access = pages, access
        self.sim = sim = Simulation.from_table({"memory": memory, "bare": True}, policies=PLAIN if policies is None else policies)
        sim.spawn("A")
        start = sim.mmap("A", (pages + WARM_PAGES) << 12)
        sim.touch("A", start, WARM_PAGES, 1)
        self.task, self.vpn = sim.task("A").index, (start >> 12) + WARM_PAGES
        self.snapshot = Snapshot(sim.machine)

    def ours(self) -> None:
        """In mmlab."""
        assert self.sim.machine.run(loop.touch_range, self.task, self.vpn, self.pages, 1, self.access) == self.pages

    def theirs(self, library: ctypes.CDLL) -> None:
        """In C. The task is in the root cgroup, which is not charged."""
        assert call_c(library, "fault", self.sim.machine, (self.task, self.vpn, self.pages)) == self.pages


class CowPath:
    """Writes to `pages` pages that a child shares since its fork."""

    def __init__(self, pages: int, policies: dict | None = None, memory: str = "2G"):
        self.pages = pages
        self.sim = sim = Simulation.from_table({"memory": memory, "bare": True}, policies=policies)
        sim.spawn("A")
        start = sim.mmap("A", pages << 12)
        sim.touch("A", start, pages, 1)
        sim.fork("A", "B")
        self.task, self.vpn = sim.task("A").index, start >> 12
        self.snapshot = Snapshot(sim.machine)

    def ours(self) -> None:
        """In mmlab."""
        assert self.sim.machine.run(loop.touch_range, self.task, self.vpn, self.pages, 1, 1) == self.pages


class MapPairs:
    """A task with `vmas` one-page mappings, two pages apart; those picked at random are unmapped and mapped again, `count` times."""

    def __init__(self, vmas: int, count: int, policies: dict | None = None):
        self.sim = sim = Simulation.from_table({"memory": "1G", "bare": True}, policies=policies)
        sim.spawn("A")
        self.mm, self.base = sim.task("A").mm, 1 << 40
        for i in range(vmas):
            address = self.base + i * 8192
            assert sim.mmap("A", 4096, flags=["fixed_noreplace"], addr=address) == address
        self.picks = np.random.default_rng(5).integers(0, vmas, count)

    def ours(self) -> None:
        """In mmlab."""
        assert self.sim.machine.run(map_pairs, self.mm, self.base, self.picks) == len(self.picks)


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
