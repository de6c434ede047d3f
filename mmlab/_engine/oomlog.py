"""What the OOM killer and killers in user space did, and between whom they chose, for dmesg and results."""

from __future__ import annotations

from typing import Any

from mmlab._engine.blame import policy_fault, reclaim_fault
from mmlab.errors import MmlabError, PluginError
from mmlab.model import rows as r
from mmlab.model.layout import KILL_STRIDE

_WHY = {
    r.OOM_NO_TASK: "no such task", r.OOM_DEAD: "it is dead", r.OOM_DYING: "it has been killed already",
    r.OOM_PROTECTED: "it is exempt (oom_score_adj -1000)", r.OOM_ELSEWHERE: "it is not in the cgroup that is out of memory",
}
_BY = {r.KILL_BY_USER_SPACE: "user space", r.KILL_BY_SYSRQ: "sysrq"}
_PANIC = {
    r.PANIC_DEADLOCKED: "out of memory, and the OOM policy named nobody to kill: the machine panics",
    r.PANIC_ON_OOM: "out of memory, and vm.panic_on_oom is set: the machine panics",
}
SHOWN = 12  # candidates in an error


def notice(sim: Any) -> None:
    """Append to sim.kills and sim.candidates what has happened since the last call, oldest first.

    Sizes are in kB, as they were when the victim was chosen; a kill's `number` is that of its candidates' `kill`. Raises PluginError if the
    policy has chosen one who cannot be killed or the reclaimer named a page that is none of its, MmlabError if the machine has panicked.
    """
    machine = sim.machine
    count = min(int(machine.sc[r.SC_NR_KILLS]), len(machine.kill) // KILL_STRIDE)
    first, names = len(sim.kills), {task.index: task for task in sim.tasks.values()}
    victims = []
    for i in range(count):
        entry = machine.kill[i * KILL_STRIDE : (i + 1) * KILL_STRIDE].tolist()
        task, total, anon, file, shmem, tables, adj, order = entry[:8]
        victims.append(task)
        sim.kills.append({
            "number": first + i, **_called(names, task), "total-vm": total * 4, "anon-rss": anon * 4, "file-rss": file * 4,
            "shmem-rss": shmem * 4, "pgtables": tables // 1024, "oom_score_adj": adj, "order": max(0, order), "constraint": _constraint(machine, *entry[8:11]),
            "oom_memcg": cgroup_path(sim, entry[8]), "task_memcg": cgroup_path(sim, int(machine.task[task * r.TASK_STRIDE + r.T_MEMCG])),
            "by": _BY.get(order, "kernel"), "invoker": _called(names, entry[11])["task"] if entry[11] >= 0 else "kworker/0:0", "ns": entry[12],
        })  # fmt: skip
    new = _candidates(sim, names, victims, first)
    sim.candidates += new
    chosen = {row["kill"] for row in new}
    for kill in sim.kills[first:]:
        kill["with_group"] = kill["by"] == "kernel" and kill["number"] not in chosen  # memory.oom.group: nobody chose this one
    machine.sc[r.SC_NR_KILLS] = machine.sc[r.SC_NR_CANDIDATES] = 0
    machine.sc[r.SC_OOM_VICTIM] = -1
    if machine.sc[r.SC_OOM_FAULT]:
        raise _fault(sim, names, [row for row in new if row["kill"] == first + count])
    if (fault := reclaim_fault(machine) or policy_fault(machine)) is not None:
        raise fault
    if machine.sc[r.SC_PANIC]:
        raise MmlabError(_PANIC[int(machine.sc[r.SC_PANIC])])


def cgroup_path(sim: Any, memcg: int) -> str:
    """`/`, `/a/b`: the path of a cgroup by its row."""
    return "/" + next((path for path, row in getattr(sim, "cgroups", {}).items() if row == memcg), "")


def _called(names: dict[int, Any], task: int) -> dict[str, Any]:
    known = names.get(task)
    return {"task": known.name if known else f"task{task}", "pid": known.pid if known else 0}


def _candidates(sim: Any, names: dict[int, Any], victims: list[int], first: int) -> list[dict[str, Any]]:
    """A row a kill and candidate, the highest score first. Group members that die with a victim have none of their own."""
    machine, rows = sim.machine, []
    own = "candidate_score" in sim.policies["oom_policy"].policy.ops()
    for at in range(int(machine.sc[r.SC_NR_CANDIDATES])):
        entry = machine.oom_candidate[at * r.OC_STRIDE : (at + 1) * r.OC_STRIDE].tolist()
        kill, task = entry[r.OC_KILL], entry[r.OC_TASK]
        rows.append({
            "kill": first + kill, **_called(names, task), "score": entry[r.OC_SCORE] if own else entry[r.OC_OOM_SCORE], "oom_score": entry[r.OC_OOM_SCORE],
            "oom_score_adj": entry[r.OC_ADJ], "rss": entry[r.OC_RSS] * 4, "swap": entry[r.OC_SWAP] * 4,
            "chosen": kill < len(victims) and victims[kill] == task,
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["kill"], -row["score"]))


def _fault(sim: Any, names: dict[int, Any], candidates: list[dict[str, Any]]) -> PluginError:
    """The error for a victim who cannot be killed, with the decision."""
    sc = sim.machine.sc
    chosen = int(sc[r.SC_OOM_CHOSEN])
    name = _called(names, chosen)["task"] if chosen in names else f"task {chosen}"
    scores = ", ".join(f"{row['task']} {row['score']} (rss {row['rss']} kB, oom_score_adj {row['oom_score_adj']})" for row in candidates[:SHOWN])
    more = f" and {len(candidates) - SHOWN} more" if len(candidates) > SHOWN else ""
    return PluginError(
        f"{sim.policies['oom_policy'].blame}: chose {name} to be killed, but {_WHY[int(sc[r.SC_OOM_FAULT])]}; its candidates by score: {scores or 'none'}{more}"
    )


def _constraint(machine: Any, memcg: int, nodemask: int, mems: int) -> str:
    """What confined the allocation: a cgroup's limit, the nodes of a cpuset, or those of a policy. nodemask, mems: 1 + number of a set."""
    if memcg:
        return "CONSTRAINT_MEMCG"
    if nodemask == 0 or machine.nodemask[nodemask - 1] == 0:
        return "CONSTRAINT_NONE"
    return "CONSTRAINT_CPUSET" if nodemask == mems else "CONSTRAINT_MEMORY_POLICY"
