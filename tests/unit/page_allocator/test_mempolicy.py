"""NUMA policies: which node each page comes from, what numastat makes of it, and mbind() with MPOL_MF_MOVE."""

from __future__ import annotations

import numpy as np
import pytest

from mmlab.kernels.pte import walk_pmd, walk_pte
from mmlab.kernels.zones import page_node
from mmlab.model import rows as r
from mmlab.model.const import EINVAL, WRITE
from mmlab.model.vmstat import V_PGMIGRATE_SUCCESS
from mmlab.procfs import read, write
from mmlab.simulation import Simulation

WEIGHTS = "/sys/kernel/mm/mempolicy/weighted_interleave/node"


def a_machine(nodes: int = 2) -> Simulation:
    """128 MiB a node; node 0 has the CPU, and a task A."""
    sim = Simulation.from_table(
        {"memory": f"{128 * nodes}M", "cpus": 1, "cmdline": "transparent_hugepage=never",
         "nodes": [{"memory": "128M", "cpus": [0]}] + [{"memory": "128M"}] * (nodes - 1)},
    )  # fmt: skip
    sim.spawn("A")
    return sim


def nodes_of(sim: Simulation, addr: int, pages: int) -> list[int]:
    """The node of each page of a range."""
    m = sim.machine
    mm = int(m.task[sim.tasks["A"].index * r.TASK_STRIDE + r.T_MM])
    return [m.run(page_node, int(m.pt[m.run(walk_pte, mm, (addr >> 12) + i)]) >> r.PTE_SHIFT) for i in range(pages)]


def touched(sim: Simulation, pages: int) -> int:
    addr = sim.mmap("A", pages << 12, prot="rw")
    sim.touch("A", addr, pages, WRITE)
    return addr


def counts(sim: Simulation, field: int) -> list[int]:
    """A zone counter, by node."""
    rows = sim.machine.zone[: len(sim.layout.zones) * r.ZONE_STRIDE].reshape(-1, r.ZONE_STRIDE)
    return np.bincount([z.node for z in sim.layout.zones], rows[:, field]).astype(int).tolist()


@pytest.mark.parametrize("policy, nodes, wanted", [
    ("default", (), [0] * 12), ("local", (), [0] * 12), ("preferred", (), [0] * 12), ("preferred", (1, 2), [1] * 12), ("bind", (2,), [2] * 12),
    ("bind", (1, 2), [1] * 12), ("preferred_many", (2,), [2] * 12), ("interleave", (0, 2), [0, 2] * 6), ("weighted_interleave", (0, 1), [0, 0, 0, 1] * 3),
])  # fmt: skip
def test_pages_of_a_range_follow_its_policy(policy, nodes, wanted):
    sim = a_machine(3)
    assert write(sim, WEIGHTS + "0", "3") == 0
    assert sim.set_mempolicy("A", policy, nodes) == 0
    addr = touched(sim, 12)
    turn = {"interleave": (addr >> 12) % 2, "weighted_interleave": (addr >> 12) % 4}.get(policy, 0)
    assert nodes_of(sim, addr, 12) == (wanted * 2)[turn : turn + 12]
    assert sim.check_state() == []


def test_a_range_with_a_policy_of_its_own_does_not_follow_the_task():
    sim = a_machine()
    addr = sim.mmap("A", 8 << 12, prot="rw")
    assert sim.set_mempolicy("A", "bind", [1]) == 0 and sim.mbind("A", addr, 4 << 12, "local") == 0
    sim.touch("A", addr, 8, WRITE)
    assert nodes_of(sim, addr, 8) == [0] * 4 + [1] * 4
    lines = [line.split()[1] for line in read(sim, f"/proc/{sim.tasks['A'].pid}/numa_maps").splitlines() if line.split()[0] in (f"{addr:x}", f"{addr + 0x4000:x}")]
    assert lines == ["local", "bind:1"]


