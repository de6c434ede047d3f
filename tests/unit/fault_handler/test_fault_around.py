"""Fault-around: which pages of a file a fault finds in the page cache."""

import pytest

from mmlab.procfs import write
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
BASE, PAGE = 0x10000000000, 4096


def test_a_fault_that_reads_on_looks_around_again():
    sim = Simulation.from_table({"memory": "128M", "disk": "64M"})
    sim.spawn("A")
    own = sim.rss_pages()
    sim.mkfile("f", 100 * PAGE)
    assert write(sim, "/proc/sys/vm/drop_caches", "1") == 0
    addr = sim.mmap("A", 100 * PAGE, flags=["fixed"], addr=BASE, file=sim.open("f"))

    def touch(page, pages=1):
        cost = sim.touch("A", addr + page * PAGE, pages, 0)
        return cost.majflt, cost.minflt, sim.rss_pages() - own

    assert touch(24) == (1, 0, 16)  # reads [8, 40) around it, with a mark at 32; maps [16, 32)
    # [33, 40) is there; the mark has [40, 72) read, with a mark at 40; then 32 and [41, 48) are there too
    assert touch(32) == (0, 1, 16 + 7 + 1 + 7)
    assert touch(41, 7) == (0, 0, 31)
    assert touch(40)[1] == 1
    assert sim.check_state() == []
