"""What runs beside the tasks when the simulated clock says so: each thread and timer in a function of its own, in the order of do_background().

Every function runs what is due by now; those with a clock of their own return when they are wanted next. With several CPUs these threads run on
another one: their work takes none of the current task's time (elsewhere()).
"""

from mmlab._engine.looping import preempt_by_loops, run_loops
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import monitor_sample, oom_policy_step, page_allocator_tick, thp_step, tiering_step
from mmlab.kernels.pte import lru_gen_use_mm
from mmlab.kernels.runnable import wanted_by_others
from mmlab.kernels.services import background, balance_dirty_pages, task_tick_numa, wb_step, writeback_timers
from mmlab.kernels.zones import fold_lru_diffs
from mmlab.mm.kcompactd import kcompactd
from mmlab.mm.kswapd import kswapd_timers, kswapd_turn, kswapd_turns, run_kswapd
from mmlab.mm.numa_balancing import account_runtime
from mmlab.mm.page_io import blk_flush_plug, swap_io_next_ns, swap_io_poll
from mmlab.mm.policy_fault import step_due
from mmlab.mm.psi import update_averages
from mmlab.mm.zswap_writeback import zswap_worker_turn
from mmlab.model.const import NEVER_NS
from mmlab.model.rows import (
    NODE_STRIDE, N_FIRST_CPU, N_KSWAPD_AWAKE, N_KSWAPD_CLOCK_NS, N_KSWAPD_WAKE_NS, N_NR_CPUS, POLICY_MONITOR_STEP, POLICY_OOM_STEP,
    POLICY_THP_STEP, POLICY_TIERING_STEP, SC_CPU, SC_KCOMPACTD_NS, SC_KSWAPD_AWAKE, SC_KSWAPD_SLICE_NS, SC_KSWAPD_TIMER_NS, SC_MONITOR_NS,
    SC_MONITOR_TIMER_NS, SC_NEXT_EVENT_NS, SC_NEXT_SAMPLE_NS, SC_NEXT_TICK_NS, SC_NODE, SC_NOW_NS, SC_NR_CPUS, SC_NR_LOOPS, SC_NR_NODES,
    SC_NUMA_BALANCING, SC_OOM_TIMER_NS, SC_PREEMPT_NS, SC_RUN_SINCE_NS, SC_STAT_INTERVAL_NS, SC_TASK, SC_THP_TIMER_NS, SC_TIERING_NS,
    SC_TIERING_TIMER_NS, SC_UNPREEMPTED_NS, WB_AWAKE, WB_BALANCE, WB_CLOCK_NS, WB_NEXT_NS, ZSW_SHRINK_PENDING,
)


@leaf
def elsewhere(m, since_ns):
    """What ran since then ran on another CPU, if there is one: the clock of this one goes back."""
    if m.sc[SC_NR_CPUS] > 1:
        m.sc[SC_NOW_NS] = since_ns


@kernel
def tick_task(m, task):
    """The current task's runtime, and its NUMA scan if one is due."""
    if task < 0:
        return NEVER_NS
    account_runtime(m, task)
    if m.sc[SC_NUMA_BALANCING] == 0:
        return NEVER_NS
    now = m.sc[SC_NOW_NS]
    return now + task_tick_numa(m, task)


@kernel
def kswapd_beside(m, task, cpu):
    """The nodes' kswapds on a machine with several CPUs: each on one of its node, beside the task unless that is its only one."""
    now = m.sc[SC_NOW_NS]
    upcoming = NEVER_NS
    for n in range(m.sc[SC_NR_NODES]):
        base = n * NODE_STRIDE
        if m.node[base + N_KSWAPD_AWAKE] == 0:
            continue
        first = m.node[base + N_FIRST_CPU]
        if task >= 0 and first == cpu and m.node[base + N_NR_CPUS] == 1:  # it has no CPU but the task's
            m.sc[SC_CPU] = cpu
            upcoming = min(upcoming, kswapd_turn(m, n, 1))
            now = m.sc[SC_NOW_NS]
            continue
        m.sc[SC_CPU] = (first if first >= 0 else 0) if first != cpu else (cpu + 1) % m.sc[SC_NR_CPUS]
        m.sc[SC_NOW_NS] = max(m.node[base + N_KSWAPD_CLOCK_NS], m.node[base + N_KSWAPD_WAKE_NS])
        if m.sc[SC_NOW_NS] <= now:
            run_kswapd(m, n, now + 1)
        m.node[base + N_KSWAPD_CLOCK_NS] = m.sc[SC_NOW_NS]
        if m.node[base + N_KSWAPD_AWAKE]:
            upcoming = min(upcoming, m.sc[SC_NOW_NS])
        m.sc[SC_NOW_NS] = now
    return upcoming


