"""Time series on the simulated clock."""

from __future__ import annotations

import numpy as np

from mmlab._engine import tlb
from mmlab.machine.fragmentation import extfrag_index, unusable_index
from mmlab.model import rows as r
from mmlab.model.const import MAX_ORDER, MIGRATETYPE_NAMES, PAGEBLOCK_ORDER
from mmlab.simulation import Simulation

MAX_SAMPLES = 1000


def free_blocks(sim: Simulation) -> list[list[int]]:
    """Free blocks of each zone by order, all types together."""
    op, kinds = sim.machine.op, range(len(MIGRATETYPE_NAMES))
    return [[sum(op("page_allocator", "nr_free_blocks", z, order, kind) for kind in kinds) for order in range(MAX_ORDER + 1)] for z in range(len(sim.layout.zones))]


def huge_frames(orders: list[int]) -> int:
    """Huge frames in so many free blocks of each order."""
    return sum(count << order - PAGEBLOCK_ORDER for order, count in enumerate(orders) if order >= PAGEBLOCK_ORDER)


class Sampler:
    """Rows of counters. When there are too many every second one goes and the period doubles.

    stops: the engine's loop stops when one is due; without, whoever runs the machine looks at next_ns (a script: its operations go on to their end).
    """

    def __init__(self, sim: Simulation, period_ns: int, stops: bool = True):
        self.sim, self.period, self.stops = sim, max(1, period_ns), stops
        self.rows: list[list[int]] = []
        zones = [f"nr_free:{z.node},{z.name}" for z in sim.layout.zones]
        indices = [f"{name}:{z.node},{z.name}" for name in ("extfrag_index", "unusable_index") for z in sim.layout.zones]
        orders = [f"free_blocks:{order}" for order in range(MAX_ORDER + 1)]
        self.names = ["time_ns", "pgfault", "pgmajfault", "refaults", "rss_pages", *zones, *orders, "free_huge_frames", *indices, *self._watched()]
        self.sample()

    def sample(self) -> None:
        """Take a sample now and set the time of the next."""
        sim, sc = self.sim, self.sim.machine.sc
        counters = sim.counters()
        zones = sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[: len(sim.layout.zones)]
        blocks = free_blocks(sim)
        orders = [sum(zone[order] for zone in blocks) for order in range(MAX_ORDER + 1)]
        indices = [index(zone, PAGEBLOCK_ORDER) for index in (extfrag_index, unusable_index) for zone in blocks]
        refaults = counters["workingset_refault_anon"] + counters["workingset_refault_file"]
        self.rows.append([sim.now_ns, counters["pgfault"], counters["pgmajfault"], refaults, sim.rss_pages(), *map(int, zones[:, r.Z_FREE]), *orders,
                          huge_frames(orders), *indices, *self._watched().values()])  # fmt: skip
        if len(self.rows) >= MAX_SAMPLES:
            self.rows = self.rows[::2]
            self.period *= 2
        self.next_ns = sim.now_ns + self.period
        if self.stops:
            sc[r.SC_NEXT_SAMPLE_NS] = self.next_ns
            sc[r.SC_NEXT_EVENT_NS] = min(int(sc[r.SC_NEXT_EVENT_NS]), int(sc[r.SC_NEXT_SAMPLE_NS]))

    def _watched(self) -> dict[str, int]:
        """What is known only where accesses are watched."""
        misses = {name: count for name, count in tlb.counted(self.sim.machine).items() if name == "tlb_misses"}
        return misses | ({"bloat_pages": self.sim.bloat_pages()} if self.sim.machine.sizes.subpages else {})

    def last(self) -> dict[str, int]:
        """What the last sample says of memory: its fragmentation, and what nobody has touched; and the mean of what was resident."""
        kept = ("free_huge_frames", "extfrag_index:", "unusable_index:", "rss_pages", "bloat_pages")
        resident = [row[self.names.index("rss_pages")] for row in self.rows]
        found = {name: int(value) for name, value in zip(self.names, self.rows[-1]) if name.startswith(kept)}
        return found | {"rss_pages_mean": sum(resident) // len(resident)}

    def series(self) -> dict[str, np.ndarray]:
        """The columns, with a last sample at the end of the run."""
        if self.rows[-1][0] < self.sim.now_ns:
            self.sample()
        table = np.array(self.rows, dtype=np.int64)
        keep = np.concatenate(([True], np.diff(table[:, 0]) > 0))
        return {name: np.ascontiguousarray(table[keep, i]) for i, name in enumerate(self.names)}
