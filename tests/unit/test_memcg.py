"""Memory cgroups on a whole machine: charging, limits, protection, OOM, and pages' own lists."""

import pytest

from mmlab import procfs
from mmlab.mm.vmscan import shrink_node
from mmlab.model import rows as r
from mmlab.model.const import EAGAIN, EINVAL, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT, SLAB_STAT_OBJSIZE
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.simulation import Simulation

PAGE = 4096
RECLAIMERS = ("mglru", "two_list")


def machine(reclaimer="two_list", file_pages=0, **more):
    """A machine on which scripts may make cgroups, with a file that is not cached."""
    table = {"memory": "64M", "bare": True, "disk": "64M", "cmdline": "transparent_hugepage=never", **more}
    sim = Simulation.from_table(table, policies={"reclaimer": {"use": reclaimer}}, script=True, sysfs={"block/vda/queue/read_ahead_kb": "0"})
    sim.mkfile("f", file_pages * PAGE)
    procfs.write(sim, "/proc/sys/vm/drop_caches", "3")
    return sim


def cgroup(sim, path, **settings):
    from mmlab.procfs import cgroups

    cgroups.make(sim, path)
    for key, value in settings.items():
        assert write(sim, path, f"memory.{key.replace('_', '.')}", value) == 0


def write(sim, path, name, value):
    return procfs.write(sim, f"/sys/fs/cgroup/{path}/{name}", str(value))


def value(sim, path, name):
    return int(procfs.read(sim, f"/sys/fs/cgroup/{path}/{name}"))


def table(sim, path, name):
    return {line.split()[0]: int(line.split()[1]) for line in procfs.read(sim, f"/sys/fs/cgroup/{path}/{name}").splitlines()}


def fresh_anon(sim, task, pages):
    addr = sim.mmap(task, pages * PAGE)
    return addr, sim.touch(task, addr, pages, 1)


@pytest.mark.parametrize("reclaimer", RECLAIMERS)
def test_pages_are_charged_and_uncharged(reclaimer):
    sim = machine(reclaimer)
    cgroup(sim, "g")
    sim.spawn("A", cgroup="g")
    addr, _ = fresh_anon(sim, "A", 1200)
    stat = table(sim, "g", "memory.stat")
    assert stat["anon"] == 1200 * PAGE and stat["pagetables"] >= PAGE
    assert 0 <= value(sim, "g", "memory.current") - 1200 * PAGE - stat["kernel"] <= 63 * PAGE  # the stock of one CPU
    sim.munmap("A", addr, 1200 * PAGE)
    assert table(sim, "g", "memory.stat")["anon"] == 0
    sim.exit("A")
    assert value(sim, "g", "memory.current") <= 63 * PAGE
    assert sim.check_state() == []


@pytest.mark.parametrize("reclaimer", RECLAIMERS)
def test_a_limit_reclaims_from_the_cgroup_alone(reclaimer):
    sim = machine(reclaimer, 1500)
    cgroup(sim, "g", max="2M", swap_max="0")
    sim.spawn("A", cgroup="g")
    sim.spawn("B")
    sim.fread("B", "f", 0, 200 * PAGE)
    sim.fread("A", "f", 500 * PAGE, 1000 * PAGE)
    assert value(sim, "g", "memory.current") <= 2 << 20
    assert value(sim, "g", "memory.peak") == 2 << 20
    stat = table(sim, "g", "memory.stat")
    assert stat["pgsteal"] >= 1000 - 512 and stat["pgscan_direct"] >= stat["pgsteal_direct"] == stat["pgsteal"]
    vmstat = sim.counters()
    assert vmstat["pgsteal_file"] == stat["pgsteal"]
    assert vmstat["pgsteal_direct"] == vmstat["pgscan_direct"] == 0  # a cgroup's own reclaim does not count there
    assert sim.fread("B", "f", 0, 200 * PAGE).ret == 200 * PAGE
    assert sim.counters()["workingset_refault_file"] == 0  # B's pages were not touched
    assert table(sim, "g", "memory.events")["max"] > 0
    assert sim.check_state() == []


def test_a_limit_without_anything_to_reclaim_kills_in_the_cgroup():
    sim = machine()
    cgroup(sim, "g", max="2M", swap_max="0")
    sim.spawn("A", cgroup="g")
    sim.spawn("B")
    fresh_anon(sim, "B", 2000)  # more than A will have
    _, outcome = fresh_anon(sim, "A", 1000)
    assert outcome.died and not sim.alive("A") and sim.alive("B")
    events = table(sim, "g", "memory.events")
    assert (events["oom"], events["oom_kill"], events["max"]) == (1, 1, 35)  # 18 tries before the kill, 17 after
    assert [(kill["task"], kill["constraint"]) for kill in sim.kills] == [("A", "CONSTRAINT_MEMCG")]


