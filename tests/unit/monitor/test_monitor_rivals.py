"""Monitors that compete with DAMON, on a small machine: what each sees of the same touches, and what it cannot see."""

import numpy as np
import pytest
from mmlab_rivals.monitor.pebs import DRAINED, DROPPED, SAMPLED, THROTTLED

from mmlab.kernels.jit import JIT_OFF
from mmlab.model.const import READ, WRITE
from mmlab.model.page import PG_IDLE, PG_REFERENCED, PG_YOUNG
from mmlab.model.rows import SC_MONITOR_CHECKS, SC_MONITOR_NS, SC_MONITOR_TIMER_NS, SC_NOW_NS
from mmlab.procfs.resident import resident_pages
from mmlab.simulation import Simulation

pytestmark = [pytest.mark.nojit, pytest.mark.skipif(not JIT_OFF, reason="ops on a whole machine: python build")]
PAGE = 4096


class Watched:
    """A task with 8 pages, all touched once, and a monitor."""

    def __init__(self, monitor: str, **params: int):
        chosen = {"monitor": {"use": monitor, "params": params}, "thp": {"use": "never"}, "reclaimer": {"use": "two_list"}}
        self.sim = Simulation.from_table({"memory": "16M", "bare": True}, policies=chosen)
        self.machine, self.state = self.sim.machine, self.sim.machine.states["monitor"]
        self.machine.sc[SC_MONITOR_TIMER_NS] = 1 << 62  # it samples when the test says so
        self.sim.spawn("A")
        self.addr = self.sim.mmap("A", 8 * PAGE)
        self.other = self.sim.mmap("A", 4 * PAGE, prot="r", addr=self.addr + 64 * PAGE, flags=["fixed"])
        self.touch(*range(8), access=WRITE)
        self.machine.op("reclaimer", "drain", 0)  # from the CPU's batch to the lists

    def touch(self, *pages: int, access: int = READ) -> None:
        for page in pages:
            self.sim.touch("A", self.addr + page * PAGE, 1, access)

    def sample(self) -> int:
        wait = self.machine.op("monitor", "sample", self.sim.now_ns)
        assert self.sim.check_state() == []
        return wait

    def heat(self) -> list[float]:
        """Of the 8 pages."""
        pages = resident_pages(self.machine, [0])
        heat, age = self.sim.policies["monitor"].policy.estimate(self.machine, self.state, pages)
        assert age is None
        return heat[(pages.vpn >= self.addr >> 12) & (pages.vpn < (self.addr >> 12) + 8)].tolist()

    def pfn(self, page: int) -> int:
        pages = resident_pages(self.machine, [0])
        return int(pages.pfn[pages.vpn == (self.addr >> 12) + page][0])

    def checks(self) -> int:
        return int(self.machine.sc[SC_MONITOR_CHECKS])


def test_idle_page_sees_what_was_used_since_it_was_marked():
    w = Watched("idle_page", window=2)
    assert w.sample() == 100_000_000
    assert w.heat() == [1] * 8  # new pages are not idle
    w.touch(2, 5)
    w.sample()
    assert w.heat() == [1, 1, 2, 1, 1, 2, 1, 1]
    w.sample()
    assert w.heat() == [0, 0, 1, 0, 0, 1, 0, 0]
    assert w.machine.page[4 * w.pfn(2) + 2] & PG_YOUNG  # reclaim still learns of it
    # whoever clears the mark without touching a mapping has used the page, too
    w.machine.page[4 * w.pfn(7) + 2] &= np.uint32(0xFFFFFFFF & ~PG_IDLE)
    w.sample()
    assert w.heat()[7] == 1


def test_idle_page_walks_each_page_on_a_list_twice():
    w = Watched("idle_page")
    before = w.sim.now_ns
    w.sample()
    assert w.checks() == 2 * 8
    assert w.sim.now_ns - before == 16 * 150  # vm_guest's scan_page


def test_clear_refs_knows_maps_and_not_pages():
    w = Watched("clear_refs")
    w.sample()
    w.touch(1, 2)
    w.sample()
    assert w.heat() == [0.25] * 8  # 2 of 8
    rows = {row["start"]: row for row in w.sim.policies["monitor"].policy.report(w.machine, w.state)}
    assert (rows[w.addr]["nr_pages"], rows[w.addr]["nr_referenced"]) == (8, 2)
    assert rows[w.other]["nr_pages"] == 0
    assert not w.machine.page[4 * w.pfn(1) + 2] & (PG_YOUNG | PG_REFERENCED)  # reclaim does not learn of it
    w.sample()
    assert w.heat() == [0] * 8
    assert w.checks() == 3 * 2 * 8


