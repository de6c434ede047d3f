"""/proc/PID/status, stat, statm, oom_score and oom_score_adj.

Models: fs/proc/array.c proc_pid_status(), do_task_stat(); fs/proc/task_mmu.c task_mem(), task_statm(). Left out: scheduling, signals and
credentials, which are those of an idle task of root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmlab.model import rows as r
from mmlab.procfs import cpusets
from mmlab.procfs.mempolicy import node_ranges
from mmlab.procfs.tasks import mm_row, task_row

ROOT_CAPABILITIES = "000001ffffffffff"
INIT_PID = 1
MAX_NUMNODES = 1024


def _rss(space: list[int]) -> int:
    return space[r.MM_RSS_ANON] + space[r.MM_RSS_FILE] + space[r.MM_RSS_SHMEM]


def _text_bytes(space: list[int]) -> int:
    """Code of the program itself, in whole pages."""
    return (-(-space[r.MM_END_CODE] // 4096) - (space[r.MM_START_CODE] >> 12)) << 12


def parent_pid(sim: Any, row: list[int]) -> int:
    """Pid of the task's parent: the driver of a script, or init."""
    parent = row[r.T_PARENT]
    if parent < 0:
        parent = getattr(sim, "_driver", -1)
    if parent < 0 or not sim.machine.task[parent * r.TASK_STRIDE + r.T_ALIVE]:
        return INIT_PID
    return int(sim.machine.task[parent * r.TASK_STRIDE + r.T_PID])


def memory_lines(space: list[int]) -> list[tuple[str, int]]:
    """The Vm and Rss lines of status, in kB."""
    text = min(_text_bytes(space), space[r.MM_EXEC_VM] << 12) >> 10
    pages = [
        ("VmPeak", max(space[r.MM_HIWATER_VM], space[r.MM_TOTAL_VM])),
        ("VmSize", space[r.MM_TOTAL_VM]),
        ("VmLck", space[r.MM_LOCKED_VM]),
        ("VmPin", 0),
        ("VmHWM", max(space[r.MM_HIWATER_RSS], _rss(space))),
        ("VmRSS", _rss(space)),
        ("RssAnon", space[r.MM_RSS_ANON]),
        ("RssFile", space[r.MM_RSS_FILE]),
        ("RssShmem", space[r.MM_RSS_SHMEM]),
        ("VmData", space[r.MM_DATA_VM]),
        ("VmStk", space[r.MM_STACK_VM]),
    ]
    kb = [(name, value * 4) for name, value in pages]
    kb += [("VmExe", text), ("VmLib", space[r.MM_EXEC_VM] * 4 - text), ("VmPTE", space[r.MM_PGTABLES_BYTES] >> 10)]
    return kb + [("VmSwap", space[r.MM_SWAPENTS] * 4), ("HugetlbPages", 0)]


