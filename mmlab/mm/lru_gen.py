"""What MGLRU needs of the core: switching to it and back while the machine runs, when every page leaves the one LRU and joins the other; and
which address spaces were used, where a script's driver looks after its tasks.

Models: mm/vmscan.c lru_gen_change_state(), fill_evictable(), drain_evictable().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_drain, reclaimer_folio_added, reclaimer_folio_removed
from mmlab.kernels.pte import lru_gen_use_mm
from mmlab.model.page import PG_ACTIVE, page_flags
from mmlab.model.rows import (
    MM_LRU_ALL_USED, MM_LRU_GEN, MM_STRIDE, SC_DRIVER, SC_IN_LRU_FAULT, SC_NOW_NS, SC_NR_CPUS, SC_POLL_NS, TASK_STRIDE, T_MM,
)

DRIVER_POLL_NS = 20_000_000  # how long a script's driver waits for an answer before it looks whether the task still lives


@kernel
def leave_lists(m, pfns):
    """The pages pfns (int64) leave the reclaimer: how many there were."""
    for i in range(len(pfns)):
        reclaimer_folio_removed(m, pfns[i])
    return len(pfns)


@kernel
def join_lists(m, pfns):
    """The pages join the reclaimer, active ones as active: how many there were."""
    for i in range(len(pfns)):
        # a new page is active if a fault brings it in: so is one that comes over as active
        m.sc[SC_IN_LRU_FAULT] = 1 if page_flags(m, pfns[i]) & PG_ACTIVE else 0
        reclaimer_folio_added(m, pfns[i])
    m.sc[SC_IN_LRU_FAULT] = 0
    for cpu in range(m.sc[SC_NR_CPUS]):
        reclaimer_drain(m, cpu)
    return len(pfns)


@leaf
def driver_polls(m):
    """The task that waits for the running one wakes every 20 ms to look after it: both address spaces were used since (on one CPU)."""
    m.sc[SC_POLL_NS] += (1 + (m.sc[SC_NOW_NS] - m.sc[SC_POLL_NS]) // DRIVER_POLL_NS) * DRIVER_POLL_NS
    m.mm[m.task[m.sc[SC_DRIVER] * TASK_STRIDE + T_MM] * MM_STRIDE + MM_LRU_GEN] |= MM_LRU_ALL_USED
    if m.sc[SC_NR_CPUS] == 1:
        lru_gen_use_mm(m)
