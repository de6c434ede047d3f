"""Tasks that touch a range again and again beside what the script does: rows of m.loop, one a task (`loop`, and `touch` under `bg`).

A pass touches every page of the range in order. With a period a pass begins every period and the task sleeps in between; a monitor that wakes
meanwhile waits for the end of the pass or of the base slice that the scheduler grants it (RUN_TO_PARITY). Without a period the task
is always runnable and gets the CPU in slices, so that a woken thread waits for the slice's end. What faults nothing is not done twice in a
slice: its time alone is counted. O(page tables of the range) a pass while all pages are there.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.memory_tiers import TICK_NS
from mmlab.kernels.pte import mapped_entry, walk_pmd, walk_pte
from mmlab.kernels.retouch import retouch
from mmlab.kernels.services import task_tick_numa
from mmlab.mm.memory import do_user_addr_fault
from mmlab.mm.numa_balancing import account_runtime
from mmlab.model.const import NEVER_NS
from mmlab.model.rows import (
    COST_HIT, LOOP_ACCESS, LOOP_AT, LOOP_COUNT, LOOP_DONE, LOOP_END_NS, LOOP_ENDED_NS, LOOP_FAILED, LOOP_NEXT_NS, LOOP_NOFLUSH,
    LOOP_PASSES, LOOP_PERIOD_NS, LOOP_RUNS, LOOP_STATE, LOOP_STEP, LOOP_STRIDE, LOOP_VPN, MM_STRIDE, MM_USERS, PTE_ACCESSED, PTE_DIRTY,
    PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_WRITE, SC_CPU, SC_KSWAPD_SLICE_NS, SC_MONITOR_TIMER_NS, SC_NODE, SC_NOW_NS, SC_NR_CPUS, SC_NR_LOOPS, SC_NR_TASKS,
    SC_NUMA_BALANCING, SC_PANIC, SC_RUN_SINCE_NS, SC_TASK, T_ALIVE, T_CPU, T_FLAGS, T_MM, T_NODE, TASK_STRIDE, TF_KILLED, SC_WANTS_ACCESS,
    SUBPAGE_WRITTEN, WANTS_SUBPAGES,
)


BASE_SLICE_NS = 750_000  # sysctl_sched_base_slice on one CPU


@kernel
def touch_again(m, task, first, last, until_ns):
    """Touch pages first .. last-1 of a loop's pass: how many were touched; fewer when a signal or kill stopped it, or when faults took the time
    until until_ns. Time passes."""
    row = task * LOOP_STRIDE
    mm = m.task[task * TASK_STRIDE + T_MM]
    step = m.loop[row + LOOP_STEP]
    write = m.loop[row + LOOP_ACCESS] == 1
    need = PTE_PRESENT | (PTE_WRITE if write else 0)
    bits = PTE_ACCESSED | (PTE_DIRTY if write else 0)
    if m.loop[row + LOOP_NOFLUSH] and m.loop[row + LOOP_PASSES] > 0:
        bits = 0  # the translations are still there: no walk sets the bits again
    i = first
    while i < last:
        vpn = m.loop[row + LOOP_VPN] + i * step
        nr = min(last - i, (511 - (vpn & 511)) // step + 1)
        pmd = walk_pmd(m, mm, vpn)
        if pmd >= 0 and m.pt[pmd] & PTE_HUGE:
            done = retouch(m, pmd, 1, 1, need, bits)
        else:
            done = retouch(m, (m.pt[pmd] >> PTE_SHIFT) * 512 + (vpn & 511), nr, step, need, bits) if pmd >= 0 and m.pt[pmd] else 0
        faulted = 0
        if done == 0:
            nr = 1
            pmd = walk_pmd(m, mm, vpn)
            slot = pmd
            if pmd >= 0 and m.pt[pmd] and m.pt[pmd] & PTE_HUGE == 0:
                slot = (m.pt[pmd] >> PTE_SHIFT) * 512 + (vpn & 511)
            if slot >= 0 and m.pt[slot] & need == need:
                m.pt[slot] |= bits
            else:
                result = do_user_addr_fault(m, task, vpn, 1 if write else 0)
                if result < 0 or m.task[task * TASK_STRIDE + T_FLAGS] & TF_KILLED or m.sc[SC_PANIC]:
                    m.loop[row + LOOP_STATE] = LOOP_FAILED
                    return i - first
                faulted = 1
        if write and m.loop[row + LOOP_PASSES] == 0 and m.sc[SC_WANTS_ACCESS] & WANTS_SUBPAGES:
            for at in range(vpn, vpn + nr * step, step):
                entry = mapped_entry(m, mm, at)
                if entry & PTE_PRESENT:
                    m.subpage[(entry >> PTE_SHIFT) + (at & 511 if entry & PTE_HUGE else 0)] |= SUBPAGE_WRITTEN
        i += nr
        m.sc[SC_NOW_NS] += nr * m.cost[COST_HIT]
        if faulted and m.sc[SC_NOW_NS] >= until_ns:
            return i - first
    return last - first


@kernel
def touch_own_pages(m, task):
    """The pages of its own that a pass touches, code, data and stack: those that are mapped are young afterwards."""
    mm = m.task[task * TASK_STRIDE + T_MM]
    for i in range(len(m.loop_page)):
        vpn = m.loop_page[i]
        slot = walk_pte(m, mm, vpn) if vpn > 0 else -1
        if slot >= 0 and m.pt[slot] & PTE_PRESENT:
            m.pt[slot] |= PTE_ACCESSED


@kernel
def run_slice(m, task, until_ns):
    """Passes of a loop without a period until the clock reaches until_ns; the last may be left in its middle."""
    row = task * LOOP_STRIDE
    count, hit_ns = m.loop[row + LOOP_COUNT], m.cost[COST_HIT]
    while m.sc[SC_NOW_NS] < until_ns and m.loop[row + LOOP_STATE] == LOOP_RUNS:
        began = m.sc[SC_NOW_NS]
        touch_own_pages(m, task)
        at = m.loop[row + LOOP_AT]
        nr = min(count - at, max(1, (until_ns - began) // hit_ns)) if hit_ns > 0 else count - at
        done = touch_again(m, task, at, at + nr, until_ns)
        if m.loop[row + LOOP_STATE] != LOOP_RUNS:
            return 0
        m.loop[row + LOOP_AT] = at + done
        if at + done < count:
            continue
        m.loop[row + LOOP_AT] = 0
        m.loop[row + LOOP_PASSES] += 1
        if hit_ns == 0:
            m.sc[SC_NOW_NS] = until_ns
        elif nr == count and m.sc[SC_NOW_NS] - began == count * hit_ns:
            again = max(0, (min(until_ns, m.loop[row + LOOP_END_NS]) - m.sc[SC_NOW_NS]) // (count * hit_ns))
            m.loop[row + LOOP_PASSES] += again
            m.sc[SC_NOW_NS] += again * count * hit_ns
        if m.sc[SC_NOW_NS] >= m.loop[row + LOOP_END_NS]:
            m.loop[row + LOOP_STATE] = LOOP_DONE
    return 0


@kernel
def run_pass(m, task):
    """The pass that a loop with a period owes now (on one CPU up to where a monitor's thread takes its turn), or its end."""
    row = task * LOOP_STRIDE
    at, count = m.loop[row + LOOP_AT], m.loop[row + LOOP_COUNT]
    if at == 0 and m.loop[row + LOOP_PASSES] > 0 and m.sc[SC_NOW_NS] >= m.loop[row + LOOP_END_NS]:
        m.loop[row + LOOP_STATE] = LOOP_DONE
        return 0
    touch_own_pages(m, task)
    nr, until = count - at, NEVER_NS
    if m.sc[SC_NR_CPUS] == 1 and m.cost[COST_HIT] > 0:
        until = max(m.sc[SC_NOW_NS] + BASE_SLICE_NS, m.sc[SC_MONITOR_TIMER_NS])
        nr = min(nr, max(1, (until - m.sc[SC_NOW_NS]) // m.cost[COST_HIT]))
    nr = touch_again(m, task, at, at + nr, until)
    if m.loop[row + LOOP_STATE] != LOOP_RUNS:
        return 0
    m.loop[row + LOOP_AT] = at + nr
    if at + nr == count:
        m.loop[row + LOOP_AT] = 0
        m.loop[row + LOOP_PASSES] += 1
        m.loop[row + LOOP_NEXT_NS] += m.loop[row + LOOP_PERIOD_NS]  # passes that are late are made up for
    return 0


@kernel
def run_due(m, task, now, current):
    """What a loop owes by now: a pass, or a slice of them. On one CPU the clock moves on; on more, a loop has a clock of its own."""
    row = task * LOOP_STRIDE
    alone = m.sc[SC_NR_CPUS] == 1
    m.sc[SC_TASK], m.sc[SC_CPU], m.sc[SC_NODE] = task, m.task[task * TASK_STRIDE + T_CPU], m.task[task * TASK_STRIDE + T_NODE]
    if alone == 0:
        m.sc[SC_NOW_NS] = m.loop[row + LOOP_NEXT_NS]
    if m.task[task * TASK_STRIDE + T_ALIVE] == 0 or m.mm[m.task[task * TASK_STRIDE + T_MM] * MM_STRIDE + MM_USERS] == 0:
        m.loop[row + LOOP_STATE] = LOOP_FAILED
    else:
        began = m.sc[SC_RUN_SINCE_NS] = m.sc[SC_NOW_NS]
        if m.loop[row + LOOP_PERIOD_NS] > 0:
            run_pass(m, task)
        else:
            run_slice(m, task, max(m.sc[SC_NOW_NS], now) + m.sc[SC_KSWAPD_SLICE_NS])
            m.loop[row + LOOP_NEXT_NS] = m.sc[SC_NOW_NS]
            if alone and current >= 0:
                m.loop[row + LOOP_NEXT_NS] += m.sc[SC_KSWAPD_SLICE_NS]  # the task that was running has its turn
        if m.sc[SC_NUMA_BALANCING] and m.sc[SC_NOW_NS] // TICK_NS > began // TICK_NS:
            task_tick_numa(m, task)  # a task that sleeps whenever the timer ticks is never scanned
        account_runtime(m, task)
    if m.loop[row + LOOP_STATE] != LOOP_RUNS:
        m.loop[row + LOOP_ENDED_NS] = m.sc[SC_NOW_NS]
        m.sc[SC_NR_LOOPS] -= 1
    if alone == 0:
        m.sc[SC_NOW_NS] = now
    return 0


@kernel
def run_loops(m):
    """Let every loop do what is due by now; the time of the next."""
    now, cpu, node, current = m.sc[SC_NOW_NS], m.sc[SC_CPU], m.sc[SC_NODE], m.sc[SC_TASK]
    upcoming = NEVER_NS
    for task in range(m.sc[SC_NR_TASKS]):
        row = task * LOOP_STRIDE
        if m.loop[row + LOOP_STATE] != LOOP_RUNS:
            continue
        if m.loop[row + LOOP_NEXT_NS] <= now:
            run_due(m, task, now, current)
        if m.loop[row + LOOP_STATE] == LOOP_RUNS:
            upcoming = min(upcoming, m.loop[row + LOOP_NEXT_NS])
    m.sc[SC_TASK], m.sc[SC_CPU], m.sc[SC_NODE] = current, cpu, node
    return upcoming


@kernel
def preempt_by_loops(m, used_ns):
    """A kernel thread worked for so long on the only CPU where it lets others go first: tasks that sleep between their passes woke meanwhile, so
    it ends later."""
    if m.sc[SC_NR_CPUS] > 1 or m.sc[SC_NR_LOOPS] == 0 or used_ns <= m.sc[SC_KSWAPD_SLICE_NS]:
        return 0
    cpu, node, current = m.sc[SC_CPU], m.sc[SC_NODE], m.sc[SC_TASK]
    owed = 1
    while owed:
        owed = 0
        for task in range(m.sc[SC_NR_TASKS]):
            row = task * LOOP_STRIDE
            if m.loop[row + LOOP_STATE] == LOOP_RUNS and m.loop[row + LOOP_PERIOD_NS] > 0 and m.loop[row + LOOP_NEXT_NS] <= m.sc[SC_NOW_NS]:
                run_due(m, task, m.sc[SC_NOW_NS], current)
                owed = 1
    m.sc[SC_TASK], m.sc[SC_CPU], m.sc[SC_NODE] = current, cpu, node
    return 0