@kernel
def kswapd_due(m, task, cpu, node):
    """kswapd of every node: its timers, and its turn on the CPU while it is awake."""
    if m.sc[SC_NOW_NS] >= m.sc[SC_KSWAPD_TIMER_NS]:
        kswapd_timers(m)
    upcoming = NEVER_NS
    if m.sc[SC_KSWAPD_AWAKE] > 0:
        contended = wanted_by_others(m)
        m.sc[SC_TASK] = -1
        if m.sc[SC_NR_CPUS] == 1:
            kswapd_turns(m, contended)
            upcoming = m.sc[SC_PREEMPT_NS]
        else:
            upcoming = kswapd_beside(m, task, cpu)
        m.sc[SC_CPU], m.sc[SC_TASK], m.sc[SC_NODE] = cpu, task, node
        if m.sc[SC_NR_CPUS] == 1:
            lru_gen_use_mm(m)
    return min(upcoming, m.sc[SC_KSWAPD_TIMER_NS])


@kernel
def writeback_due(m, task):
    """The flusher: its timers, and its steps while it is awake (on one CPU a slice of them, then the task's turn)."""
    now = m.sc[SC_NOW_NS]
    if now >= m.wb[WB_NEXT_NS]:
        writeback_timers(m)
    upcoming = NEVER_NS
    if m.wb[WB_AWAKE]:
        m.sc[SC_TASK] = -1
        if m.sc[SC_NR_CPUS] == 1:
            if now >= m.wb[WB_CLOCK_NS]:
                end = now + m.sc[SC_KSWAPD_SLICE_NS]
                while wb_step(m) and m.sc[SC_NOW_NS] < end:
                    pass
                m.wb[WB_CLOCK_NS] = m.sc[SC_NOW_NS] + (m.sc[SC_KSWAPD_SLICE_NS] if m.wb[WB_AWAKE] else 0)
            if m.wb[WB_AWAKE]:
                upcoming = m.wb[WB_CLOCK_NS]
        else:
            m.sc[SC_NOW_NS] = m.wb[WB_CLOCK_NS]
            while m.sc[SC_NOW_NS] <= now and wb_step(m):
                pass
            m.wb[WB_CLOCK_NS] = m.sc[SC_NOW_NS]
            if m.wb[WB_AWAKE]:
                upcoming = m.sc[SC_NOW_NS]
            m.sc[SC_NOW_NS] = now
        m.sc[SC_TASK] = task
        if m.sc[SC_NR_CPUS] == 1:
            lru_gen_use_mm(m)
    return min(upcoming, m.wb[WB_NEXT_NS])


@kernel
def zswap_due(m, task):
    """zswap's shrinker in its workqueue."""
    if m.zswap[ZSW_SHRINK_PENDING]:
        now = m.sc[SC_NOW_NS]
        m.sc[SC_TASK] = -1
        zswap_worker_turn(m)
        m.sc[SC_TASK] = task
        elsewhere(m, now)
    return 0


@kernel
def ticks_due(m, cpu):
    """Each CPU's vmstat_update(): its page lists and counters; the averages of pressure."""
    now = m.sc[SC_NOW_NS]
    if now >= m.sc[SC_NEXT_TICK_NS]:
        while m.sc[SC_NEXT_TICK_NS] <= now:
            m.sc[SC_NEXT_TICK_NS] += m.sc[SC_STAT_INTERVAL_NS]
        for c in range(m.sc[SC_NR_CPUS]):
            m.sc[SC_CPU] = c
            page_allocator_tick(m, c)
            fold_lru_diffs(m, c)
        m.sc[SC_CPU] = cpu
        update_averages(m)
    return 0


@kernel
def kcompactd_due(m, task):
    """kcompactd of every node."""
    now = m.sc[SC_NOW_NS]
    if now >= m.sc[SC_KCOMPACTD_NS]:
        m.sc[SC_TASK] = -1
        m.sc[SC_KCOMPACTD_NS] = NEVER_NS
        wait = kcompactd(m)
        m.sc[SC_KCOMPACTD_NS] = min(m.sc[SC_KCOMPACTD_NS], m.sc[SC_NOW_NS] + wait)
        elsewhere(m, now)
        m.sc[SC_TASK] = task
    return m.sc[SC_KCOMPACTD_NS]


