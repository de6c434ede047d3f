"""NUMA: shared memory's policies, cpusets, zone_reclaim_mode, and what confines the OOM killer. Two nodes of 32 MiB with a CPU each."""

from __future__ import annotations

import pytest

from mmlab import Simulation
from mmlab.errors import InputError, NotSupported
from mmlab.procfs import cgroups, cpusets, read, write

pytestmark = pytest.mark.nojit
PAGE = 4096
TWO_NODES = {
    "memory": "64M", "cpus": 2, "bare": True, "disk": "64M", "cmdline": "transparent_hugepage=never",
    "nodes": [{"memory": "32M", "cpus": [0]}, {"memory": "32M", "cpus": [1]}],
}  # fmt: skip
FOUR_NODES = {
    **TWO_NODES, "memory": "128M", "nodes": [{"memory": "32M", "cpus": [0]}, {"memory": "32M", "cpus": [1]}, {"memory": "32M"}, {"memory": "32M"}],
}  # fmt: skip
AT = 0x10040000000


@pytest.fixture
def sim():
    return Simulation.from_table(TWO_NODES, script=True)


def region(sim, name, pages, at=AT, shared=False, touch=True):
    flags = {"fixed_noreplace", "shared"} if shared else {"fixed_noreplace"}
    assert sim.mmap(name, pages * PAGE, flags=flags, addr=at) == at
    if touch:
        sim.touch(name, at, pages, 1)
    return at


def nodes_of(sim, name, at):
    """{node: pages} of the VMA that begins at `at`, and its policy, from numa_maps."""
    for line in read(sim, f"/proc/{sim.task(name).pid}/numa_maps").splitlines():
        words = line.split()
        if int(words[0], 16) == at:
            return {int(w[1:].partition("=")[0]): int(w.partition("=")[2]) for w in words if w[0] == "N" and w[1].isdigit()}, words[1]
    raise AssertionError("no such VMA")


def cgroup(sim, name, **files):
    row = cgroups.make(sim, name)
    for key, value in files.items():
        assert cgroups.write(sim, row, f"cpuset.{key}", value) == 0
    return row


def test_shared_memory_takes_its_policy_from_the_object_whoever_maps_it(sim):
    sim.spawn("A", cpu=0)
    region(sim, "A", 64, shared=True, touch=False)
    assert sim.mbind("A", AT, 16 * PAGE, "bind", [1]) == 0
    assert sim.mbind("A", AT + 16 * PAGE, 16 * PAGE, "interleave", [0, 1]) == 0
    sim.fork("A", "B")
    sim.touch("B", AT, 64, 1)
    assert nodes_of(sim, "A", AT) == ({}, "bind:1")
    sim.touch("A", AT, 64, 1)
    assert nodes_of(sim, "A", AT)[0] == {1: 16}
    assert nodes_of(sim, "A", AT + 16 * PAGE) == ({0: 8, 1: 8}, "interleave:0-1")
    assert nodes_of(sim, "A", AT + 32 * PAGE) == ({0: 32}, "default")
    assert sim.check_state() == []


def test_shared_memory_is_interleaved_from_its_inode_number_on(sim):
    """A page's turn is number + index: numbers are 2, 3, … on the CPU that booted, 1024, … on the next (batches of 1024)."""
    sim.spawn("A", cpu=0)
    sim.spawn("B", cpu=1)
    for name in "AB":
        assert sim.set_mempolicy(name, "interleave", [0, 1]) == 0
    places = [region(sim, name, 3, AT + i * (1 << 30), shared=True) for i, name in enumerate("AABBA")]
    numbers = [int(line.split()[4]) for name in "AB" for line in read(sim, f"/proc/{sim.task(name).pid}/maps").splitlines() if "/dev/zero" in line]
    assert numbers == [2, 3, 4, 1024, 1025]
    even, odd = ({0: 2, 1: 1}, "interleave:0-1"), ({0: 1, 1: 2}, "interleave:0-1")
    assert [nodes_of(sim, name, at) for name, at in zip("AABBA", places, strict=True)] == [even, odd, even, odd, even]


