"""What DAMON costs this host a region and sampling interval, on 1, 16 and 256 GiB: it grows with regions, not with memory.

All of memory but a sixteenth is one task's, in huge pages; DAMON watches it by virtual addresses in about 1000 regions. A round is 60 sampling
intervals (three aggregations: checks, merges, splits, traces), the sizes in turn; medians of the rounds.
"""

from __future__ import annotations

import statistics
import time

import pytest

from mmlab.model import rows as r
from mmlab.simulation import Simulation

pytestmark = pytest.mark.bench

SIZES = (1, 16, 256)  # GiB
REGIONS, INTERVALS, ROUNDS = 1000, 60, 7
AT_MOST_NS, WITHIN = 500, 1.5


class Watched:
    """A machine of so many GiB whose memory DAMON watches."""

    def __init__(self, gib: int):
        params = {"min_nr_regions": REGIONS, "max_nr_regions": REGIONS}
        self.sim = sim = Simulation.from_table({"memory": f"{gib}G", "bare": True}, policies={"monitor": {"use": "damon", "params": params}})
        sim.machine.sc[r.SC_MONITOR_TIMER_NS] = 1 << 62  # the benchmark is its clock
        sim.spawn("A")
        for small in (0x400000, 0x7FFFFFFFD000):  # three areas, as DAMON looks for
            sim.mmap("A", 4096, addr=small, flags=["fixed"])
        pages = (gib << 18) // 16 * 15
        start = sim.mmap("A", pages << 12, addr=0x10000000000, flags=["fixed", "noreserve"])
        assert sim.touch("A", start, pages // 512, 1, stride_pages=512).ret == 0
        for _ in range(2 * INTERVALS):
            self.interval()

    def checks(self) -> int:
        return int(self.sim.machine.sc[r.SC_MONITOR_CHECKS])

    def interval(self) -> None:
        machine = self.sim.machine
        machine.sc[r.SC_NOW_NS] += machine.op("monitor", "sample", int(machine.sc[r.SC_NOW_NS]))

    def round(self) -> float:
        """ns of CPU time a region and interval."""
        before, begin = self.checks(), time.process_time()
        for _ in range(INTERVALS):
            self.interval()
        return (time.process_time() - begin) / (self.checks() - before) * 1e9


def test_damon(record_property):
    machines = {gib: Watched(gib) for gib in SIZES}
    rounds = [{gib: machine.round() for gib, machine in machines.items()} for _ in range(ROUNDS)]
    ns = {gib: statistics.median(one[gib] for one in rounds) for gib in SIZES}
    spread = max(ns.values()) / min(ns.values())
    assert all(REGIONS * INTERVALS / 3 < machine.checks() for machine in machines.values())
    record_property("mmlab", ", ".join(f"{ns[gib]:.0f} ns at {gib} GiB" for gib in SIZES))
    record_property("ratio", spread)
    record_property("goal", f"at most {AT_MOST_NS} ns a region and interval, within {WITHIN}x")
    record_property("met", max(ns.values()) <= AT_MOST_NS and spread <= WITHIN)
