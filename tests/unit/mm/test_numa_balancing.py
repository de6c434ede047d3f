"""NUMA balancing and memory tiers: what a scan marks, what hinting faults move, what reclaim demotes."""

from __future__ import annotations

import pytest
from mm_script import Ran

from mmlab._engine.script import run_script
from mmlab.mm.numa_balancing import task_tick_numa
from mmlab.model import rows as r
from mmlab.model.vmstat import V_NUMA_HINT_FAULTS, V_NUMA_PAGES_MIGRATED, V_NUMA_PTE_UPDATES
from mmlab.procfs import write
from mmlab.simulation import Simulation
from mmlab.workload.ops import parse_ops

pytestmark = pytest.mark.nojit
NODES = {"memory": "128M", "cpus": 1, "bare": True, "nodes": [{"memory": "64M", "cpus": [0]}, {"memory": "64M"}]}
TIERS = {**NODES, "hmat": [[0, 0, 10, 10], [0, 1, 20, 5]]}
ON_NODE_1 = """
spawn A
set_mempolicy A bind nodes=1
mmap A r {pages} anon at=0x10040000000
touch A r 0 {pages} w
set_mempolicy A default
snapshot s0
"""
COUNTERS = ("numa_pte_updates", "numa_hint_faults", "numa_hint_faults_local", "numa_pages_migrated")


def deltas(ran, first, last, names=COUNTERS):
    return [ran.vmstat(last, name) - ran.vmstat(first, name) for name in names]


def node_pages(ran, label, addr=0x10040000000):
    line = next(text for text in ran.files[f"{label}/A.numa_maps"].decode().splitlines() if text.startswith(f"{addr:08x} "))
    return {int(word[1]): int(word[3:]) for word in line.split() if word[0] == "N" and word[2] == "="}


@pytest.mark.parametrize("access, faults", [("r", 512), ("w", 1024)])
def test_pages_follow_the_task_that_uses_them(access, faults):
    ran = Ran(ON_NODE_1.format(pages=512) + f"loop A r 0 512 1500 {access}\nsnapshot s1\nloop A r 0 512 3000 r\nsnapshot s2\n", **NODES)
    assert deltas(ran, "s0", "s1") == [512, 512, 0, 512]
    assert ran.minflt(7) == [faults]  # a page that moved is mapped read-only: a write faults once more
    assert node_pages(ran, "s0") == {1: 512} and node_pages(ran, "s1") == {0: 512}
    assert deltas(ran, "s1", "s2") == [0, 0, 0, 0]  # what is local is not marked


def test_the_first_scan_comes_after_a_second_of_run_time_not_of_waiting():
    ran = Ran(ON_NODE_1.format(pages=64) + "loop A r 0 64 800 r\nsleep 5000\nsnapshot s1\nloop A r 0 64 400 r\nsnapshot s2\n", **NODES)
    assert deltas(ran, "s0", "s1") == [0, 0, 0, 0]
    assert deltas(ran, "s1", "s2") == [64, 64, 0, 64]


def test_bound_and_shared_memory_and_copy_on_write_pages_are_not_marked():
    ran = Ran(
        ON_NODE_1.format(pages=64)
        + """mmap A b 64 anon at=0x10080000000
mbind A b 0 64 bind nodes=1
touch A b 0 64 w
mmap A s 64 anon shared at=0x100c0000000
mbind A s 0 64 preferred nodes=1
touch A s 0 64 w
fork A B
loop A b 0 64 600 r
loop A s 0 64 600 r
loop A r 0 64 3000 r
snapshot s1
kill B
loop A r 0 64 3000 r
loop A r 0 64 3000 r
loop A r 0 64 3000 r
snapshot s2
""",
        **NODES,
    )
    assert deltas(ran, "s0", "s1") == [0, 0, 0, 0]
    assert deltas(ran, "s1", "s2") == [64, 64, 0, 64]  # alone again, its own pages are