def test_numastat_of_policies():
    sim = a_machine()
    before = counts(sim, r.Z_NUMA_HIT), counts(sim, r.Z_NUMA_OTHER), counts(sim, r.Z_NUMA_INTERLEAVE)
    assert sim.set_mempolicy("A", "interleave", [0, 1]) == 0
    touched(sim, 100)
    after = counts(sim, r.Z_NUMA_HIT), counts(sim, r.Z_NUMA_OTHER), counts(sim, r.Z_NUMA_INTERLEAVE)
    hit, other, interleave = ([y - x for x, y in zip(old, new)] for old, new in zip(before, after))
    assert hit == interleave and min(hit) >= 50 and sum(hit) < 120  # the rest: page tables and slabs, by turns
    assert other == [0, hit[1]] and counts(sim, r.Z_NUMA_MISS) == [0, 0]


def test_a_bound_task_never_leaves_its_nodes_and_a_preferring_one_does():
    sim = a_machine()
    free = sum(int(sim.machine.zone[i * r.ZONE_STRIDE + r.Z_FREE]) for i, z in enumerate(sim.layout.zones) if z.node == 1)
    assert sim.set_mempolicy("A", "preferred", [1]) == 0
    addr = touched(sim, free + 100)
    assert set(nodes_of(sim, addr, 100)) == {1} and 0 in nodes_of(sim, addr + (free << 12), 100)
    assert counts(sim, r.Z_NUMA_FOREIGN)[1] == counts(sim, r.Z_NUMA_MISS)[0] > 0
    assert sim.set_mempolicy("A", "bind", [1]) == 0
    sim.touch("A", sim.mmap("A", 4096 << 12, prot="rw"), 4096, WRITE)
    assert [kill["task"] for kill in sim.kills] == ["A"]


def test_mbind_moves_only_what_lies_outside_and_is_not_shared():
    sim = a_machine()
    addr = touched(sim, 64)
    assert sim.mbind("A", addr, 32 << 12, "bind", [1]) == 0 and nodes_of(sim, addr, 64) == [0] * 64
    assert sim.mbind("A", addr, 32 << 12, "bind", [1], move=True) == 0
    assert nodes_of(sim, addr, 64) == [1] * 32 + [0] * 32
    assert sim.mbind("A", addr, 64 << 12, "interleave", [0, 1], move=True) == 0
    assert nodes_of(sim, addr, 64) == [1] * 32 + [0] * 32
    assert sim.machine.vmstat[V_PGMIGRATE_SUCCESS] == 32
    sim.fork("A", "B")
    assert sim.mbind("A", addr, 64 << 12, "bind", [0], move=True) == 0
    assert nodes_of(sim, addr, 64) == [1] * 32 + [0] * 32
    assert sim.check_state() == []


@pytest.mark.parametrize("policy", ["default", "local", "preferred"])
def test_a_policy_without_nodes_moves_every_page_to_the_task(policy):
    sim = a_machine()
    assert sim.set_mempolicy("A", "interleave", [0, 1]) == 0
    addr = touched(sim, 64)
    assert sim.set_mempolicy("A", "default") == 0
    assert sim.mbind("A", addr, 64 << 12, policy, move=True) == 0
    assert nodes_of(sim, addr, 64) == [0] * 64
    assert sim.machine.vmstat[V_PGMIGRATE_SUCCESS] == 64  # those that were on node 0 already as well
    assert sim.check_state() == []


def test_pages_that_madv_free_has_in_its_batch_move_too():
    sim = a_machine()
    addr = touched(sim, 20)
    assert sim.madvise("A", addr, 20 << 12, "free") == 0  # fewer than a batch holds
    assert sim.mbind("A", addr, 20 << 12, "bind", [1], move=True) == 0
    assert nodes_of(sim, addr, 20) == [1] * 20
    assert sim.check_state() == []