def pebs(**params: int) -> Watched:
    return Watched("pebs", **{"max_sample_rate": 0, "record_ns": 250, "drain_ns": 150, **params})


def test_pebs_takes_every_nth_access():
    w = pebs(period=3)
    before = w.sim.now_ns
    for vpn in (10, 11, 12, 13, 14, 15, 16):
        w.machine.op("monitor", "on_access", 0, vpn, READ)
    assert w.state.seen[SAMPLED] == w.checks() == 2  # 12 and 15
    assert w.sim.now_ns - before == 2 * 250 == w.machine.sc[SC_MONITOR_NS]
    assert w.sample() == 10_000_000
    assert w.sim.now_ns - before == 2 * 250 + 2 * 150
    assert w.state.seen[DRAINED] == 2
    assert sorted((w.state.key[w.state.key > 0] - 1).tolist()) == [12, 15]


def test_pebs_drops_what_finds_a_full_buffer():
    w = pebs(period=1, buffer=4)
    for vpn in range(10):
        w.machine.op("monitor", "on_access", 0, vpn, READ)
    assert [int(w.state.seen[i]) for i in (SAMPLED, DROPPED)] == [4, 6]
    w.sample()
    w.machine.op("monitor", "on_access", 0, 99, READ)
    assert [int(w.state.seen[i]) for i in (SAMPLED, DROPPED)] == [5, 6]


def test_pebs_is_throttled_within_a_tick():
    w = pebs(period=1, max_sample_rate=500, record_ns=0)  # 2 a tick of 4 ms
    for vpn in range(5):
        w.machine.op("monitor", "on_access", 0, vpn, READ)
    assert [int(w.state.seen[i]) for i in (SAMPLED, THROTTLED)] == [2, 3]
    w.machine.sc[SC_NOW_NS] += 4_000_000
    w.machine.op("monitor", "on_access", 0, 7, READ)
    assert [int(w.state.seen[i]) for i in (SAMPLED, THROTTLED)] == [3, 3]


def test_pebs_estimates_samples_of_the_last_window():
    w = pebs(period=1, window_ms=10, table_order=12)
    w.machine.sc[SC_NOW_NS] = 12_000_000
    for page, times in ((0, 3), (4, 1)):
        for _ in range(times):
            w.machine.op("monitor", "on_access", 0, (w.addr >> 12) + page, READ)
    w.machine.sc[SC_NOW_NS] = 21_000_000
    w.sample()
    assert w.heat() == [3, 0, 0, 0, 1, 0, 0, 0]
    w.machine.sc[SC_NOW_NS] = 31_000_000
    assert w.heat() == [0] * 8


@pytest.mark.parametrize("access", [READ, WRITE])
def test_hint_fault_measures_the_time_from_scan_to_access(access):
    w = Watched("hint_fault", scan_period_ms=100)
    w.touch(0)
    assert w.sample() == 100_000_000
    faults = w.sim.counters()["pgfault"]
    w.machine.sc[SC_NOW_NS] += 9_000_000
    w.touch(3, access=access)
    w.touch(3, access=access)  # present again: no second fault
    assert w.sim.counters()["pgfault"] == faults + 1
    w.machine.sc[SC_NOW_NS] += 12_000_000
    w.touch(6, access=access)
    assert w.heat() == [0, 0, 0, 1 / 3, 0, 0, 1 / 6, 0]  # 9 ms are two ticks and a bit, 21 ms five
    w.sample()
    w.sample()
    assert w.heat() == [0] * 8  # scanned again, and nobody came
    assert w.state.seen.tolist() == [8 + 2, 2]
    assert w.checks() == 10


def test_hint_fault_scans_so_much_and_goes_on_from_there():
    w = Watched("hint_fault", scan_size_mb=1)
    more = w.sim.mmap("A", 600 * PAGE)
    w.sim.touch("A", more, 600, WRITE)
    seen = []
    for _ in range(4):
        w.sample()
        seen.append(int(w.state.seen[0]))
    assert w.state.seen[0] == w.checks()
    # 256 pages of maps each: the maps have 612 pages, of which 4 were never touched; those that wait already do not count again
    assert seen[0] <= 256 and seen[-1] == 608 and sorted(seen) == seen
