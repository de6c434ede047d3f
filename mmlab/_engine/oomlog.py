"""What the OOM killer did, for dmesg and results."""

from __future__ import annotations

from typing import Any

from mmlab.model import rows as r
from mmlab.model.layout import KILL_STRIDE


def collect(sim) -> list[dict[str, Any]]:
    """Kills since the last call, oldest first. Sizes in kB, as they were when the victim was chosen."""
    machine = sim.machine
    count = int(machine.sc[r.SC_NR_KILLS])
    if not count:
        machine.sc[r.SC_OOM_VICTIM] = -1
        return []
    names = {task.index: task for task in sim.tasks.values()}
    found = []
    for i in range(min(count, len(machine.kill) // KILL_STRIDE)):
        entry = machine.kill[i * KILL_STRIDE : i * KILL_STRIDE + 11].tolist()
        task, total, anon, file, shmem, tables, adj, order = entry[:8]
        known = names.get(task)
        found.append({
            "task": known.name if known else f"task{task}", "pid": known.pid if known else 0, "total-vm": total * 4, "anon-rss": anon * 4, "file-rss": file * 4,
            "shmem-rss": shmem * 4, "pgtables": tables // 1024, "oom_score_adj": adj, "order": order, "constraint": _constraint(machine, *entry[8:]),
        })
    machine.sc[r.SC_NR_KILLS] = 0
    machine.sc[r.SC_OOM_VICTIM] = -1
    return found


def _constraint(machine: Any, memcg: int, nodemask: int, mems: int) -> str:
    """What confined the allocation: a cgroup's limit, the nodes of a cpuset, or those of a policy. nodemask, mems: 1 + number of a set."""
    if memcg:
        return "CONSTRAINT_MEMCG"
    if nodemask == 0 or machine.nodemask[nodemask - 1] == 0:
        return "CONSTRAINT_NONE"
    return "CONSTRAINT_CPUSET" if nodemask == mems else "CONSTRAINT_MEMORY_POLICY"
