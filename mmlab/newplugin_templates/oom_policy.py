"""my_policy: the youngest task dies, of those in the memory cgroup that is out of memory."""

from mmlab.kernels.jit import kernel
from mmlab.kernels.memcg import memcg_is_descendant
from mmlab.model.rows import SC_NR_TASKS, SC_OOM_MEMCG, T_ALIVE, T_FLAGS, T_MEMCG, T_MM, T_OOM_SCORE_ADJ, TASK_STRIDE, TF_KILLED, TF_OOM_VICTIM
from mmlab.policies import OomPolicy


@kernel
def select_victim(m, st, task, order):
    youngest = -1
    for candidate in range(m.sc[SC_NR_TASKS]):
        row = candidate * TASK_STRIDE
        killable = m.task[row + T_ALIVE] != 0 and m.task[row + T_MM] >= 0 and m.task[row + T_FLAGS] & (TF_KILLED | TF_OOM_VICTIM) == 0
        exempt = m.task[row + T_OOM_SCORE_ADJ] == -1000
        if killable and not exempt and memcg_is_descendant(m, m.task[row + T_MEMCG], m.sc[SC_OOM_MEMCG]):
            youngest = candidate
    return youngest


@kernel
def oom_score(m, st, task):
    return 1000 + m.task[task * TASK_STRIDE + T_OOM_SCORE_ADJ]


POLICY = OomPolicy(name="my_policy", summary="kills the youngest task", select_victim=select_victim, oom_score=oom_score)
