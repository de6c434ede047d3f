"""lru_gen/enabled while the machine runs: every page changes sides, in its order, active or not."""

import pytest

from mmlab.errors import NotSupported
from mmlab.model.const import EINVAL
from mmlab.procfs.registry import read, write
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
ENABLED, DEBUG = "/sys/kernel/mm/lru_gen/enabled", "/sys/kernel/debug/lru_gen"
PAGE = 4096
LISTS = ("nr_inactive_anon", "nr_active_anon", "nr_inactive_file", "nr_active_file", "nr_unevictable")


def machine(use, pages=600, **table):
    sim = Simulation.from_table({"memory": "8M", "bare": True, "swap": "16M", "disk": "16M", "cpus": 1, **table}, policies={"reclaimer": {"use": use}})
    sim.mkfile("f", 200 * PAGE)
    sim.spawn("A")
    a = sim.mmap("A", pages * PAGE)
    sim.touch("A", a, pages, 1)
    b = sim.mmap("A", 50 * PAGE)
    assert sim.mlock("A", b, 50 * PAGE) == 0
    for cpu in range(sim.machine.sizes.nr_cpus):
        sim.machine.op("reclaimer", "drain", cpu)
    return sim, a


def sizes(sim):
    assert write(sim, "/proc/sys/vm/stat_refresh", "1") == 0
    return [int(line.split()[1]) for name in LISTS for line in read(sim, "/proc/vmstat").splitlines() if line.split()[0] == name]


@pytest.mark.parametrize("use, value, other", [("two_list", "y", "mglru"), ("mglru", "0", "two_list")])
def test_pages_change_sides(use, value, other):
    sim, _ = machine(use)
    before, counters = sizes(sim), sim.counters()
    assert write(sim, ENABLED, value) == 0
    assert sim.policies["reclaimer"].policy.name == other and not sim.check_state()
    assert read(sim, ENABLED) == ("0x0007\n" if other == "mglru" else "0x0000\n")
    after = sizes(sim)
    assert sum(after) == sum(before) and after[4] == before[4] == 50
    # anonymous pages join the youngest generation but one, which counts as active; what was active stays so
    assert after[1] == (before[0] + before[1] if other == "mglru" else before[1]) and after[3] >= before[3]
    events = {name for name in counters if name.startswith(("pg", "workingset", "unevictable"))}
    assert {name: sim.counters()[name] for name in events} == {name: counters[name] for name in events}


@pytest.mark.parametrize("use, value", [("two_list", "y"), ("mglru", "0")])
def test_a_script_s_driver_stays_where_it_is(use, value):
    """Its pages are mlocked and on the list of unevictable ones."""
    sim = Simulation.from_table({"memory": "256M", "cpus": 1}, policies={"reclaimer": {"use": use}}, script=True)
    before = sizes(sim)
    assert write(sim, ENABLED, value) == 0 and not sim.check_state()
    after = sizes(sim)
    assert after[4] == before[4] and sum(after) == sum(before)


def test_there_and_back_and_on_under_pressure():
    sim, a = machine("mglru")
    sim.touch("A", sim.mmap("A", 1500 * PAGE), 1500, 1)  # some go to swap, with shadows
    for value in ("n", "y", "n", "y"):
        assert write(sim, ENABLED, value) == 0 and not sim.check_state()
        assert sim.touch("A", a, 600, 1).ret >= 0  # they come back by shadows of the other kind, others leave
        assert not sim.check_state()
    assert sim.counters()["pswpin"] > 0


def test_debugfs_comes_and_goes():
    sim, _ = machine("two_list")
    with pytest.raises(NotSupported):
        read(sim, DEBUG)
    assert write(sim, ENABLED, "7") == 0
    rows = [line.split() for line in read(sim, DEBUG).splitlines()[2:]]
    assert sum(int(row[2]) for row in rows) == 600
    assert write(sim, ENABLED, "n") == 0
    with pytest.raises(NotSupported):
        read(sim, DEBUG)


def test_what_cannot_be_written():
    sim, _ = machine("clock")
    assert write(sim, ENABLED, "x") == -EINVAL
    assert write(sim, ENABLED, "0") == 0 and read(sim, ENABLED) == "0x0000\n"
    with pytest.raises(NotSupported, match="with reclaimer 'clock'"):
        write(sim, ENABLED, "7")
