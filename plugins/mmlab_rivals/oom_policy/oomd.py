"""systemd-oomd: a daemon that ends whole cgroups when tasks have stood still for want of memory for too long, or swap is nearly used up.

Pressure: where "full" of memory.pressure (avg10) of a cgroup right below the root has been above limit_pct for duration_ms, and pages are being
scanned, the leaf cgroup below it with the most pages scanned since the last look dies, of equals the one that holds most. Swap: where more than
swap_pct of memory and of swap are used, the leaf cgroup with the most swap dies, if it has 5 % of all. Afterwards it waits post_action_ms. On a
machine without cgroups each task counts as one, and the machine's pressure decides. The kernel's killer stays behind it.
Models: systemd 256 src/oom/oomd-manager.c monitor_memory_pressure_contexts_handler(), monitor_swap_contexts_handler(), oomd-util.c
oomd_pressure_above(), oomd_kill_by_pgscan_rate(), oomd_kill_by_swap_usage(). Left out: preferences (ManagedOOMPreference), a limit a unit, the
shorter interval of the swap rule, the daemon's own time. O(tasks + cgroups) a look.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import memcg_is_descendant
from mmlab.kernels.services import oom_kill
from mmlab.model.rows import (
    MC_PARENT, MC_SWAP_USAGE, MC_USAGE, MEMCG_STRIDE, OOM_NO_CANDIDATE, OOM_USER_SPACE, PSI_AVG, PSI_STRIDE, SC_NR_MEMCGS, SC_NR_TASKS, SC_TOTALRAM,
    T_MEMCG, TASK_STRIDE,
)
from mmlab.model.vmstat import V_PGSCAN_DIRECT, V_PGSCAN_KSWAPD, VMSTAT_STRIDE
from mmlab.policies import OomPolicy
from mmlab_linux.oom_policy.badness import candidate_score as badness_of
from mmlab_linux.oom_policy.badness import oom_eligible, oom_score, select_bad_process
from mmlab_rivals.oom_policy.memory import mem_available, somebody_dies, swap_free, swap_total, task_rss, task_swap

FULL_AVG10 = PSI_AVG + 3
FSHIFT = 11
SWAP_SHARE_PCT = 5
BY_PRESSURE, BY_SWAP = 0, 1
RULE, MONITORED, QUIET_UNTIL_NS = 0, 1, 2  # of st.now: by what it kills, the cgroup under pressure, when it looks again after a kill


@attrs.frozen
class Params:
    """limit_pct, duration_ms: of pressure; swap_pct: of memory and swap in use; interval_ms: between two looks; post_action_ms: after a kill."""

    limit_pct: int = attrs.field(default=60, validator=[ge(1), le(100)])
    duration_ms: int = attrs.field(default=30_000, validator=[ge(0), le(10_000_000)])
    swap_pct: int = attrs.field(default=90, validator=[ge(1), le(100)])
    interval_ms: int = attrs.field(default=1000, validator=[ge(1), le(1_000_000)])
    post_action_ms: int = attrs.field(default=15_000, validator=[ge(0), le(10_000_000)])


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """A row a cgroup: scanned, pgscan at the last look; scans, pages scanned between the last two; over_ns, since when its pressure is above the
    limit (-1: it is not). now: RULE, MONITORED, QUIET_UNTIL_NS."""
    nr = max(1, len(machine.memcg) // MEMCG_STRIDE)
    return {"scanned": np.zeros(nr, np.int64), "scans": np.zeros(nr, np.int64), "over_ns": np.full(nr, -1, np.int64), "now": np.zeros(3, np.int64)}


@leaf
def without_cgroups(m):
    """1 if there is none but the root."""
    return 1 if m.sc[SC_NR_MEMCGS] <= 1 else 0


@leaf
def is_leaf(m, memcg):
    """1 if no cgroup is below it."""
    for other in range(memcg + 1, m.sc[SC_NR_MEMCGS]):
        if m.memcg[other * MEMCG_STRIDE + MC_PARENT] == memcg:
            return 0
    return 1


@kernel
def candidate_score(m, st, task, asker):
    """By pressure: pages its cgroup scanned << 32 | pages it holds; by swap: pages it has swapped out. Badness where the kernel kills."""
    if asker != OOM_USER_SPACE:
        return badness_of(m, st, task, asker)
    if oom_eligible(m, task, asker) == 0:
        return OOM_NO_CANDIDATE
    if without_cgroups(m):
        return task_rss(m, task) if st.now[RULE] == BY_PRESSURE else task_swap(m, task)
    memcg = m.task[task * TASK_STRIDE + T_MEMCG]
    if memcg == 0 or is_leaf(m, memcg) == 0:
        return OOM_NO_CANDIDATE
    if st.now[RULE] == BY_SWAP:
        return m.memcg[memcg * MEMCG_STRIDE + MC_SWAP_USAGE]
    if memcg_is_descendant(m, memcg, st.now[MONITORED]) == 0:
        return OOM_NO_CANDIDATE
    return st.scans[memcg] << 32 | m.memcg[memcg * MEMCG_STRIDE + MC_USAGE]


@kernel
def kill_worst(m, st, least):
    """End the cgroup (or task) of the highest score, if that is at least so much: tasks killed."""
    chosen, highest, killed = -1, least - 1, 0
    for task in range(m.sc[SC_NR_TASKS]):
        score = candidate_score(m, st, task, OOM_USER_SPACE)
        if score > highest:
            chosen, highest = task, score
    if chosen < 0:
        return 0
    if without_cgroups(m):
        return oom_kill(m, chosen)
    memcg = m.task[chosen * TASK_STRIDE + T_MEMCG]
    for task in range(m.sc[SC_NR_TASKS]):
        if m.task[task * TASK_STRIDE + T_MEMCG] == memcg and oom_eligible(m, task, OOM_USER_SPACE):
            killed += oom_kill(m, task)
    return killed


@kernel
def look_at_scans(m, st):
    """Bring st.scanned and st.scans up to date."""
    for memcg in range(max(1, m.sc[SC_NR_MEMCGS])):
        base = memcg * VMSTAT_STRIDE
        if memcg == 0:
            scanned = m.vmstat[V_PGSCAN_KSWAPD] + m.vmstat[V_PGSCAN_DIRECT]
        else:
            scanned = m.memcg_stat[base + V_PGSCAN_KSWAPD] + m.memcg_stat[base + V_PGSCAN_DIRECT]
        st.scans[memcg] = scanned - st.scanned[memcg]
        st.scanned[memcg] = scanned
    return 0


@kernel
def scans_below(m, st, root):
    """Pages scanned between the last two looks in a cgroup and below it."""
    total = 0
    for memcg in range(root, max(1, m.sc[SC_NR_MEMCGS])):
        if memcg_is_descendant(m, memcg, root):
            total += st.scans[memcg]
    return total


@kernel
def under_pressure(m, st, now_ns):
    """The first monitored cgroup whose pressure has been too high for too long, and in which pages are scanned; -1: none."""
    found = -1
    for memcg in range(max(1, m.sc[SC_NR_MEMCGS])):
        if without_cgroups(m) == 0 and m.memcg[memcg * MEMCG_STRIDE + MC_PARENT] != 0:
            continue
        if m.psi[memcg * PSI_STRIDE + FULL_AVG10] <= st.limit_pct[0] << FSHIFT:
            st.over_ns[memcg] = -1
        elif st.over_ns[memcg] < 0:
            st.over_ns[memcg] = now_ns
        if found < 0 and st.over_ns[memcg] >= 0 and now_ns - st.over_ns[memcg] >= st.duration_ms[0] * 1_000_000 and scans_below(m, st, memcg):
            found = memcg
    return found


@kernel
def select_victim(m, st, task, order):
    """It was too late: the kernel's own killer, by badness."""
    return select_bad_process(m, task)