def test_a_new_policy_replaces_the_middle_of_an_old_one(sim):
    sim.spawn("A", cpu=0)
    region(sim, "A", 48, shared=True, touch=False)
    sim.mbind("A", AT, 48 * PAGE, "bind", [1])
    sim.mbind("A", AT + 16 * PAGE, 16 * PAGE, "default")
    sim.touch("A", AT, 48, 1)
    assert [nodes_of(sim, "A", AT + at * PAGE) for at in (0, 16, 32)] == [({1: 16}, "bind:1"), ({0: 16}, "default"), ({1: 16}, "bind:1")]


def test_a_cpuset_confines_allocation_whatever_the_policy_says(sim):
    cgroup(sim, "g", mems="1")
    sim.spawn("A", cpu=0, cgroup="g")
    region(sim, "A", 16)
    assert nodes_of(sim, "A", AT) == ({1: 16}, "default")
    assert sim.set_mempolicy("A", "bind", [0]) == sim.set_mempolicy("A", "preferred", [0]) == -22
    assert sim.set_mempolicy("A", "interleave", [0, 1]) == 0
    region(sim, "A", 16, AT + (1 << 30))
    assert nodes_of(sim, "A", AT + (1 << 30)) == ({1: 16}, "interleave:1")
    assert "Mems_allowed_list:\t1\n" in read(sim, f"/proc/{sim.task('A').pid}/status")


def test_a_change_of_mems_moves_pages_and_renumbers_policies_place_by_place():
    sim = Simulation.from_table(FOUR_NODES, script=True)
    row = cgroup(sim, "g", mems="1,2")
    sim.spawn("A", cpu=0, cgroup="g")
    sim.set_mempolicy("A", "interleave", [1, 2])
    places = [AT + (i << 30) for i in range(4)]
    for at, policy in zip(places, (None, ("bind", [2]), ("preferred", [1]), ("preferred_many", [0, 2]))):
        region(sim, "A", 32, at, touch=False)
        if policy:
            assert sim.mbind("A", at, 32 * PAGE, *policy) == 0
        sim.touch("A", at, 16, 1)
    assert cgroups.write(sim, row, "cpuset.mems", "0,3") == 0  # 1 becomes 0, 2 becomes 3; preferences stay as they are
    assert nodes_of(sim, "A", places[0]) == ({0: 8, 3: 8}, "interleave:0,3")
    assert nodes_of(sim, "A", places[1]) == ({3: 16}, "bind:3")
    assert nodes_of(sim, "A", places[2])[0] == {0: 16}
    assert nodes_of(sim, "A", places[3])[0] == {3: 16}
    sim.touch("A", places[3] + 16 * PAGE, 16, 1)  # none of {2} is allowed: the nearest to CPU 0
    assert nodes_of(sim, "A", places[3])[0] == {0: 16, 3: 16}
    assert cgroups.write(sim, row, "cpuset.mems", "0,1,2,3") == 0  # as in the kernel, a policy does not grow again
    assert nodes_of(sim, "A", places[0])[1] == "interleave:0-1"
    assert sim.check_state() == []


def test_pages_on_a_node_that_stays_allowed_do_not_move(sim):
    row = cgroup(sim, "g", mems="0,1")
    sim.spawn("A", cpu=0, cgroup="g")
    region(sim, "A", 16, touch=False)
    sim.mbind("A", AT, 16 * PAGE, "interleave", [0, 1])
    sim.touch("A", AT, 16, 1)
    before = sim.counters()["pgmigrate_success"]
    assert cgroups.write(sim, row, "cpuset.mems", "1") == 0
    assert nodes_of(sim, "A", AT) == ({1: 16}, "interleave:1")
    assert sim.counters()["pgmigrate_success"] - before >= 8


@pytest.mark.parametrize("text, answer", [("x", -22), ("7", -22), ("2-1", -22), ("2000", -34), ("0-1", 0), ("", 0)])
def test_what_cpuset_mems_refuses(sim, text, answer):
    row = cgroup(sim, "g", mems="1")
    assert cgroups.write(sim, row, "cpuset.mems", text) == answer
    assert cgroups.read(sim, row, "cpuset.mems") == ("0-1\n" if text == "0-1" else "1\n")
    with pytest.raises(NotSupported):
        cgroups.write(sim, row, "cpuset.mems.effective", "0")


