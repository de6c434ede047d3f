"""Linux's own tiering: reclaim demotes to the next tier, hinting faults promote what is used soon after its scan, or what follows its task.

Models: mm/memory-tiers.c next_demotion_node(); kernel/sched/fair.c should_numa_migrate_memory(), numa_promotion_rate_limit(),
numa_promotion_adjust_threshold(), mm/vmstat.c mod_node_page_state(). Left out: nothing of these; scans, faults and moves are the core's (mm/numa_balancing.py, mm/demotion.py).
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memory_tiers import jiffies_ms, node_has_room, node_is_toptier
from mmlab.model.const import NUMA_BALANCING_MEMORY_TIERING
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.page import folio_nr_pages
from mmlab.model.rows import (
    N_DEMOTION_TARGETS, N_NBP_RL_NR_CAND, N_NBP_RL_START, N_NBP_TH_NR_CAND, N_NBP_TH_START, N_NBP_THRESHOLD, N_PRESENT, NB_HOT_THRESHOLD,
    NB_RATE_LIMIT, NB_SCAN_PERIOD_MAX, NODE_STRIDE, NT_PREFERRED, NT_SCAN_SEQ, NT_STRIDE, SC_CPU, SC_NR_CPUS, SC_NR_NODES,
    SC_NR_ZONES, SC_NUMA_BALANCING, T_CPU, T_PID, TASK_STRIDE, Z_NODE, Z_STAT_THRESHOLD, ZONE_STRIDE,
)
from mmlab.model.vmstat import V_PGDEMOTE_DIRECT, V_PGDEMOTE_KSWAPD, V_PGPROMOTE_CANDIDATE, VMSTAT_STRIDE, mod_node_state
from mmlab.policies import Tiering

NUMA_MIGRATION_ADJUST_STEPS = 16
NO_PID = 255
PAGES_PER_MB = 256
GB_PAGES = 1 << 18


@leaf
def next_demotion_node(m, node):
    """The node that takes the next page demoted from `node`: where several are equally near, they take turns (Linux: at random)."""
    targets = m.node[node * NODE_STRIDE + N_DEMOTION_TARGETS]
    count = 0
    for target in range(m.sc[SC_NR_NODES]):
        count += (targets >> target) & 1
    demoted = m.vmstat[node * VMSTAT_STRIDE + V_PGDEMOTE_KSWAPD] + m.vmstat[node * VMSTAT_STRIDE + V_PGDEMOTE_DIRECT]
    turn = demoted % count
    for target in range(m.sc[SC_NR_NODES]):
        if (targets >> target) & 1:
            if turn == 0:
                return target
            turn -= 1
    return -1


@leaf
def nr_candidates(m, node):
    """pgpromote_candidate as the kernel reads it: without what each CPU has not told yet."""
    told = m.vmstat[node * VMSTAT_STRIDE + V_PGPROMOTE_CANDIDATE]
    for cpu in range(m.sc[SC_NR_CPUS]):
        told -= m.promote_diff[cpu * m.sc[SC_NR_NODES] + node]
    return told


@leaf
def count_candidates(m, node, nr):
    """pgpromote_candidate += nr. The CPU tells it once its difference exceeds the node's threshold, the largest of its zones'."""
    mod_node_state(m, node, V_PGPROMOTE_CANDIDATE, nr)
    threshold = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
            threshold = max(threshold, m.zone[zone * ZONE_STRIDE + Z_STAT_THRESHOLD])
    slot = m.sc[SC_CPU] * m.sc[SC_NR_NODES] + node
    diff = m.promote_diff[slot] + nr
    m.promote_diff[slot] = 0 if diff > threshold else diff


@leaf
def numa_promotion_adjust_threshold(m, node, rate_limit):
    """Once in scan_period_max: move the node's hot threshold, in sixteenths of twice the setting, so that candidates meet the rate limit."""
    row = node * NODE_STRIDE
    now, period = jiffies_ms(m), m.numab[NB_SCAN_PERIOD_MAX]
    if now - m.node[row + N_NBP_TH_START] <= period:
        return
    m.node[row + N_NBP_TH_START] = now
    ref_cand = rate_limit * period // 1000
    nr_cand = nr_candidates(m, node)
    diff_cand = nr_cand - m.node[row + N_NBP_TH_NR_CAND]
    ref_th = m.numab[NB_HOT_THRESHOLD]
    unit_th = ref_th * 2 // NUMA_MIGRATION_ADJUST_STEPS
    th = m.node[row + N_NBP_THRESHOLD] if m.node[row + N_NBP_THRESHOLD] else ref_th
    if diff_cand > ref_cand * 11 // 10:
        th = max(th - unit_th, unit_th)
    elif diff_cand < ref_cand * 9 // 10:
        th = min(th + unit_th, ref_th * 2)
    m.node[row + N_NBP_TH_NR_CAND] = nr_cand
    m.node[row + N_NBP_THRESHOLD] = th