@kernel
def monitor_due(m, task):
    """The monitor's step, and on one CPU the loops that wake meanwhile."""
    now = m.sc[SC_NOW_NS]
    if now >= m.sc[SC_MONITOR_TIMER_NS]:
        m.sc[SC_TASK] = -1
        m.sc[SC_UNPREEMPTED_NS] = 0
        wait = monitor_sample(m, now)
        m.sc[SC_MONITOR_NS] += m.sc[SC_NOW_NS] - now
        blk_flush_plug(m)
        preempt_by_loops(m, m.sc[SC_NOW_NS] - now - m.sc[SC_UNPREEMPTED_NS])
        m.sc[SC_MONITOR_TIMER_NS] = step_due(m, POLICY_MONITOR_STEP, now, wait)
        elsewhere(m, now)
        m.sc[SC_TASK] = task
    return 0


@kernel
def tiering_due(m, task):
    """The tiering policy's step."""
    now = m.sc[SC_NOW_NS]
    if now >= m.sc[SC_TIERING_TIMER_NS]:
        m.sc[SC_TASK] = -1
        wait = tiering_step(m, now)
        m.sc[SC_TIERING_NS] += m.sc[SC_NOW_NS] - now
        m.sc[SC_TIERING_TIMER_NS] = step_due(m, POLICY_TIERING_STEP, now, wait)
        elsewhere(m, now)
        m.sc[SC_TASK] = task
    return 0


@kernel
def thp_due(m):
    """The THP policy's step (khugepaged)."""
    now = m.sc[SC_NOW_NS]
    if now >= m.sc[SC_THP_TIMER_NS]:
        wait = thp_step(m, now)
        m.sc[SC_THP_TIMER_NS] = step_due(m, POLICY_THP_STEP, now, wait)
        elsewhere(m, now)
    return 0


@kernel
def oom_due(m):
    """A killer in user space looks at the machine."""
    now = m.sc[SC_NOW_NS]
    if now >= m.sc[SC_OOM_TIMER_NS]:
        wait = oom_policy_step(m, now)
        m.sc[SC_OOM_TIMER_NS] = step_due(m, POLICY_OOM_STEP, now, wait)
        elsewhere(m, now)
    return 0


@kernel
def do_background(m):
    """Let what is due by now happen. Sets m.sc[SC_NEXT_EVENT_NS]: when this is needed next."""
    cpu, task, node = m.sc[SC_CPU], m.sc[SC_TASK], m.sc[SC_NODE]
    swap_io_poll(m)
    upcoming = min(m.sc[SC_NEXT_SAMPLE_NS], tick_task(m, task))
    upcoming = min(upcoming, kswapd_due(m, task, cpu, node))
    upcoming = min(upcoming, writeback_due(m, task))
    zswap_due(m, task)
    ticks_due(m, cpu)
    upcoming = min(upcoming, kcompactd_due(m, task))
    monitor_due(m, task)
    tiering_due(m, task)
    thp_due(m)
    oom_due(m)
    if m.sc[SC_NR_LOOPS] > 0:
        upcoming = min(upcoming, run_loops(m))
    m.sc[SC_RUN_SINCE_NS] = m.sc[SC_NOW_NS]
    upcoming = min(upcoming, swap_io_next_ns(m))
    upcoming = min(upcoming, min(m.sc[SC_NEXT_TICK_NS], m.sc[SC_MONITOR_TIMER_NS]))
    upcoming = min(upcoming, min(m.sc[SC_TIERING_TIMER_NS], m.sc[SC_THP_TIMER_NS]))
    m.sc[SC_NEXT_EVENT_NS] = min(upcoming, m.sc[SC_OOM_TIMER_NS])
    return 0


@kernel
def do_run_due_work(m):
    """Background work that has become due, and the sleep of a task that has dirtied more pages than the disk writes."""
    wake_ns = m.sc[SC_NOW_NS]
    while m.sc[SC_NOW_NS] >= m.sc[SC_NEXT_EVENT_NS] or m.wb[WB_BALANCE] or m.sc[SC_NOW_NS] < wake_ns:
        if m.wb[WB_BALANCE] and m.sc[SC_NOW_NS] >= wake_ns:
            wake_ns = m.sc[SC_NOW_NS] + balance_dirty_pages(m)
        m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], min(wake_ns, m.sc[SC_NEXT_EVENT_NS]))
        if m.sc[SC_NOW_NS] >= m.sc[SC_NEXT_EVENT_NS]:
            background(m)
        if m.sc[SC_NOW_NS] >= wake_ns and m.wb[WB_BALANCE] == 0:
            break
    return 0
