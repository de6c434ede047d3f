"""The kernel's messages about the OOM killer. Models: mm/oom_kill.c dump_header(), dump_oom_victim(), __oom_kill_process()."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def oom_report(kill: dict[str, Any]) -> str:
    """The lines of one kill, one line for those who die with their cgroup. kill: as in ``Simulation.kills`` (sizes in kB)."""
    stamp = f"[{kill.get('ns', 0) / 1e9:12.6f}] "
    invoker, victim = kill.get("invoker", kill["task"]), kill["task"]
    by_sysrq = kill.get("by") == "sysrq"
    gfp = "0xcc0(GFP_KERNEL)" if by_sysrq else "0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP)"
    head = f"{invoker} invoked oom-killer: gfp_mask={gfp}, order={-1 if by_sysrq else kill.get('order', 0)}, oom_score_adj=0"
    task_memcg = kill.get("task_memcg", "/")
    scope = f"oom_memcg={kill['oom_memcg']}" if kill["constraint"] == "CONSTRAINT_MEMCG" else "global_oom"
    chosen = f"oom-kill:constraint={kill['constraint']},nodemask=(null),cpuset=/,mems_allowed=0,{scope},task_memcg={task_memcg},"
    chosen += f"task={victim},pid={kill['pid']},uid=0"
    sizes = ", ".join(f"{name}:{kill[name]}kB" for name in ("total-vm", "anon-rss", "file-rss", "shmem-rss"))
    scope = "Memory cgroup out of memory" if kill["constraint"] == "CONSTRAINT_MEMCG" else "Out of memory"
    last = f"{scope}: Killed process {kill['pid']} ({victim}) {sizes}, UID:0 "
    last += f"pgtables:{kill['pgtables']}kB oom_score_adj:{kill['oom_score_adj']}"
    if kill.get("with_group"):
        return f"{stamp}{last}\n"
    return "".join(f"{stamp}{line}\n" for line in (*(["sysrq: Manual OOM execution"] if by_sysrq else []), head, chosen, last))


def dmesg(kills: Iterable[dict[str, Any]]) -> str:
    """All reports, in order; a killer in user space leaves none."""
    return "".join(oom_report(kill) for kill in kills if kill.get("by", "kernel") != "user space")
