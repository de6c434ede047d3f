"""Who wants the CPU beside the thread that asks."""

from mmlab.kernels.jit import leaf
from mmlab.model.rows import LOOP_PERIOD_NS, LOOP_RUNS, LOOP_STATE, LOOP_STRIDE, SC_NR_CPUS, SC_NR_LOOPS, SC_NR_TASKS, SC_TASK


@leaf
def wanted_by_others(m):
    """1 if the only CPU is wanted by a task that does not sleep: the script's own, or a loop without a period."""
    if m.sc[SC_NR_CPUS] > 1:
        return 0
    if m.sc[SC_TASK] >= 0:
        return 1
    if m.sc[SC_NR_LOOPS] > 0:
        for task in range(m.sc[SC_NR_TASKS]):
            if m.loop[task * LOOP_STRIDE + LOOP_STATE] == LOOP_RUNS and m.loop[task * LOOP_STRIDE + LOOP_PERIOD_NS] == 0:
                return 1
    return 0
