"""When MGLRU's walks of page tables find an address space used: a task that was switched in, a script's driver that looks after it."""

from mmlab._engine.script_driver import driver_waits
from mmlab._engine.simulate_case import simulation_of
from mmlab.mm.lru_gen import DRIVER_POLL_NS
from mmlab.mm.vmscan import shrink_node
from mmlab.model.const import DEF_PRIORITY, NEVER_NS, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT
from mmlab.procfs import write
from mmlab.simulation import Simulation
from mmlab.verify import read_case
from pathlib import Path

import pytest

from mmlab.model import rows as r

CASES = Path(__file__).resolve().parents[2] / "ground_truth"
pytestmark = pytest.mark.nojit
ALL = SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | 3 << SCAN_RECLAIM_IDX_SHIFT


def age(sim):
    """A new generation, as the debugfs command makes one: the time that took."""
    seq = int(sim.machine.states["reclaimer"].gen[0])
    began = sim.now_ns
    assert write(sim, "/sys/kernel/debug/lru_gen", f"+ 1 0 {seq} 1 1") == 0
    return sim.now_ns - began


def test_a_walk_takes_time_for_each_entry_and_more_for_a_young_one():
    sim = Simulation.from_table({"memory": "64M", "bare": True, "cpus": 1}, sysfs={"kernel/mm/lru_gen/enabled": "7"})
    sim.machine.cost[r.COST_WALK_PTE], sim.machine.cost[r.COST_WALK_YOUNG] = 20, 70
    sim.spawn("A")
    addr = sim.mmap("A", 1000 * 4096)
    sim.touch("A", addr, 1000, 1)
    assert age(sim) == 1000 * 90
    assert age(sim) == 1000 * 20  # all of them are old now
    sim.touch("A", addr, 10, 0)
    assert age(sim) == 1000 * 20 + 10 * 70


@pytest.fixture
def scripted():
    """The machine of a recorded case, with a driver."""
    return simulation_of(read_case(CASES / "reclaim" / "anon-swap-mglru"))


def used(sim, task):
    mm = int(sim.machine.task[task * r.TASK_STRIDE + r.T_MM])
    return bool(sim.machine.mm[mm * r.MM_STRIDE + r.MM_LRU_GEN] & r.MM_LRU_USED)


def forget(sim):
    sim.machine.mm.reshape(-1, r.MM_STRIDE)[:, r.MM_LRU_GEN] &= ~r.MM_LRU_ALL_USED


def test_a_driver_that_waits_wakes_every_20_ms(scripted):
    sim = scripted
    task = sim.spawn("A")
    driver_waits(sim, "touch")
    assert used(sim, sim._driver)
    due = sim.now_ns + DRIVER_POLL_NS
    for now, woken in ((due - 1, False), (due, True), (due + 1, False), (due + 2 * DRIVER_POLL_NS, True)):
        forget(sim)
        sim.machine.sc[r.SC_NOW_NS], sim.machine.sc[r.SC_TASK] = now, task.index
        sim.machine.run(shrink_node, 0, 0, DEF_PRIORITY, 1, ALL, 1)
        assert (used(sim, sim._driver), used(sim, task.index)) == (woken, woken)


def test_a_driver_that_sleeps_does_not(scripted):
    driver_waits(scripted, "sleep")
    assert scripted.machine.sc[r.SC_POLL_NS] == NEVER_NS
    assert Simulation.from_table({"memory": "64M", "bare": True, "cpus": 1}).machine.sc[r.SC_POLL_NS] == NEVER_NS