def test_oom_group_kills_all_but_the_exempt():
    sim = machine()
    cgroup(sim, "g", max="2M", swap_max="0", oom_group="1")
    sim.spawn("A", cgroup="g")
    sim.spawn("B", cgroup="g")
    sim.spawn("C", cgroup="g", oom_score_adj=-1000)
    fresh_anon(sim, "A", 1000)
    assert [sim.alive(name) for name in "ABC"] == [False, False, True]
    assert table(sim, "g", "memory.events")["oom_group_kill"] == 1
    assert table(sim, "g", "memory.events")["oom_kill"] == 3  # the victim counts twice


def test_events_reach_the_parents_and_local_ones_do_not():
    sim = machine()
    cgroup(sim, "p", max="2M", swap_max="0")
    cgroup(sim, "p/c")
    sim.spawn("A", cgroup="p/c")
    fresh_anon(sim, "A", 1000)
    assert table(sim, "p", "memory.events")["oom"] == 1 and table(sim, "p", "memory.events.local")["oom"] == 1
    assert table(sim, "p/c", "memory.events")["oom_kill"] == 1 and table(sim, "p", "memory.events")["oom_kill"] == 1
    assert table(sim, "p", "memory.events.local")["oom_kill"] == 0


@pytest.mark.parametrize("reclaimer", RECLAIMERS)
def test_memory_high_reclaims_without_a_kill(reclaimer):
    sim = machine(reclaimer, 1000)
    cgroup(sim, "g", high="2M", swap_max="0")
    sim.spawn("A", cgroup="g")
    sim.fread("A", "f", 0, 1000 * PAGE)
    assert value(sim, "g", "memory.current") <= (2 << 20) + 64 * PAGE
    events = table(sim, "g", "memory.events")
    assert events["high"] > 0 and events["max"] == events["oom"] == 0
    assert sim.check_state() == []


@pytest.mark.parametrize("reclaimer", RECLAIMERS)
def test_memory_reclaim(reclaimer):
    sim = machine(reclaimer, 1000)
    cgroup(sim, "g")
    sim.spawn("A", cgroup="g")
    sim.fread("A", "f", 0, 1000 * PAGE)
    assert write(sim, "g", "memory.reclaim", "2M") == 0
    left = table(sim, "g", "memory.stat")["file"] // PAGE
    assert 1000 - 512 - 64 <= left <= 1000 - 512
    assert write(sim, "g", "memory.reclaim", "512M") == -EAGAIN
    assert table(sim, "g", "memory.stat")["file"] == 0
    assert write(sim, "g", "memory.reclaim", "2M swappiness=201") == -EINVAL


def test_memory_low_keeps_a_cgroups_pages_from_its_sibling():
    sim = machine(file_pages=1500)
    cgroup(sim, "p", max="3M", swap_max="0", low="1M")
    cgroup(sim, "p/a", low="1M")
    cgroup(sim, "p/b")
    sim.spawn("A", cgroup="p/a")
    sim.spawn("B", cgroup="p/b")
    sim.fread("A", "f", 0, 400 * PAGE)
    sim.fread("B", "f", 400 * PAGE, 1100 * PAGE)
    kept = table(sim, "p/a", "memory.stat")["file"]
    assert 1 << 20 <= kept < 400 * PAGE
    assert table(sim, "p/b", "memory.stat")["pgsteal"] > table(sim, "p/a", "memory.stat")["pgsteal"]
    assert table(sim, "p/a", "memory.events")["low"] == 0


def test_lowering_the_limit_below_what_is_used_kills():
    sim = machine()
    cgroup(sim, "g", swap_max="0")
    sim.spawn("A", cgroup="g")
    fresh_anon(sim, "A", 500)
    assert write(sim, "g", "memory.max", "1M") == 0
    assert not sim.alive("A") and table(sim, "g", "memory.events")["oom_kill"] == 1


@pytest.mark.parametrize("reclaimer", RECLAIMERS)
def test_swap_is_charged_and_limited(reclaimer):
    sim = machine(reclaimer, swap="64M")
    cgroup(sim, "g", max="2M", swap_max="1M")
    sim.spawn("A", cgroup="g")
    addr, _ = fresh_anon(sim, "A", 600)
    used = value(sim, "g", "memory.swap.current")
    assert 88 * PAGE <= used <= 1 << 20
    sim.sleep(10)  # what is being written stays
    sim.munmap("A", addr, 600 * PAGE)
    assert value(sim, "g", "memory.swap.current") <= 64 * PAGE  # slots that the CPU keeps are still charged
    assert not sim.kills
    fresh_anon(sim, "A", 1000)  # 512 + 256 are all it may have
    assert [kill["task"] for kill in sim.kills] == ["A"]
    assert sim.check_state() == []


def test_limits_read_back_and_bad_ones_are_refused():
    sim = machine()
    cgroup(sim, "g", max="1000K")
    assert procfs.read(sim, "/sys/fs/cgroup/g/memory.max") == "1024000\n"
    assert procfs.read(sim, "/sys/fs/cgroup/g/memory.high") == "max\n"
    for text in ("", "-1", "1X", "low"):
        assert write(sim, "g", "memory.max", text) == -EINVAL
    assert procfs.read(sim, "/sys/fs/cgroup/g/memory.max") == "1024000\n"