def test_a_child_has_its_parents_policy():
    sim = a_machine()
    assert sim.set_mempolicy("A", "bind", [1]) == 0
    sim.fork("A", "B")
    task = sim.machine.task
    assert task[sim.tasks["B"].index * r.TASK_STRIDE + r.T_MEMPOLICY] == task[sim.tasks["A"].index * r.TASK_STRIDE + r.T_MEMPOLICY] != 0


@pytest.mark.parametrize("policy, nodes", [("bind", [5]), ("bind", []), ("interleave", []), ("default", [0]), ("local", [0]), ("preferred_many", [])])
def test_sets_that_a_policy_cannot_have(policy, nodes):
    sim = a_machine()
    addr = touched(sim, 1)
    assert sim.set_mempolicy("A", policy, nodes) == sim.mbind("A", addr, 4096, policy, nodes) == -EINVAL


def test_weights_are_read_and_written():
    sim = a_machine()
    assert read(sim, WEIGHTS + "1") == "1\n"
    assert write(sim, WEIGHTS + "1", "256") == write(sim, WEIGHTS + "1", "much") == -EINVAL
    assert write(sim, WEIGHTS + "1", "7") == 0 and read(sim, WEIGHTS + "1") == "7\n"
    assert write(sim, WEIGHTS + "1", "0") == 0 and read(sim, WEIGHTS + "1") == "1\n"


def node_free(sim: Simulation, node: int) -> int:
    rows = sim.machine.zone[: len(sim.layout.zones) * r.ZONE_STRIDE].reshape(-1, r.ZONE_STRIDE)
    return int(rows[[z.node == node for z in sim.layout.zones], r.Z_FREE].sum())


def test_many_preferred_nodes_are_left_only_at_their_min_watermarks_and_then_the_local_node_is_a_hit():
    sim = Simulation.from_table(
        {"memory": "192M", "cpus": 1, "cmdline": "transparent_hugepage=never",
         "nodes": [{"memory": "128M", "cpus": [0]}, {"memory": "32M"}, {"memory": "32M"}]},
    )  # fmt: skip
    sim.spawn("A")
    free = node_free(sim, 1) + node_free(sim, 2)
    before = {field: counts(sim, field) for field in (r.Z_NUMA_HIT, r.Z_NUMA_MISS, r.Z_NUMA_FOREIGN)}
    assert sim.set_mempolicy("A", "preferred_many", [1, 2]) == 0
    addr = touched(sim, free + 1000)
    line = next(line for line in read(sim, f"/proc/{sim.tasks['A'].pid}/numa_maps").splitlines() if line.startswith(f"{addr:x}"))
    where = [int(word.split("=")[1]) for word in line.split() if word[0] == "N"]
    assert where[0] >= 1000 and where[1] + where[2] > free - 2500  # some stay on per-CPU lists
    hit, miss, foreign = ([y - x for x, y in zip(before[field], counts(sim, field))] for field in (r.Z_NUMA_HIT, r.Z_NUMA_MISS, r.Z_NUMA_FOREIGN))
    assert miss == [0, 0, miss[2]] and foreign == [0, miss[2], 0]  # within the set, only its second node is a miss
    assert miss[2] >= where[2] and hit[0] >= where[0]  # the second try, from all nodes, begins at the task's own
    rows = sim.machine.zone[: len(sim.layout.zones) * r.ZONE_STRIDE].reshape(-1, r.ZONE_STRIDE)
    for row, zone in zip(rows, sim.layout.zones):
        if zone.node:
            assert row[r.Z_FREE] <= row[r.Z_WMARK_MIN]
    assert sim.check_state() == []


def huge_machine(defrag: str) -> Simulation:
    sim = Simulation.from_table(
        {"memory": "640M", "cpus": 1, "cmdline": "transparent_hugepage=always", "nodes": [{"memory": "96M", "cpus": [0]}, {"memory": "544M"}]}, script=True,
    )  # fmt: skip
    assert write(sim, "/sys/kernel/mm/transparent_hugepage/defrag", defrag) == 0
    sim.spawn("A")
    return sim


