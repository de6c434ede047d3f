"""Linux's OOM policy: the task whose death frees the most dies, as oom_score_adj weighs it.

Models: mm/oom_kill.c select_bad_process(), oom_evaluate_task(). Left out: threads. O(tasks) a choice.
"""

from mmlab.kernels.jit import kernel
from mmlab.policies import OomPolicy
from mmlab_linux.oom_policy.badness import candidate_score, oom_score, select_bad_process


@kernel
def select_victim(m, st, task, order):
    """The killable task of the highest badness, whoever asked."""
    return select_bad_process(m, task)


LINUX_OOM = OomPolicy(
    name="linux",
    summary="kills the task that holds most memory, weighed by oom_score_adj",
    models="mm/oom_kill.c oom_badness(), select_bad_process(); fs/proc/base.c proc_oom_score()",
    left_out="threads, shared address spaces",
    level="L4",
    select_victim=select_victim,
    oom_score=oom_score,
    candidate_score=candidate_score,
)
