"""How much memory killing a task would free, who is worst, and the score that /proc shows.

Models: mm/oom_kill.c out_of_memory() (vm.oom_kill_allocating_task), oom_badness(), select_bad_process(), oom_cpuset_eligible(),
constrained_alloc(); fs/proc/base.c proc_oom_score(). Left out: threads (a task is a thread group), shared address spaces (each task is judged by
itself).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import memcg_is_descendant
from mmlab.model.const import PAGE_SIZE
from mmlab.model.rows import (
    MC_MAX, MC_SWAP_MAX, MEMCG_STRIDE, MM_PGTABLES_BYTES, MM_RSS_ANON, MM_RSS_FILE, MM_RSS_SHMEM, MM_STRIDE, MM_SWAPENTS, N_PRESENT, NODE_STRIDE, OOM_NO_CANDIDATE,
    SC_NR_NODES,
    SC_NR_SWAP_SLOTS, SC_NR_TASKS, SC_OOM_KILL_ALLOCATING,
    SC_OOM_MEMCG, SC_OOM_NODEMASK, SC_TOTALRAM, T_ALIVE, T_FLAGS, T_MEMCG, T_MEMPOLICY, T_MEMS, T_MM, T_OOM_SCORE_ADJ, TASK_STRIDE, TF_KILLED, TF_OOM_VICTIM,
)

OOM_SCORE_ADJ_MIN = -1000
MPOL_BIND = 2
CALLER = 1 << 40  # above any badness


@leaf
def oom_nodes(m):
    """The nodes to which the failed allocation was confined, a bit each; 0: all of them."""
    return m.nodemask[m.sc[SC_OOM_NODEMASK] - 1] if m.sc[SC_OOM_NODEMASK] > 0 else 0


@leaf
def oom_cpuset_eligible(m, task, asker):
    """0 for a task that has no memory where it is short: its cpuset has no node in common with the asker's, or its bind policy none with the
    policy that failed."""
    nodes = oom_nodes(m)
    if nodes == 0:
        return 1
    if asker >= 0 and m.task[asker * TASK_STRIDE + T_MEMS] == m.sc[SC_OOM_NODEMASK]:
        mems = m.task[task * TASK_STRIDE + T_MEMS]
        return 1 if mems == 0 or m.nodemask[mems - 1] & nodes else 0
    policy = m.task[task * TASK_STRIDE + T_MEMPOLICY]
    return 1 if policy & 255 != MPOL_BIND or (policy >> 8) & nodes else 0


@leaf
def oom_totalpages(m):
    """Pages of memory and swap (swap's first slot is its header), of the nodes or the cgroup that are out of memory."""
    memcg = m.sc[SC_OOM_MEMCG]
    if memcg > 0:
        base = memcg * MEMCG_STRIDE
        return m.memcg[base + MC_MAX] + min(m.memcg[base + MC_SWAP_MAX], max(0, m.sc[SC_NR_SWAP_SLOTS] - 1))
    pages = m.sc[SC_TOTALRAM]
    nodes = oom_nodes(m)
    if nodes:
        pages = 0
        for node in range(m.sc[SC_NR_NODES]):
            if (nodes >> node) & 1:
                pages += m.node[node * NODE_STRIDE + N_PRESENT]
    return pages + max(0, m.sc[SC_NR_SWAP_SLOTS] - 1)


@leaf
def oom_killable(m, task):
    """1 for a living task with an address space that nobody has killed yet and that oom_score_adj does not exempt."""
    base = task * TASK_STRIDE
    if m.task[base + T_ALIVE] == 0 or m.task[base + T_MM] < 0 or m.task[base + T_FLAGS] & (TF_KILLED | TF_OOM_VICTIM) != 0:
        return 0
    return 1 if m.task[base + T_OOM_SCORE_ADJ] > OOM_SCORE_ADJ_MIN else 0


@leaf
def oom_badness(m, task):
    """Pages the killable task holds (resident, swapped, page tables), moved by oom_score_adj thousandths of all pages; may be negative."""
    mm = m.task[task * TASK_STRIDE + T_MM] * MM_STRIDE
    points = m.mm[mm + MM_RSS_FILE] + m.mm[mm + MM_RSS_ANON] + m.mm[mm + MM_RSS_SHMEM] + m.mm[mm + MM_SWAPENTS]
    points += m.mm[mm + MM_PGTABLES_BYTES] // PAGE_SIZE
    return points + m.task[task * TASK_STRIDE + T_OOM_SCORE_ADJ] * (oom_totalpages(m) // 1000)


@leaf
def oom_eligible(m, task, asker):
    """1 for a killable task with memory where it is short, in the cgroup that is out of memory."""
    if oom_killable(m, task) == 0 or oom_cpuset_eligible(m, task, asker) == 0:
        return 0
    return memcg_is_descendant(m, m.task[task * TASK_STRIDE + T_MEMCG], m.sc[SC_OOM_MEMCG])


@leaf
def kill_caller(m, asker):
    """1 if whoever asks for memory is the one to die, where that is the rule: not within a cgroup, and not one that may not be killed."""
    return 1 if asker >= 0 and m.sc[SC_OOM_MEMCG] == 0 and oom_killable(m, asker) else 0


@kernel
def candidate_score(m, st, task, asker):
    """What select_bad_process() compares; CALLER for the one who dies for vm.oom_kill_allocating_task."""
    if task == asker and m.sc[SC_OOM_KILL_ALLOCATING] and kill_caller(m, asker):
        return CALLER
    return oom_badness(m, task) if oom_eligible(m, task, asker) else OOM_NO_CANDIDATE


@kernel
def select_bad_process(m, asker):
    """The killable task of the highest badness, or -1; of equals the younger, which comes later in the task list. O(tasks).

    With vm.oom_kill_allocating_task whoever asked, if it may be killed.
    """
    if m.sc[SC_OOM_KILL_ALLOCATING] and kill_caller(m, asker):
        return asker
    chosen = -1
    most = 0
    for task in range(m.sc[SC_NR_TASKS]):
        if oom_eligible(m, task, asker):
            points = oom_badness(m, task)
            if chosen < 0 or points >= most:
                chosen = task
                most = points
    return chosen


@leaf
def divide_to_zero(a, b):
    """a / b as C divides (b > 0)."""
    return a // b if a >= 0 else -(-a // b)


@kernel
def oom_score(m, st, task):
    """/proc/PID/oom_score: 0 for a task that is never killed, about 667 for an idle one."""
    if oom_killable(m, task) == 0:
        return 0
    return divide_to_zero((1000 + divide_to_zero(oom_badness(m, task) * 1000, max(1, oom_totalpages(m)))) * 2, 3)