@leaf
def numa_promotion_rate_limit(m, node, rate_limit, nr):
    """Count nr candidates; 1 if as many pages have asked within this second as the limit allows."""
    row = node * NODE_STRIDE
    now = jiffies_ms(m)
    count_candidates(m, node, nr)
    nr_cand = nr_candidates(m, node)
    if now - m.node[row + N_NBP_RL_START] > 1000:
        m.node[row + N_NBP_RL_START] = now
        m.node[row + N_NBP_RL_NR_CAND] = nr_cand
    return 1 if nr_cand - m.node[row + N_NBP_RL_NR_CAND] >= rate_limit else 0


@leaf
def is_hot_enough(m, folio, node):
    """A page of a slow node, under memory tiering: at once while the fast node has a great deal free, else if it was used soon after its
    scan and not too many others were."""
    enough = max(GB_PAGES, m.node[node * NODE_STRIDE + N_PRESENT] >> 4)
    if node_has_room(m, node, 3, enough, ZONE_MOVABLE):
        m.node[node * NODE_STRIDE + N_NBP_THRESHOLD] = 0
        return 1
    rate_limit = m.numab[NB_RATE_LIMIT] * PAGES_PER_MB
    numa_promotion_adjust_threshold(m, node, rate_limit)
    threshold = m.node[node * NODE_STRIDE + N_NBP_THRESHOLD]
    latency = jiffies_ms(m) - (np.int64(m.cpupid[folio]) - 1)
    m.cpupid[folio] = jiffies_ms(m) + 1
    if latency >= (threshold if threshold else m.numab[NB_HOT_THRESHOLD]):
        return 0
    return 1 - numa_promotion_rate_limit(m, node, rate_limit, folio_nr_pages(m, folio))


@leaf
def should_numa_migrate_memory(m, task, folio, source, node):
    """1 if a page follows the task to its node. The two-fault rule: late in a task's life only a page that it, or someone else on its node,
    used last before."""
    if m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING and node_is_toptier(m, source) == 0:
        return is_hot_enough(m, folio, node)
    last = np.int64(m.cpupid[folio])
    pid = m.task[task * TASK_STRIDE + T_PID] & 255
    m.cpupid[folio] = 1 + (m.task[task * TASK_STRIDE + T_CPU] << 8 | pid)
    if m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING == 0 and node_is_toptier(m, source) == 0 and last == 0:
        return 0
    unset = last == 0 or (last - 1) & 255 == NO_PID
    same = last > 0 and (last - 1) & 255 == pid
    early = m.numa_task[task * NT_STRIDE + NT_PREFERRED] == 0 or m.numa_task[task * NT_STRIDE + NT_SCAN_SEQ] <= 4
    if early and (unset or same):
        return 1
    return 0 if not unset and m.cpu_node[(last - 1) >> 8] != node else 1


@kernel
def demotion_node(m, st, pfn, node, scan_flags):
    """The next tier's nearest node."""
    return next_demotion_node(m, node)


@kernel
def should_migrate(m, st, task, pfn, source, node):
    """NUMA balancing's answer in the mode that is on."""
    return should_numa_migrate_memory(m, task, pfn, source, node)


LINUX_TIERING = Tiering(
    name="linux",
    summary="Linux's: demotion by reclaim, promotion and placement by hinting faults",
    models="kernel/sched/fair.c, mm/memory-tiers.c",
    level="L4",
    hint_faults=True,
    demotes=True,
    demotion_node=demotion_node,
    should_migrate=should_migrate,
)
