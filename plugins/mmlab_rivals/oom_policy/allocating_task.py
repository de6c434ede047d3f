"""Kills whoever asked for memory when there was none (as vm.oom_kill_allocating_task = 1 makes any policy do): no search, but the task at fault may be another.

Models: mm/oom_kill.c out_of_memory() with sysctl_oom_kill_allocating_task. Where the caller may not be killed, badness chooses.
Left out: what badness leaves out. O(1), O(tasks) without a killable caller.
"""

from mmlab.kernels.jit import kernel
from mmlab.policies import OomPolicy
from mmlab_linux.oom_policy.badness import CALLER, candidate_score as badness_of, kill_caller, oom_score, select_bad_process


@kernel
def select_victim(m, st, task, order):
    """The caller, unless nobody called or it is exempt."""
    if kill_caller(m, task):
        return task
    return select_bad_process(m, task)


@kernel
def candidate_score(m, st, task, asker):
    """CALLER for whoever asked, else badness."""
    if task == asker and kill_caller(m, asker):
        return CALLER
    return badness_of(m, st, task, asker)


ALLOCATING_TASK = OomPolicy(
    name="allocating_task",
    summary="kills the task that asked for memory",
    models="mm/oom_kill.c out_of_memory() with vm.oom_kill_allocating_task",
    left_out="memory cgroups",
    level="L3",
    select_victim=select_victim,
    oom_score=oom_score,
    candidate_score=candidate_score,
)