def test_cpuset_cpus_moves_a_task_and_forbids_other_cpus(sim):
    sim.spawn("A", cpu=0)
    cgroup(sim, "g", cpus="1")
    assert write(sim, "/sys/fs/cgroup/g/cgroup.procs", str(sim.task("A").pid)) == 0
    region(sim, "A", 4)
    assert nodes_of(sim, "A", AT)[0] == {1: 4}  # it runs on CPU 1 now
    assert read(sim, "/sys/fs/cgroup/g/cpuset.cpus.effective") == "1\n"


def test_a_task_whose_cpuset_is_full_is_killed_while_other_nodes_are_free(sim):
    cgroup(sim, "g", mems="1")
    sim.spawn("B", cpu=0)
    sim.spawn("A", cpu=0, cgroup="g")
    assert sim.mmap("A", 9000 * PAGE, flags={"fixed_noreplace", "noreserve"}, addr=AT) == AT
    assert sim.touch("A", AT, 9000, 1).died
    assert [(kill["task"], kill["constraint"]) for kill in sim.kills] == [("A", "CONSTRAINT_CPUSET")]
    sim.spawn("C", cpu=0)
    sim.set_mempolicy("C", "bind", [1])
    assert sim.mmap("C", 9000 * PAGE, flags={"fixed_noreplace", "noreserve"}, addr=AT) == AT
    assert sim.touch("C", AT, 9000, 1).died
    assert sim.kills[-1]["task"] == "C" and sim.kills[-1]["constraint"] == "CONSTRAINT_MEMORY_POLICY"
    assert sim.check_state() == []


def fill_with_cache(sim):
    """Clean cache fills node 0 down to its low watermark, some of it node 1."""
    sim.spawn("A", cpu=0)
    sim.mkfile("f", 34 << 20)
    write(sim, "/proc/sys/vm/drop_caches", "3")
    sim.fread("A", "f", 0, 34 << 20)


@pytest.mark.parametrize("mode, lru_gen, local", [(0, 1, False), (1, 1, False), (1, 0, True), (7, 1, True)])
def test_zone_reclaim_mode_takes_local_cache_before_it_goes_elsewhere(mode, lru_gen, local):
    sim = Simulation.from_table(TWO_NODES, script=True, sysfs={"kernel/mm/lru_gen/enabled": lru_gen})
    fill_with_cache(sim)
    assert write(sim, "/proc/sys/vm/zone_reclaim_mode", str(mode)) == 0
    before = sim.counters()
    region(sim, "A", 1000)
    after = sim.counters()
    on, _ = nodes_of(sim, "A", AT)
    assert (on.get(0, 0) > 700) == local
    success, failed = (after[f"zone_reclaim_{what}"] - before[f"zone_reclaim_{what}"] for what in ("success", "failed"))
    assert (success > 0) == local
    assert (failed > 0) == (mode == 1 and lru_gen == 1)  # generations are not scanned unless pages may be written and unmapped
    assert sim.check_state() == []


def test_node_reclaim_leaves_a_node_alone_that_has_cpus_of_its_own():
    sim = Simulation.from_table(TWO_NODES, script=True)
    fill_with_cache(sim)
    write(sim, "/proc/sys/vm/zone_reclaim_mode", "7")
    sim.spawn("B", cpu=1)
    before = sim.counters()
    region(sim, "B", 1000, touch=False)
    sim.mbind("B", AT, 1000 * PAGE, "preferred", [0])
    sim.touch("B", AT, 1000, 1)
    after = sim.counters()
    assert all(after[f"zone_reclaim_{what}"] == before[f"zone_reclaim_{what}"] for what in ("success", "failed"))
    assert nodes_of(sim, "B", AT)[0].get(1, 0) > 0  # what node 0 has not free comes from its own


def test_a_task_on_a_cpu_that_is_not_there_is_an_error(sim):
    with pytest.raises(InputError, match="CPU 2 does not exist: the machine has 2"):
        sim.spawn("A", cpu=2)


def test_whose_pages_go_where_when_mems_change():
    def plan(old, new):
        return cpusets.migrations(frozenset(old), frozenset(new))

    assert plan({1, 2}, {0, 3}) == [(1, 0), (2, 3)]
    assert plan({0, 1}, {1, 2}) == [(1, 2), (0, 1)]  # node 1 is empty before 0 comes
    assert plan({0, 1}, {1, 0}) == []
    assert sorted(plan({0, 1, 2}, {2})) == [(0, 2), (1, 2)]  # what is on 2 stays
    assert plan({0}, {0, 1}) == []
