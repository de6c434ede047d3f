"""What moving pages between nodes takes."""

import pytest

from mmlab.model import rows as r
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
NODES = {"memory": "128M", "cpus": 1, "bare": True, "cmdline": "transparent_hugepage=always", "nodes": [{"memory": "64M", "cpus": [0]}, {"memory": "64M"}]}


@pytest.mark.parametrize("huge, folios", [("no", 512), ("yes", 1)])
def test_moving_pages_takes_time_by_the_folio_and_by_the_page(huge, folios):
    sim = Simulation.from_table(NODES, sysfs={"kernel/mm/transparent_hugepage/enabled": "madvise"})
    sim.spawn("A")
    addr = sim.mmap("A", 2 << 20, addr=1 << 40)
    if huge == "yes":
        sim.madvise("A", addr, 2 << 20, "hugepage")
    sim.touch("A", addr, 512, 1)
    sim.machine.cost[:] = 0
    sim.machine.cost[r.COST_MIGRATE_FOLIO], sim.machine.cost[r.COST_MIGRATE_PAGE] = 100_000, 7
    began = sim.now_ns
    assert sim.mbind("A", addr, 2 << 20, "bind", [1], move=True) == 0
    assert sim.now_ns - began == folios * 100_000 + 512 * 7 and sim.check_state() == []
