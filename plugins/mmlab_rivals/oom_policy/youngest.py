"""Kills the task that was started last: whoever has worked longest is left in peace, whatever it holds.

Models: nothing real; what the kernel does between equals. Left out: threads. O(tasks).
"""

from mmlab.kernels.jit import kernel
from mmlab.model.rows import OOM_NO_CANDIDATE, SC_NR_TASKS, T_PID, TASK_STRIDE
from mmlab.policies import OomPolicy
from mmlab_linux.oom_policy.badness import oom_eligible, oom_score


@kernel
def candidate_score(m, st, task, asker):
    """Its pid: they are given in order."""
    return m.task[task * TASK_STRIDE + T_PID] if oom_eligible(m, task, asker) else OOM_NO_CANDIDATE


@kernel
def select_victim(m, st, task, order):
    """The killable task of the highest pid, or -1."""
    youngest, highest = -1, OOM_NO_CANDIDATE
    for candidate in range(m.sc[SC_NR_TASKS]):
        pid = candidate_score(m, st, candidate, task)
        if pid > highest:
            youngest, highest = candidate, pid
    return youngest


YOUNGEST = OomPolicy(
    name="youngest",
    summary="kills the task that was started last",
    models="nothing real",
    left_out="threads",
    level="L1",
    select_victim=select_victim,
    oom_score=oom_score,
    candidate_score=candidate_score,
)