def test_shared_memory_without_a_policy_follows_too_and_its_local_pages_fault():
    ran = Ran(
        """
spawn A
mmap A s 64 anon shared at=0x10040000000
touch A s 0 32 w
set_mempolicy A bind nodes=1
touch A s 32 32 w
set_mempolicy A default
snapshot s0
loop A s 0 64 1500 w
snapshot s1
""",
        **NODES,
    )
    assert ran.minflt(8) == [64]  # writable at once, moved or not
    assert deltas(ran, "s0", "s1") == [64, 64, 32, 32]
    assert node_pages(ran, "s0") == {0: 32, 1: 32} and node_pages(ran, "s1") == {0: 64}


def test_switched_off_nothing_is_scanned_and_what_was_marked_is_usable():
    ran = Ran(ON_NODE_1.format(pages=512) + "loop A r 0 64 1500 r\nsnapshot s1\nsysctl kernel.numa_balancing 0\nloop A r 0 512 3000 w\nsnapshot s2\n", **NODES)
    assert deltas(ran, "s0", "s1") == [512, 64, 0, 64]
    assert deltas(ran, "s1", "s2") == [0, 0, 0, 0] and node_pages(ran, "s2") == {0: 64, 1: 448}


def test_a_task_that_sleeps_whenever_the_timer_ticks_is_not_scanned(tmp_path):
    """Passes of 1 ms begin every 4 ms, as often as the timer ticks: of four tasks that begin a millisecond apart one is running at each tick."""
    marked = []
    for wait in range(4):
        sim = Simulation.from_table(NODES, script=True)
        sim.machine.cost[r.COST_HIT] = 62_500
        script = ON_NODE_1.lstrip().replace("snapshot s0\n", "").format(pages=16)
        run_script(sim, parse_ops(script + f"sleep {wait}\nloop A r 0 16 4500 r period=4000", "test"), tmp_path / f"out{wait}", tmp_path)
        marked.append(int(sim.machine.vmstat[V_NUMA_PTE_UPDATES]))
    assert sorted(marked) == [0, 0, 0, 16]


def begun_scan(cost_ns, before, mode=1):
    """A task with 64 local pages and 64 on node 1, its scan taking cost_ns an entry looked at, as much to ask for a page's tier and as much for
    one it marks, at the first tick after `before` ms of run time without balancing: (what the clock moved, the stamp that the next scan is counted from)."""
    sim = Simulation.from_table(NODES)
    machine = sim.machine
    assert write(sim, "/proc/sys/kernel/numa_balancing", "0") == 0
    task = sim.spawn("A").index
    addr = sim.mmap("A", 128 * 4096)
    sim.touch("A", addr, 64, 1)
    sim.set_mempolicy("A", "bind", [1])
    sim.touch("A", addr + 64 * 4096, 64, 1)
    sim.set_mempolicy("A", "default")
    assert write(sim, "/proc/sys/kernel/numa_balancing", str(mode)) == 0
    for cost in (r.COST_NUMA_SCAN, r.COST_NODE_IS_TOPTIER, r.COST_PROT_NUMA):
        machine.cost[cost] = cost_ns
    row = task * r.NT_STRIDE
    sim.sleep(2000)
    machine.numa_task[row + r.NT_RUNTIME], machine.sc[r.SC_RUN_SINCE_NS] = before * 1_000_000, machine.sc[r.SC_NOW_NS]
    began = sim.now_ns
    machine.run(task_tick_numa, task)
    return sim.now_ns - began, int(machine.numa_task[row + r.NT_NODE_STAMP]) // 1_000_000


def test_a_scan_takes_time_for_pages_that_it_leaves_alone_as_well():
    took, _ = begun_scan(1000, 1500)
    assert took == 128 * 1000 + 64 * 1000 + 64 * 1000
    took, _ = begun_scan(1000, 1500, mode=2)
    assert took == 128 * 1000 + 64 * 1000  # both nodes are of the top tier: none is marked, but of the other's pages that had to be found out
    took, _ = begun_scan(1000, 1500, mode=3)
    assert took == 128 * 1000 + 64 * (2 * 1000 + 1000)  # asked twice: may it be marked, is the time of the scan to be noted