def test_a_child_is_in_its_parents_cgroup_and_procs_moves_tasks():
    sim = machine()
    cgroup(sim, "g")
    cgroup(sim, "h")
    sim.spawn("A", cgroup="g")
    sim.fork("A", "B")
    pids = {name: sim.tasks[name].pid for name in "AB"}
    assert procfs.read(sim, "/sys/fs/cgroup/g/cgroup.procs") == f"{pids['A']}\n{pids['B']}\n"
    assert write(sim, "h", "cgroup.procs", pids["B"]) == 0
    assert int(sim.machine.task[sim.tasks["B"].index * r.TASK_STRIDE + r.T_MEMCG]) == sim.cgroups["h"]


def kernel_bytes(sim, path):
    return int(sim.machine.memcg[sim.cgroups[path] * r.MEMCG_STRIDE + r.MC_KMEM_BYTES])


def full_size(sim, *caches):
    """obj_full_size() of an object of each cache: what the slab gives it, and the note of whom it is charged to."""
    return sum(sim.machine.op("slab_allocator", "stat", cache, SLAB_STAT_OBJSIZE) + 8 for cache in caches)


def test_kernel_objects_are_charged_to_their_tasks_cgroup():
    sim = machine()
    cgroup(sim, "g")
    sim.spawn("A", cgroup="g")
    start = kernel_bytes(sim, "g")
    addr = sim.mmap("A", 4 * PAGE)
    vma = full_size(sim, r.CACHE_VM_AREA_STRUCT, r.CACHE_VMA_LOCK)
    assert vma == 176 + 8 + 40 + 8 and kernel_bytes(sim, "g") == start + vma
    sim.touch("A", addr, 4, 1)
    anon = full_size(sim, r.CACHE_ANON_VMA, r.CACHE_ANON_VMA_CHAIN)
    assert kernel_bytes(sim, "g") == start + vma + anon
    sim.mprotect("A", addr + PAGE, PAGE, "r")  # three VMAs, each on the list of the anon_vma
    assert kernel_bytes(sim, "g") == start + 3 * vma + anon + 2 * full_size(sim, r.CACHE_ANON_VMA_CHAIN)
    assert table(sim, "g", "memory.stat")["slab"] == (kernel_bytes(sim, "g") + PAGE - 1) // PAGE * PAGE
    sim.munmap("A", addr, 4 * PAGE)
    assert kernel_bytes(sim, "g") == start
    assert sim.check_state() == []


def test_a_task_of_no_cgroup_is_charged_for_no_objects():
    sim = machine()
    cgroup(sim, "g")
    sim.spawn("A")
    sim.mmap("A", 4 * PAGE)
    assert kernel_bytes(sim, "g") == 0


def test_a_forked_childs_kernel_stack_counts():
    sim = machine()
    cgroup(sim, "g")
    sim.spawn("A", cgroup="g")
    before = table(sim, "g", "memory.stat")
    assert before["kernel_stack"] == 0  # A was made by somebody outside
    sim.fork("A", "B")
    after = table(sim, "g", "memory.stat")
    assert after["kernel_stack"] == 16 << 10 and after["kernel"] == after["kernel_stack"] + after["pagetables"] + after["slab"]
    sim.exit("B")
    assert table(sim, "g", "memory.stat")["kernel_stack"] == 0


def filled_groups(*paths):
    """Cgroups with 2000 clean pages each, and what a pass of reclaim over one of them takes from each: passes(path, full) -> [bool]."""
    sim = machine("two_list", file_pages=2000 * len(paths))
    flags = SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | ZONE_MOVABLE << SCAN_RECLAIM_IDX_SHIFT
    for number, path in enumerate(paths):
        cgroup(sim, path)
        sim.spawn(path, cgroup=path)
        sim.fread(path, "f", number * 2000 * PAGE, 2000 * PAGE)

    def passes(path, full=0):
        before = [table(sim, path, "memory.stat")["pgsteal"] for path in paths]
        sim.machine.sc[r.SC_NR_RECLAIMED] = 0
        sim.machine.run(shrink_node, 0, sim.cgroups[path], 5, 32, flags, full)  # priority 5: 2000 >> 5 pages of a cgroup
        assert sim.check_state() == []
        return [table(sim, path, "memory.stat")["pgsteal"] > old for path, old in zip(paths, before)]

    return sim, passes


def test_passes_over_a_cgroup_begin_again_where_only_other_cgroups_stand_behind_the_last():
    sim, passes = filled_groups("g", "h")
    assert [passes("g") for _ in range(3)] == [[True, False]] * 3


def test_a_pass_over_cgroups_goes_on_behind_the_one_that_had_enough():
    """The first pass takes from the parent's own pages and stops, the next ones begin at its children. A full pass takes from all and does not
    move that place. (What a child gives counts for its parent too.)"""
    sim, passes = filled_groups("g", "g/a", "g/b")
    group = sim.cgroups["g"]
    assert passes("g") == [True, False, False]
    assert passes("g", full=1) == [True, True, True]
    assert sim.machine.reclaim_iter[group] == group + 1
    assert [passes("g")[1:] for _ in range(3)] == [[True, False], [False, True], [False, False]]