def status(sim: Any, task: Any) -> str:
    """/proc/PID/status."""
    row = task_row(sim.machine, task.index)
    pid, parent = row[r.T_PID], parent_pid(sim, row)
    lines = [f"Name:\t{task.name}", "Umask:\t0022", "State:\tS (sleeping)", f"Tgid:\t{pid}", "Ngid:\t0", f"Pid:\t{pid}", f"PPid:\t{parent}"]
    lines += ["TracerPid:\t0", "Uid:\t0\t0\t0\t0", "Gid:\t0\t0\t0\t0", "FDSize:\t64", "Groups:\t ", f"NStgid:\t{pid}", f"NSpid:\t{pid}"]
    lines += ["NSpgid:\t0", "NSsid:\t0", "Kthread:\t0"]
    lines += [f"{name}:\t{kb:8} kB" for name, kb in memory_lines(mm_row(sim.machine, task.mm))]
    lines += ["CoreDumping:\t0", "THP_enabled:\t1", "untag_mask:\t0xffffffffffffffff", "Threads:\t1", "SigQ:\t0/0"]
    lines += [f"{name}:\t{mask}" for name, mask in (("SigPnd", "0" * 16), ("ShdPnd", "0" * 16), ("SigBlk", "0" * 16))]
    lines += ["SigIgn:\t0000000000010000", "SigCgt:\t0000000000000440", f"CapInh:\t{'0' * 16}"]
    lines += [f"{name}:\t{ROOT_CAPABILITIES}" for name in ("CapPrm", "CapEff", "CapBnd")] + [f"CapAmb:\t{'0' * 16}"]
    lines += ["NoNewPrivs:\t0", "Seccomp:\t0", "Seccomp_filters:\t0", "Speculation_Store_Bypass:\tnot vulnerable"]
    lines += ["SpeculationIndirectBranch:\talways enabled"]
    mems, cpus = (sorted(cpusets.effective(sim, row[r.T_MEMCG], what)) for what in ("mems", "cpus"))
    lines += [
        f"Cpus_allowed:\t{sum(1 << cpu for cpu in cpus):x}",
        f"Cpus_allowed_list:\t{node_ranges(cpus)}",
        "Mems_allowed:\t" + ",".join(f"{sum(1 << node for node in mems) >> 32 * word & 0xFFFFFFFF:08x}" for word in reversed(range(MAX_NUMNODES // 32))),
        f"Mems_allowed_list:\t{node_ranges(mems)}",
    ]
    lines += ["voluntary_ctxt_switches:\t0", "nonvoluntary_ctxt_switches:\t0", "x86_Thread_features:\t", "x86_Thread_features_locked:\t"]
    return "\n".join(lines) + "\n"


def stat(sim: Any, task: Any) -> str:
    """/proc/PID/stat: 52 fields; what is not simulated is 0."""
    row, space = task_row(sim.machine, task.index), mm_row(sim.machine, task.mm)
    head = f"{row[r.T_PID]} ({task.name}) S"
    fields = [parent_pid(sim, row), 0, 0, 0, -1, 64, row[r.T_MIN_FLT], row[r.T_CMIN_FLT], row[r.T_MAJ_FLT], row[r.T_CMAJ_FLT]]
    fields += [0, 0, 0, 0, 20, 0, 1, 0, row[r.T_START_NS] // 10_000_000, space[r.MM_TOTAL_VM] << 12, _rss(space), (1 << 64) - 1]
    fields += [space[r.MM_START_CODE], space[r.MM_END_CODE], 0, 0, 0, 0, 0, 65536, 1088, 1, 0, 0, 17, row[r.T_CPU], 0, 0, 0, 0, 0]
    fields += [0, 0, space[r.MM_START_BRK], 0, 0, 0, 0, 0]
    return f"{head} {' '.join(map(str, fields))}\n"


def statm(sim: Any, task: Any) -> str:
    """/proc/PID/statm, in pages."""
    space = mm_row(sim.machine, task.mm)
    shared = space[r.MM_RSS_FILE] + space[r.MM_RSS_SHMEM]
    data = space[r.MM_DATA_VM] + space[r.MM_STACK_VM]
    return f"{space[r.MM_TOTAL_VM]} {_rss(space)} {shared} {_text_bytes(space) >> 12} 0 {data} 0\n"


def oom_score(sim: Any, task: Any) -> str:
    """/proc/PID/oom_score, by the OOM policy."""
    return f"{sim.machine.op('oom_policy', 'oom_score', task.index)}\n"


def oom_score_adj(sim: Any, task: Any) -> str:
    """/proc/PID/oom_score_adj."""
    return f"{task_row(sim.machine, task.index)[r.T_OOM_SCORE_ADJ]}\n"


TASK_FILES: dict[str, Callable[[Any, Any], str]] = {
    "status": status, "stat": stat, "statm": statm, "oom_score": oom_score, "oom_score_adj": oom_score_adj,
}  # fmt: skip