def test_a_promotion_takes_the_time_of_six_questions_for_a_tier():
    def took(cost_ns):
        sim = Simulation.from_table(TIERS)
        machine = sim.machine
        assert write(sim, "/proc/sys/kernel/numa_balancing", "2") == 0
        task = sim.spawn("A").index
        sim.set_mempolicy("A", "bind", [1])
        addr = sim.mmap("A", 62 * 4096)  # two batches of 31: all are on LRU lists
        sim.touch("A", addr, 62, 1)
        sim.set_mempolicy("A", "default")
        sim.sleep(2000)
        machine.numa_task[task * r.NT_STRIDE + r.NT_RUNTIME], machine.sc[r.SC_RUN_SINCE_NS] = 1_500_000_000, machine.sc[r.SC_NOW_NS]
        machine.run(task_tick_numa, task)
        machine.cost[r.COST_NODE_IS_TOPTIER] = cost_ns
        began = sim.now_ns
        sim.touch("A", addr, 62, 0)
        assert [int(machine.vmstat[item]) for item in (V_NUMA_HINT_FAULTS, V_NUMA_PAGES_MIGRATED)] == [62, 62] and sim.check_state() == []
        return sim.now_ns - began

    assert took(1000) - took(0) == 62 * 6 * 1000


def test_a_stamp_that_is_behind_catches_up_at_the_ticks_within_the_scan():
    """128 entries of 256 us and 64 of twice that more take 65.5 ms, 16 ticks: they put the next scan off by 32 times as much, and by two ticks."""
    assert begun_scan(256_000, 1500)[1] == 1000 + 8 + 16 * 4 * 32
    assert begun_scan(256_000, 3500)[1] == 3000 + 8 + 16 * 4 * 32  # 1000 at the tick that began it, 2000 and 3000 within


def test_scan_size_bounds_what_one_scan_marks():
    settings = "write /sys/kernel/debug/sched/numa_balancing/scan_size_mb 2\ncat /sys/kernel/debug/sched/numa_balancing/scan_size_mb size\n"
    ran = Ran(settings + ON_NODE_1.lstrip().format(pages=2048) + "loop A r 0 8 1100 r\nsnapshot s1\n", **NODES)
    assert ran.files["size"] == b"2\n"
    assert deltas(ran, "s0", "s1")[0] == 512


def test_the_scan_period_doubles_while_only_remote_private_faults_are_seen():
    ran = Ran(ON_NODE_1.format(pages=64) + "loop A r 0 64 1500 r\nsnapshot s1\n", **NODES)
    task = ran.sim.task("A").index * r.NT_STRIDE
    assert ran.sim.machine.numa_task[task + r.NT_SCAN_PERIOD] == 2000
    assert ran.sim.machine.numa_task[task + r.NT_LOCALITY : task + r.NT_LOCALITY + 3].tolist() == [64, 0, 0]


PROMOTION = ("numa_hint_faults", "pgpromote_candidate", "pgpromote_success", "numa_pages_migrated")


def test_memory_tiering_promotes_pages_used_soon_after_their_scan():
    ran = Ran(ON_NODE_1.format(pages=512) + "sysctl kernel.numa_balancing 2\nloop A r 0 256 2500 r\nsnapshot s1\n", cmdline="numa_balancing=disable", **TIERS)
    assert deltas(ran, "s0", "s1", ("numa_pte_updates", *PROMOTION)) == [512, 256, 256, 256, 256]
    assert node_pages(ran, "s1") == {0: 256, 1: 256}