@pytest.mark.parametrize("defrag, policy, nodes, remote", [
    ("never", "default", (), 0), ("never", "preferred", (0,), 0), ("never", "bind", (0, 1), 0), ("never", "interleave", (0, 1), 1),
    ("never", "preferred_many", (0, 1), 1), ("always", "default", (), 1),
])  # fmt: skip
def test_huge_pages_leave_a_full_node_only_by_interleaving_or_where_the_fault_may_reclaim(defrag, policy, nodes, remote):
    sim = huge_machine(defrag)
    pages = node_free(sim, 0) - 2048
    touched_small = sim.mmap("A", pages << 12, prot="rw")
    sim.madvise("A", touched_small, pages << 12, "nohugepage")
    sim.touch("A", touched_small, pages, WRITE)
    assert sim.set_mempolicy("A", policy, nodes) == 0
    size = 64 << 20
    addr = sim.mmap("A", size + (2 << 20), prot="rw")
    addr = (addr + (2 << 20) - 1) >> 21 << 21
    before = sim.counters()["thp_fault_alloc"]
    sim.touch("A", addr, size >> 12, WRITE)
    lines = read(sim, f"/proc/{sim.tasks['A'].pid}/numa_maps").splitlines()
    huge = sim.counters()["thp_fault_alloc"] - before
    assert huge >= 16 if remote else huge <= 4
    assert any("N1=" in line for line in lines if int(line.split()[0], 16) >= min(addr, touched_small))  # small ones spill whatever the policy
    assert sim.check_state() == []


def test_a_collapse_takes_the_node_of_most_small_pages_whatever_the_policy():
    sim = huge_machine("never")
    addr = sim.mmap("A", 4 << 20, prot="rw")
    addr = (addr + (2 << 20) - 1) >> 21 << 21
    assert sim.madvise("A", addr, 2 << 20, "nohugepage") == 0
    for start, pages, node in ((0, 200, 0), (200, 312, 1)):
        assert sim.set_mempolicy("A", "bind", [node]) == 0
        sim.touch("A", addr + (start << 12), pages, WRITE)
    assert sim.set_mempolicy("A", "bind", [0]) == 0
    assert sim.madvise("A", addr, 2 << 20, "hugepage") == 0 and sim.madvise("A", addr, 2 << 20, "collapse") == 0
    m = sim.machine
    entry = int(m.pt[m.run(walk_pmd, int(m.task[sim.tasks["A"].index * r.TASK_STRIDE + r.T_MM]), addr >> 12)])
    assert entry & r.PTE_HUGE and m.run(page_node, entry >> r.PTE_SHIFT) == 1
    assert sim.check_state() == []


@pytest.mark.parametrize("mode, answer", [("0", 0), ("1", -EINVAL)])
def test_nodes_that_are_far_apart_are_not_collapsed_into_one_when_each_reclaims_by_itself(mode, answer):
    sim = Simulation.from_table(
        {"memory": "1G", "cpus": 1, "cmdline": "transparent_hugepage=always", "nodes": [{"memory": "512M", "cpus": [0]}, {"memory": "512M"}],
         "distances": [[0, 1, 40]]}, script=True,
    )  # fmt: skip
    sim.spawn("A")
    assert write(sim, "/proc/sys/vm/zone_reclaim_mode", mode) == 0
    addr = (sim.mmap("A", 4 << 20, prot="rw") + (2 << 20) - 1) >> 21 << 21
    assert sim.madvise("A", addr, 2 << 20, "nohugepage") == 0
    assert sim.set_mempolicy("A", "interleave", [0, 1]) == 0
    sim.touch("A", addr, 512, WRITE)
    assert sim.madvise("A", addr, 2 << 20, "hugepage") == 0 and sim.madvise("A", addr, 2 << 20, "collapse") == answer
    assert sim.check_state() == []
