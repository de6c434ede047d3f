"""Android's low memory killer: the less memory is free or in the page cache, the more important tasks may die.

Six levels, each a pair of free memory (minfree, percent of all memory here, where Android has pages) and oom_score_adj. The first level whose
minfree is above both the free pages (less the reserve) and the pages of files sets the lowest oom_score_adj that may be killed; of those the
highest oom_score_adj dies, of equals the largest.
Models: system/memory/lmkd lmkd.cpp mp_event() with use_minfree_levels, proc_get_heaviest(); before it drivers/staging/android/lowmemorykiller.c
lowmem_scan(). Left out: the strategy by PSI, vmpressure and thrashing, how Android sets oom_score_adj, swap's part in file pages, cgroups.
O(tasks) a look.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel
from mmlab.kernels.services import oom_kill
from mmlab.kernels.zones import nr_free_pages
from mmlab.mm.page_writeback import global_node_page_state
from mmlab.model.rows import OOM_NO_CANDIDATE, OOM_USER_SPACE, SC_NR_TASKS, SC_TOTALRAM, SC_TOTALRESERVE, TASK_STRIDE, T_OOM_SCORE_ADJ
from mmlab.model.vmstat import V_NR_FILE_PAGES, V_NR_SHMEM, V_NR_SWAPCACHED, V_NR_UNEVICTABLE
from mmlab.policies import OomPolicy
from mmlab_rivals.oom_policy.memory import somebody_dies, task_rss
from mmlab_linux.oom_policy.badness import candidate_score as badness_of, oom_eligible, oom_score, select_bad_process

NEVER = 1001


def _level(default: float) -> Any:
    return attrs.field(default=default, validator=[ge(0.0), le(100.0)])


def _adj(default: int) -> Any:
    return attrs.field(default=default, validator=[ge(-999), le(1000)])


@attrs.frozen
class Params:
    """minfree_0 .. 5: percent of all memory, the strictest first (Android's 72 to 180 MiB on a phone of 4 GiB); adj_0 .. 5: the lowest
    oom_score_adj that dies below each. poll_ms: between two looks."""

    minfree_0: float = _level(1.8)
    minfree_1: float = _level(2.25)
    minfree_2: float = _level(2.7)
    minfree_3: float = _level(3.15)
    minfree_4: float = _level(3.6)
    minfree_5: float = _level(4.5)
    adj_0: int = _adj(0)
    adj_1: int = _adj(100)
    adj_2: int = _adj(200)
    adj_3: int = _adj(250)
    adj_4: int = _adj(900)
    adj_5: int = _adj(950)
    poll_ms: int = attrs.field(default=100, validator=[ge(1), le(100_000)])


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """The levels, the strictest first: minfree in ten-thousandths of all memory, adj, int64[6]."""
    values = attrs.astuple(params)
    return {"minfree": np.array([round(100 * pct) for pct in values[:6]], np.int64), "adj": np.array(values[6:12], np.int64)}


@kernel
def min_score_adj(m, st):
    """The lowest oom_score_adj that may be killed now; NEVER: nobody."""
    free = nr_free_pages(m) - m.sc[SC_TOTALRESERVE]
    elsewhere = global_node_page_state(m, V_NR_SHMEM) + global_node_page_state(m, V_NR_UNEVICTABLE) + global_node_page_state(m, V_NR_SWAPCACHED)
    file = max(0, global_node_page_state(m, V_NR_FILE_PAGES) - elsewhere)
    for level in range(len(st.adj)):
        minfree = m.sc[SC_TOTALRAM] * st.minfree[level] // 10_000
        if free < minfree and file < minfree:
            return st.adj[level]
    return NEVER


@kernel
def candidate_score(m, st, task, asker):
    """(oom_score_adj + 1000) << 40 | VmRSS; badness where the kernel kills."""
    if asker != OOM_USER_SPACE:
        return badness_of(m, st, task, asker)
    if oom_eligible(m, task, asker) == 0:
        return OOM_NO_CANDIDATE
    return (m.task[task * TASK_STRIDE + T_OOM_SCORE_ADJ] + 1000) << 40 | task_rss(m, task)


@kernel
def select_victim(m, st, task, order):
    """It was too late: the kernel's own killer, by badness."""
    return select_bad_process(m, task)


@kernel
def step(m, st, now_ns):
    """A look at memory, and a kill if a level is reached and somebody is unimportant enough."""
    lowest = min_score_adj(m, st)
    if lowest < NEVER and somebody_dies(m) == 0:
        chosen, highest = -1, OOM_NO_CANDIDATE
        for task in range(m.sc[SC_NR_TASKS]):
            score = candidate_score(m, st, task, OOM_USER_SPACE)
            if score > highest and m.task[task * TASK_STRIDE + T_OOM_SCORE_ADJ] >= lowest:
                chosen, highest = task, score
        if chosen >= 0:
            oom_kill(m, chosen)
    return st.poll_ms[0] * 1_000_000


LMKD = OomPolicy(
    name="lmkd",
    summary="Android's daemon: levels of free memory, each with the lowest oom_score_adj that dies",
    models="Android lmkd.cpp mp_event() with use_minfree_levels, lowmemorykiller.c lowmem_scan()",
    left_out="PSI and thrashing, cgroups",
    level="L1",
    params=Params,
    new_state=new_state,
    select_victim=select_victim,
    oom_score=oom_score,
    candidate_score=candidate_score,
    step=step,
)
