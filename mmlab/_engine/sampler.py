"""Time series on the simulated clock."""

from __future__ import annotations

import numpy as np

from mmlab.model import rows as r
from mmlab.simulation import Simulation

MAX_SAMPLES = 1000


class Sampler:
    """Rows of counters. When there are too many every second one goes and the period doubles."""

    def __init__(self, sim: Simulation, period_ns: int):
        self.sim, self.period = sim, max(1, period_ns)
        self.rows: list[list[int]] = []
        zones = [f"nr_free:{z.node},{z.name}" for z in sim.layout.zones]
        self.names = ["time_ns", "pgfault", "pgmajfault", "refaults", "rss_pages", *zones, *(f"free_blocks:{order}" for order in range(11))]
        self.sample()

    def sample(self) -> None:
        """Take a sample now and set the time of the next."""
        sim, sc = self.sim, self.sim.machine.sc
        counters = sim.counters()
        zones = sim.machine.zone.reshape(-1, r.ZONE_STRIDE)[: len(sim.layout.zones)]
        orders = [sum(sim.machine.op("page_allocator", "nr_free_blocks", z, o, t) for z in range(len(sim.layout.zones)) for t in range(5)) for o in range(11)]
        refaults = counters["workingset_refault_anon"] + counters["workingset_refault_file"]
        self.rows.append([sim.now_ns, counters["pgfault"], counters["pgmajfault"], refaults, sim.rss_pages(), *map(int, zones[:, r.Z_FREE]), *orders])
        if len(self.rows) >= MAX_SAMPLES:
            self.rows = self.rows[::2]
            self.period *= 2
        sc[r.SC_NEXT_SAMPLE_NS] = sim.now_ns + self.period
        sc[r.SC_NEXT_EVENT_NS] = min(int(sc[r.SC_NEXT_EVENT_NS]), int(sc[r.SC_NEXT_SAMPLE_NS]))

    def series(self) -> dict[str, np.ndarray]:
        """The columns, with a last sample at the end of the run."""
        if self.rows[-1][0] < self.sim.now_ns:
            self.sample()
        table = np.array(self.rows, dtype=np.int64)
        keep = np.concatenate(([True], np.diff(table[:, 0]) > 0))
        return {name: np.ascontiguousarray(table[keep, i]) for i, name in enumerate(self.names)}
