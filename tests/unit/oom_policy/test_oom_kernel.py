"""What the kernel does around the OOM policy: vm.panic_on_oom, vm.oom_kill_allocating_task, SysRq f, and the report of it."""

import pytest

from mmlab.errors import MmlabError, NotSupported
from mmlab._engine.script_dmesg import dmesg
from mmlab.model.const import EINVAL
from mmlab.procfs.cgroups import make, write as set_limit
from mmlab.procfs.registry import read, write
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
PAGE = 4096
ALL = 2040  # of 8 MiB: more than the machine has for a task, not more than mmap() allows
SYSRQ = "/proc/sysrq-trigger"


def simulation(sysctl=None, script=False, **table):
    return Simulation.from_table({"memory": "8M", "cpus": 1, "bare": True, **table}, sysctl=sysctl, script=script)


def fill(sim, name, nr_pages, adj=0, cgroup=None):
    sim.spawn(name, oom_score_adj=adj, cgroup=cgroup)
    address = sim.mmap(name, nr_pages * PAGE)
    assert address > 0
    sim.touch(name, address, nr_pages, 1)


def victims(sim):
    return [(kill["task"], kill["by"]) for kill in sim.kills]


def test_panic_on_oom():
    sim = simulation({"vm.panic_on_oom": "1"})
    with pytest.raises(MmlabError, match="vm.panic_on_oom is set: the machine panics"):
        fill(sim, "A", ALL)
    assert sim.kills == []


@pytest.mark.parametrize("mode, panics", [("1", False), ("2", True)])
def test_panic_on_oom_in_a_cgroup(mode, panics):
    sim = simulation({"vm.panic_on_oom": mode}, script=True, memory="128M", bare=False)
    group = make(sim, "g")
    assert set_limit(sim, group, "memory.max", "2M") == 0
    if panics:
        with pytest.raises(MmlabError, match="panics"):
            fill(sim, "A", 3000, cgroup="g")
    else:
        fill(sim, "A", 3000, cgroup="g")
        assert victims(sim) == [("A", "kernel")]


def test_nobody_to_kill_is_a_panic_and_no_endless_loop():
    sim = simulation()
    with pytest.raises(MmlabError, match="named nobody to kill: the machine panics"):
        fill(sim, "A", ALL, adj=-1000)


def test_values_of_the_sysctls():
    sim = simulation()
    assert write(sim, "/proc/sys/vm/panic_on_oom", "3") == -EINVAL and read(sim, "/proc/sys/vm/panic_on_oom") == "0\n"
    assert write(sim, "/proc/sys/vm/oom_kill_allocating_task", "7") == 0 and read(sim, "/proc/sys/vm/oom_kill_allocating_task") == "7\n"


def test_oom_kill_allocating_task_can_be_switched_while_the_machine_runs():
    sim = simulation()
    fill(sim, "A", 1200)
    assert write(sim, "/proc/sys/vm/oom_kill_allocating_task", "1") == 0
    fill(sim, "B", 900)
    assert victims(sim) == [("B", "kernel")]
    assert [(row["task"], row["score"]) for row in sim.candidates][0] == ("B", 1 << 40)
    assert write(sim, "/proc/sys/vm/oom_kill_allocating_task", "0") == 0
    fill(sim, "C", 900)
    assert victims(sim)[1] == ("A", "kernel")


def test_sysrq_f_kills_the_worst_though_there_is_memory():
    """As Linux 6.12 does: the worst first; an exempt task is left and the request ignored; oom_kill_allocating_task does not matter."""
    sim = simulation({"vm.oom_kill_allocating_task": "1"})
    fill(sim, "A", 300)
    fill(sim, "B", 100, adj=500)
    fill(sim, "C", 500, adj=-1000)
    for _ in range(3):
        assert write(sim, SYSRQ, "f\n") == 0
    assert victims(sim) == [("B", "sysrq"), ("A", "sysrq")]
    assert sim.counters()["oom_kill"] == 2 and sim.alive("C") and not sim.alive("A")
    assert sim.rss_pages() == 500 and not sim.check_state()
    text = dmesg(sim.kills)
    assert text.count("sysrq: Manual OOM execution") == 2
    assert "kworker/0:0 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=-1, oom_score_adj=0" in text
    with pytest.raises(NotSupported, match="sysrq-trigger = m"):
        write(sim, SYSRQ, "m")


@pytest.mark.parametrize("mode, panics", [("1", False), ("2", True)])
def test_sysrq_f_panics_only_where_every_oom_does(mode, panics):
    sim = simulation({"vm.panic_on_oom": mode})
    fill(sim, "A", 100)
    if panics:
        with pytest.raises(MmlabError, match="panics"):
            write(sim, SYSRQ, "f")
    else:
        assert write(sim, SYSRQ, "f") == 0
        assert victims(sim) == [("A", "sysrq")]


def test_the_report_says_who_asked():
    sim = simulation()
    fill(sim, "A", 1500)
    fill(sim, "B", 600)
    assert victims(sim) == [("A", "kernel")] and sim.kills[0]["invoker"] == "B" and sim.kills[0]["ns"] > 0
    assert "] B invoked oom-killer" in dmesg(sim.kills)