@kernel
def step(m, st, now_ns):
    """A look at pressure and swap, and a kill by the first rule that is met."""
    look_at_scans(m, st)
    memcg = under_pressure(m, st, now_ns)
    if now_ns >= st.now[QUIET_UNTIL_NS] and somebody_dies(m) == 0:
        killed = 0
        if memcg >= 0:
            st.now[RULE], st.now[MONITORED] = BY_PRESSURE, memcg
            killed = kill_worst(m, st, 0)
            st.over_ns[memcg] = -1
        ram, swap, share = m.sc[SC_TOTALRAM], swap_total(m), st.swap_pct[0]
        if killed == 0 and (ram - mem_available(m)) * 100 > share * ram and (swap - swap_free(m)) * 100 > share * swap:
            st.now[RULE] = BY_SWAP
            killed = kill_worst(m, st, max(1, swap * SWAP_SHARE_PCT // 100))
        if killed:
            st.now[QUIET_UNTIL_NS] = now_ns + st.post_action_ms[0] * 1_000_000
    return st.interval_ms[0] * 1_000_000


OOMD = OomPolicy(
    name="oomd",
    summary="a daemon kills the cgroup that is scanned most while pressure stays high, or the one with most swap",
    models="systemd 256 src/oom/oomd-manager.c, oomd-util.c",
    left_out="preferences, limits of single units, the daemon's own time",
    level="L1",
    params=Params,
    new_state=new_state,
    select_victim=select_victim,
    oom_score=oom_score,
    candidate_score=candidate_score,
    step=step,
)
