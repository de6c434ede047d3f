"""The oracle: knows how much work a stream has for each task and how many pages each will touch, and gives up the least work.

Killing a task wastes what it has done and takes away what it would do: all of its accesses. The oracle looks for the set of tasks with the
fewest accesses without which all others fit, their pages that are still to come included, into free memory, free swap and what the set holds. The
one of the set that holds most dies first; if memory is short again the next decision finds the rest of the set.
Models: nothing real. For bulk streams only: what a script will do is not known before it does it. Left out: that tasks end or give memory back
(the survivors' pages are added up), tasks that have not begun, page tables and the page cache; of more than 12 candidates only the 12 that hold
most can be in the set. O(2^candidates).
"""

from typing import Any

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import nr_free_pages
from mmlab.model.rows import (
    FT_ACCESSES, FT_PAGES, FT_STRIDE, OOM_NO_CANDIDATE, SC_NR_TASKS, SC_TOTALRESERVE, TASK_STRIDE, TF_KILLED, T_ALIVE, T_FLAGS, T_MM,
)
from mmlab.policies import OomPolicy
from mmlab_linux.oom_policy.badness import oom_eligible, oom_score
from mmlab_rivals.oom_policy.memory import swap_free, task_rss, task_swap

MOST = 12


def new_state(params: Any, machine: Any) -> dict[str, np.ndarray]:
    """doomed: 1 for the tasks of the set that was chosen last, a task; member: the tasks that may be in a set, int64[MOST]."""
    return {"doomed": np.zeros(len(machine.task) // TASK_STRIDE, np.int64), "member": np.zeros(MOST, np.int64)}


@leaf
def held(m, task):
    """Pages that a living task has in memory and swap."""
    return task_rss(m, task) + task_swap(m, task)


@leaf
def to_come(m, task):
    """Pages that it will still need room for."""
    return max(0, m.future_task[task * FT_STRIDE + FT_PAGES] - held(m, task))


@kernel
def choose_members(m, st, asker):
    """Fill st.member with the candidates that hold most: how many there are."""
    nr = 0
    for task in range(m.sc[SC_NR_TASKS]):
        if oom_eligible(m, task, asker) == 0:
            continue
        at = nr if nr < MOST else MOST - 1
        if nr == MOST and held(m, st.member[at]) >= held(m, task):
            continue
        while at > 0 and held(m, st.member[at - 1]) < held(m, task):
            st.member[at] = st.member[at - 1]
            at -= 1
        st.member[at] = task
        nr = min(nr + 1, MOST)
    return nr


@kernel
def select_victim(m, st, task, order):
    """The task of the cheapest set that makes the others fit which holds most; -1 if there is no candidate."""
    for at in range(len(st.doomed)):
        st.doomed[at] = 0
    need = 0
    for other in range(m.sc[SC_NR_TASKS]):
        row = other * TASK_STRIDE
        if m.task[row + T_ALIVE] and m.task[row + T_MM] >= 0 and m.task[row + T_FLAGS] & TF_KILLED == 0:
            need += to_come(m, other)
    nr = choose_members(m, st, task)
    room = nr_free_pages(m) - m.sc[SC_TOTALRESERVE] + swap_free(m)
    best, least = 0, 1 << 62
    for chosen in range(1, 1 << nr):
        lost, gained = 0, 0
        for i in range(nr):
            if (chosen >> i) & 1:
                lost += m.future_task[st.member[i] * FT_STRIDE + FT_ACCESSES]
                gained += held(m, st.member[i]) + to_come(m, st.member[i])
        if lost < least and need <= room + gained:
            best, least = chosen, lost
    if best == 0:
        best = (1 << nr) - 1  # even all of them are too few
    victim = -1
    for i in range(nr):
        if (best >> i) & 1:
            st.doomed[st.member[i]] = 1
            if victim < 0:
                victim = st.member[i]  # they are in order
    return victim


@kernel
def candidate_score(m, st, task, asker):
    """Pages it holds if it is in the set, else less than 0: the accesses that its death would lose."""
    if oom_eligible(m, task, asker) == 0:
        return OOM_NO_CANDIDATE
    return held(m, task) if st.doomed[task] else -1 - m.future_task[task * FT_STRIDE + FT_ACCESSES]


ORACLE_OOM = OomPolicy(
    name="oracle",
    summary="gives up the tasks with the least work of the stream without which the others fit",
    models="nothing real: a bound",
    left_out="memory that is given back, tasks to come, scripts",
    level="L1",
    needs_future=True,
    new_state=new_state,
    select_victim=select_victim,
    oom_score=oom_score,
    candidate_score=candidate_score,
)