def test_a_cold_page_is_not_promoted():
    setting = "write /sys/kernel/debug/sched/numa_balancing/hot_threshold_ms 0\nsysctl kernel.numa_balancing 2\n"
    ran = Ran(ON_NODE_1.format(pages=512) + setting + "loop A r 0 256 2500 r\nsnapshot s1\n", cmdline="numa_balancing=disable", **TIERS)
    assert deltas(ran, "s0", "s1", PROMOTION)[1:] == [0, 0, 0]
    assert deltas(ran, "s0", "s1", PROMOTION)[0] >= 256


def test_the_rate_limit_leaves_candidates_where_they_are():
    setting = "sysctl kernel.numa_balancing_promote_rate_limit_MBps 1\nsysctl kernel.numa_balancing 2\n"
    ran = Ran(ON_NODE_1.format(pages=1024) + setting + "loop A r 0 1024 1500 r\nsnapshot s1\n", cmdline="numa_balancing=disable", **TIERS)
    faults, candidates, promoted, _ = deltas(ran, "s0", "s1", PROMOTION)
    # 1 MB of pages, within one second; the CPU tells of candidates only when more than the node's threshold (/proc/zoneinfo) have come
    step = 1 + max(int(ran.sim.machine.zone[i * r.ZONE_STRIDE + r.Z_STAT_THRESHOLD]) for i, zone in enumerate(ran.sim.layout.zones) if zone.node == 0)
    assert step == 3
    assert faults == candidates == 1024 and promoted == -(-256 // step) * step - 1 == 257


def test_without_memory_tiering_a_slow_node_is_left_alone_where_nobody_was_seen_before():
    ran = Ran(ON_NODE_1.format(pages=64) + "loop A r 0 64 1500 r\nsnapshot s1\n", cmdline="numa_balancing=enable", **TIERS)
    assert deltas(ran, "s0", "s1") == [64, 64, 0, 0]


FILL = """
spawn A
sysfs mm/numa/demotion_enabled {on}
set_mempolicy A bind nodes=0
mmap A r 20000 anon at=0x10040000000
touch A r 0 20000 w
snapshot s1
"""


@pytest.mark.parametrize("lru_gen", [0, 1])
def test_reclaim_demotes_to_the_slower_node_whatever_the_policy_says(lru_gen):
    ran = Ran(FILL.format(on=1), sysfs={"kernel/mm/lru_gen/enabled": lru_gen}, **TIERS)
    on = node_pages(ran, "s1")
    demoted = ran.vmstat("s1", "pgdemote_kswapd") + ran.vmstat("s1", "pgdemote_direct")
    assert on[0] + on[1] == 20000 and 3000 < on[1] <= demoted < on[1] + 400  # some of the driving process's pages go, too
    assert ran.vmstat("s1", "pgsteal_anon") + ran.vmstat("s1", "pgsteal_file") == demoted and ran.vmstat("s1", "pswpout") == 0


def test_without_demotion_the_bound_task_dies_while_the_other_node_is_free():
    ran = Ran(FILL.format(on=0), **TIERS)
    assert ran.op[5].get("died") and [kill["constraint"] for kill in ran.sim.kills] == ["CONSTRAINT_MEMORY_POLICY"]


def test_pageout_does_not_demote():
    ran = Ran(
        "spawn A\nsysfs mm/numa/demotion_enabled 1\nmmap A r 512 anon at=0x10040000000\ntouch A r 0 512 w\nmadvise A r 0 512 pageout\nsnapshot s1\n", swap="16M", **TIERS
    )
    assert ran.vmstat("s1", "pswpout") == 512
    assert ran.vmstat("s1", "pgdemote_direct") == 0


def test_demotion_enabled_reads_and_refuses():
    ran = Ran("cat /sys/kernel/mm/numa/demotion_enabled a\nsysfs mm/numa/demotion_enabled maybe\nsysfs mm/numa/demotion_enabled Y\ncat /sys/kernel/mm/numa/demotion_enabled b\n", **TIERS)
    assert ran.files["a"] == b"false\n" and ran.ret(2, 3) == [-22, 0] and ran.files["b"] == b"true\n"
