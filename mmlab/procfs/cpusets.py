"""cpuset.mems and cpuset.cpus of a cgroup: what its tasks may use, and what a change does to them.

Models: kernel/cgroup/cpuset.c update_nodemask(), update_nodemasks_hier(), cpuset_update_tasks_nodemask(), cpuset_attach(),
update_cpumask(); mm/mempolicy.c mpol_rebind_policy(), do_migrate_pages(). Left out: partitions, exclusive sets, hot-plug.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from mmlab.errors import NotSupported
from mmlab.mm import mempolicy
from mmlab.mm.cpuset import migrate_to_node
from mmlab.model import rows as r
from mmlab.model.const import EINVAL
from mmlab.procfs.mempolicy import node_ranges
from mmlab.procfs.walk import vmas

ERANGE, ENOSPC = 34, 28
MAX_NUMNODES, NR_CPUS = 1024, 8192
FILES = ("cpuset.mems", "cpuset.cpus", "cpuset.mems.effective", "cpuset.cpus.effective")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@attrs.define
class Cpuset:
    """What was written to a cgroup's files: sets of nodes and CPUs; empty ones mean the parent's."""

    mems: frozenset[int] = frozenset()
    cpus: frozenset[int] = frozenset()


def parse_list(text: str, limit: int) -> frozenset[int] | int:
    """Numbers of a list such as ``0,2-3``; -EINVAL for what is none, -ERANGE for a number of `limit` or more."""
    found: set[int] = set()
    for part in text.strip().split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return -EINVAL
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            return -EINVAL
        if last >= limit:
            return -ERANGE
        found.update(range(first, last + 1))
    return frozenset(found)


def effective(sim: Any, row: int, what: str) -> frozenset[int]:
    """The nodes (what = "mems") or CPUs ("cpus") that a cgroup's tasks may use."""
    if row == 0:
        return frozenset(zone.node for zone in sim.layout.zones) if what == "mems" else frozenset(range(sim.layout.nr_cpus))
    above = effective(sim, int(sim.machine.memcg[row * r.MEMCG_STRIDE + r.MC_PARENT]), what)
    return (getattr(sim.cpusets.get(row, Cpuset()), what) & above) or above


def read(sim: Any, row: int, name: str) -> str:
    """Text of one of FILES."""
    what = name.split(".")[1]
    numbers = effective(sim, row, what) if name.endswith(".effective") else getattr(sim.cpusets.get(row, Cpuset()), what)
    return node_ranges(sorted(numbers)) + "\n"


def write(sim: Any, row: int, name: str, text: str) -> int:
    """Write cpuset.mems or cpuset.cpus of a cgroup: 0, or -errno with nothing changed."""
    if name not in ("cpuset.mems", "cpuset.cpus"):
        raise NotSupported(f"{name}: read-only")
    if not text:
        return 0  # a write of no bytes is none
    what = name.split(".")[1]
    wanted = parse_list(text, MAX_NUMNODES if what == "mems" else NR_CPUS) if text.strip() else frozenset()
    if isinstance(wanted, int):
        return wanted
    if not wanted <= effective(sim, 0, what):
        return -EINVAL
    own = sim.cpusets.setdefault(row, Cpuset())
    if getattr(own, what) and not wanted and any(_cgroup(sim, task) == row for task in _living(sim)):
        return -ENOSPC
    members = [(task, effective(sim, _cgroup(sim, task), what)) for task in _living(sim)]
    setattr(own, what, wanted)
    for task, before in members:
        now = effective(sim, _cgroup(sim, task), what)
        if now != before:
            change_mems(sim, task, before, now) if what == "mems" else change_cpus(sim, task, now)
    return 0


def attach(sim: Any, task: Any, row: int) -> None:
    """A task comes into another cgroup: its memory and its place follow what that allows."""
    before = {what: effective(sim, _cgroup(sim, task), what) for what in ("mems", "cpus")}
    sim.machine.task[task.index * r.TASK_STRIDE + r.T_MEMCG] = row
    mems, cpus = effective(sim, row, "mems"), effective(sim, row, "cpus")
    if mems != before["mems"]:
        change_mems(sim, task, before["mems"], mems)
    if cpus != before["cpus"]:
        change_cpus(sim, task, cpus)


def change_mems(sim: Any, task: Any, old: frozenset[int], new: frozenset[int]) -> None:
    """The nodes that a task may use change: its policies are rebound, and its pages move to the new nodes."""
    machine, row = sim.machine, task.index * r.TASK_STRIDE
    everything = effective(sim, 0, "mems")
    machine.task[row + r.T_MEMS] = 0 if new == everything else 1 + sim.nodemask_slot(_mask(new), 0)
    machine.task[row + r.T_MEMPOLICY] = _rebind(sim, int(machine.task[row + r.T_MEMPOLICY]), old, new)
    for vma in vmas(machine, task.mm):
        place = vma.row * r.VMA_STRIDE + r.VMA_POLICY
        machine.vma[place] = _rebind(sim, int(machine.vma[place]), old, new)
    machine.sc[r.SC_TASK] = -1  # a worker of the kernel's moves them
    for source, target in migrations(old, new):
        machine.run(migrate_to_node, task.mm, source, target)


def node_remap(node: int, old: frozenset[int], new: frozenset[int]) -> int:
    """The node of `new` in the place that `node` has in `old`, round and round; `node` itself if `old` lacks it."""
    return sorted(new)[sorted(old).index(node) % len(new)] if node in old else node


def migrations(old: frozenset[int], new: frozenset[int]) -> list[tuple[int, int]]:
    """(from, to): whose pages go where when the allowed nodes change, one after the other.

    Where the sets differ in size, what lies on a node of `new` stays. A node whose own pages have still to go is not filled before if it can
    be helped.
    """
    plan, left = [], set(old)
    while left:
        moves = [(node, node_remap(node, old, new)) for node in sorted(left) if len(old) == len(new) or node not in new]
        moves = [(source, target) for source, target in moves if source != target]
        if not moves:
            break
        plan.append(next((move for move in moves if move[1] not in left), moves[-1]))
        left.remove(plan[-1][0])
    return plan


def change_cpus(sim: Any, task: Any, cpus: frozenset[int]) -> None:
    """A task on a CPU that it may not use any more goes to the first that it may."""
    row = task.index * r.TASK_STRIDE
    if int(sim.machine.task[row + r.T_CPU]) not in cpus:
        cpu = min(cpus)
        sim.machine.task[row + r.T_CPU], sim.machine.task[row + r.T_NODE] = cpu, sim._node_of(cpu)


def _rebind(sim: Any, policy: int, old: frozenset[int], new: frozenset[int]) -> int:
    """A policy's number after the allowed nodes changed: bind and the interleaves are renumbered place by place, the preferences stay."""
    mode, nodes = policy & 255, [node for node in range(32) if policy >> 8 + node & 1]
    if mode in (0, mempolicy.MPOL_PREFERRED, mempolicy.MPOL_LOCAL):
        return policy
    if mode != mempolicy.MPOL_PREFERRED_MANY:
        nodes = sorted({node_remap(node, old, new) for node in nodes})
    return sim.policy_number(mode, nodes, new)


def _mask(nodes: frozenset[int]) -> int:
    return sum(1 << node for node in nodes)


def _living(sim: Any) -> list[Any]:
    return [task for task in sim.tasks.values() if sim.machine.task[task.index * r.TASK_STRIDE + r.T_ALIVE]]


def _cgroup(sim: Any, task: Any) -> int:
    return int(sim.machine.task[task.index * r.TASK_STRIDE + r.T_MEMCG])
