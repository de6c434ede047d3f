"""Pressure stall information: totals and averages, against figures done by hand."""

import re

import pytest

from mmlab import procfs
from mmlab.kernels.jit import kernel
from mmlab.mm import psi
from mmlab.model import rows as r
from mmlab.simulation import Simulation

SECOND = 1_000_000_000


@kernel
def stall(m, ns):
    """The running task stalls for so long, nested as reclaim within a charge is."""
    psi.psi_memstall_enter(m)
    psi.psi_memstall_enter(m)
    m.sc[r.SC_NOW_NS] += ns
    psi.psi_memstall_leave(m)
    psi.psi_memstall_leave(m)
    return 0


@pytest.fixture
def sim():
    sim = Simulation.from_table({"memory": "256M", "cpus": 1, "disk": "64M"}, policies={"reclaimer": {"use": "two_list"}}, script=True)
    sim.spawn("A", cgroup="p/a")
    sim._switch(sim.task("A").index)
    return sim


def lines(sim, path="/proc/pressure/memory"):
    text = procfs.read(sim, path)
    assert re.fullmatch(r"(some|full)( avg\d+=\d+\.\d\d){3} total=\d+\n(some|full)( avg\d+=\d+\.\d\d){3} total=\d+\n", text)
    return [dict(word.split("=") for word in line.split()[1:]) for line in text.splitlines()]


def test_a_stall_counts_in_the_cgroup_and_all_above(sim):
    sim.machine.run(stall, SECOND // 2)
    for path in ("/proc/pressure/memory", "/sys/fs/cgroup/p/memory.pressure", "/sys/fs/cgroup/p/a/memory.pressure"):
        some, full = lines(sim, path)
        assert some["total"] == full["total"] == "500000"
    sim.machine.sc[r.SC_TASK] = -1  # kswapd
    sim.machine.run(stall, 1000 * 1000)
    some, full = lines(sim)
    assert (some["total"], full["total"]) == ("501000", "500000")
    assert lines(sim, "/sys/fs/cgroup/p/memory.pressure")[0]["total"] == "500000"


def test_full_needs_that_nobody_else_runs(sim):
    sim.machine.sc[r.SC_NR_LOOPS] = 1
    sim.machine.run(stall, 1000 * 1000)
    sim.machine.sc[r.SC_NR_LOOPS] = 0
    some, full = lines(sim)
    assert (some["total"], full["total"]) == ("1000", "0")


def test_averages_rise_and_decay(sim):
    sim.machine.sc[r.SC_NOW_NS] = 0
    sim.machine.run(stall, 2 * SECOND)  # all of a period of 2.004 s
    sim.sleep(10)
    some, _ = lines(sim)
    # 2 of 2.01 s are 99 %: a step towards 99 of which 1677 of 2048 parts are not yet made, rounded up
    percent, at = 99 << 11, []
    for left in (1677, 1981, 2034):
        load = percent * (2048 - left) + 2047 >> 11
        at.append(f"{load >> 11}.{(load & 2047) * 100 >> 11:02}")
    assert [some["avg10"], some["avg60"], some["avg300"]] == at == ["17.93", "3.23", "0.67"]
    sim.sleep(60_000)
    assert float(lines(sim)[0]["avg10"]) < 0.1 and 1 < float(lines(sim)[0]["avg60"]) < 1.5


def test_a_cgroup_over_its_limit_is_under_pressure(sim):
    procfs.write(sim, "/sys/fs/cgroup/p/a/memory.max", "4M")
    sim.mkfile("f", 16 << 20)
    procfs.write(sim, "/proc/sys/vm/drop_caches", "1")
    assert sim.fread("A", "f", 0, 16 << 20).ret == 16 << 20
    some, full = lines(sim, "/sys/fs/cgroup/p/a/memory.pressure")
    assert int(some["total"]) == int(full["total"]) > 1000
    assert lines(sim)[0]["total"] == some["total"]
