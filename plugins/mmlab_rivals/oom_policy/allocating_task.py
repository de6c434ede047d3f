"""Kills whoever asked for memory when there was none (vm.oom_kill_allocating_task = 1): no search, but the task at fault may be another.

Models: mm/oom_kill.c out_of_memory() with sysctl_oom_kill_allocating_task. Where the caller may not be killed, badness chooses.
Left out: what badness leaves out. O(1), O(tasks) without a killable caller.
"""

from mmlab.kernels.jit import kernel
from mmlab.model.rows import SC_OOM_MEMCG
from mmlab.policies import OomPolicy
from mmlab_linux.oom_policy.badness import candidate_score as badness_of, oom_killable, oom_score, select_bad_process

CALLER = 1 << 40  # above any badness


@kernel
def select_victim(m, st, task, order):
    """The caller, unless nobody called or it is exempt."""
    if task >= 0 and m.sc[SC_OOM_MEMCG] == 0 and oom_killable(m, task):
        return task
    return select_bad_process(m, task)


@kernel
def candidate_score(m, st, task, asker):
    """CALLER for whoever asked, else badness."""
    if task == asker and m.sc[SC_OOM_MEMCG] == 0 and oom_killable(m, task):
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
