"""khugepaged: looks through address spaces, some pages at a time, for small pages to collapse into huge ones, and sleeps in between.

A pass goes on until pages_to_scan of progress are made or the list of address spaces was begun twice. Without a huge page to be had it waits
alloc_sleep_millisecs once in a pass, then gives the pass up. What may be collapsed, and the copying, is the core's. While no address space is
registered it waits for the first one.

A collapse takes CPU time, and the huge page is there when it has had that. On a machine with one CPU its nice value of 19 counts: while a task
wants the CPU it has a turn of a tick, and then none before the tasks have run 1024/15 times as long; when nobody wants the CPU it goes on at
once. Seen by sched_switch on Linux 6.12: the first wake-up after it was started takes the CPU from whoever wakes it, later ones do not. If
that is a madvise(), the mmap lock is taken, khugepaged does not wait for it, and the pass is over.

Models: mm/khugepaged.c khugepaged_do_scan(), khugepaged_wait_work(); kernel/sched/fair.c, of which the weight of a nice value. Left out: several
CPUs that are all busy; that it holds the mmap lock while it copies.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.runnable import wanted_by_others
from mmlab.kernels.services import khugepaged_scan_mm_slot, lru_add_drain_all
from mmlab.model.const import HPAGE_PMD_NR, HPAGE_PMD_ORDER, SCAN_ALLOC_HUGE_PAGE_FAIL
from mmlab.model.gfp import GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT
from mmlab.model.rows import (
    COST_COPY_PAGE, COST_HUGE_ZERO, KHUGEPAGED_LOCKED_OUT, KHUGEPAGED_PREEMPTS, KHUGEPAGED_RAN, MM_KHUGEPAGED, MM_STRIDE, MM_USERS, SC_IDLE_NS,
    SC_KHUGEPAGED_FULL_SCANS, SC_KHUGEPAGED_MM, SC_KHUGEPAGED_READY, SC_KHUGEPAGED_WAKE, SC_NOW_NS, SC_NR_CPUS, SC_NR_TASKS,
)

NS_PER_MS = 1_000_000
TICK_NS = 4 * NS_PER_MS  # CONFIG_HZ=250
NICE_0_LOAD, WEIGHT_NICE_19 = 1024, 15
# of st.scan_pass, the pass that was begun; all 0 between passes
PASS_PROGRESS, PASS_HEADS, PASS_WAITED, PASS_AWAKE, PASS_WORK_NS, PASS_DEBT_NS, PASS_SEEN_NS, PASS_IDLE_NS = range(8)


def khugepaged_state() -> dict[str, np.ndarray]:
    """The files of transparent_hugepage/khugepaged as Linux sets them, and the pass that was begun."""
    files = {
        "khugepaged_defrag": 1, "pages_to_scan": 8 << HPAGE_PMD_ORDER, "scan_sleep_millisecs": 10000, "alloc_sleep_millisecs": 60000,
        "max_ptes_none": (1 << HPAGE_PMD_ORDER) - 1, "max_ptes_swap": 64, "max_ptes_shared": 256,
    }  # fmt: skip
    return {**{name: np.array([value]) for name, value in files.items()}, "scan_pass": np.zeros(8, np.int64)}


@kernel
def khugepaged_has_work(m):
    """1 if an address space is registered."""
    for mm in range(m.sc[SC_NR_TASKS]):
        if m.mm[mm * MM_STRIDE + MM_KHUGEPAGED] and m.mm[mm * MM_STRIDE + MM_USERS]:
            return 1
    return 0


@leaf
def end_pass(m, st):
    """Forget the pass; ns to sleep until the next, 0 until there is work."""
    for field in range(len(st.scan_pass)):
        st.scan_pass[field] = 0
    return max(1, st.scan_sleep_millisecs[0] * NS_PER_MS) if khugepaged_has_work(m) else 0


@leaf
def account_cpu(m, st, now_ns):
    """What happened since the last look: an idle CPU worked for the pass, tasks that ran paid its debt off."""
    if st.scan_pass[PASS_AWAKE] == 0:
        st.scan_pass[PASS_AWAKE] = 1
        st.scan_pass[PASS_DEBT_NS] = 0 if m.sc[SC_KHUGEPAGED_WAKE] == KHUGEPAGED_PREEMPTS else TICK_NS
        idle = elapsed = 0
    else:
        elapsed = now_ns - st.scan_pass[PASS_SEEN_NS]
        idle = m.sc[SC_IDLE_NS] - st.scan_pass[PASS_IDLE_NS] if m.sc[SC_NR_CPUS] == 1 else elapsed
    st.scan_pass[PASS_SEEN_NS] = now_ns
    st.scan_pass[PASS_IDLE_NS] = m.sc[SC_IDLE_NS]
    st.scan_pass[PASS_WORK_NS] = max(0, st.scan_pass[PASS_WORK_NS] - idle)
    st.scan_pass[PASS_DEBT_NS] = 0 if idle else max(0, st.scan_pass[PASS_DEBT_NS] - elapsed)


@kernel
def khugepaged_do_scan(m, st, now_ns):
    """A turn of a pass: ns until the next step."""
    if m.sc[SC_KHUGEPAGED_WAKE] == KHUGEPAGED_LOCKED_OUT and m.sc[SC_NR_CPUS] == 1:
        m.sc[SC_KHUGEPAGED_WAKE] = KHUGEPAGED_RAN
        m.sc[SC_KHUGEPAGED_FULL_SCANS] += 1
        return end_pass(m, st)
    began = st.scan_pass[PASS_AWAKE]
    if began == 0 and khugepaged_has_work(m) == 0:
        return end_pass(m, st)  # just started, most of all
    account_cpu(m, st, now_ns)
    wanted = wanted_by_others(m)
    if wanted and st.scan_pass[PASS_DEBT_NS] > 0:
        return TICK_NS
    if began == 0:
        lru_add_drain_all(m)
        m.sc[SC_KHUGEPAGED_WAKE] = KHUGEPAGED_RAN
    turn_ns = TICK_NS if wanted else 0
    pages = st.pages_to_scan[0]
    gfp = GFP_TRANSHUGE if st.khugepaged_defrag[0] else GFP_TRANSHUGE_LIGHT
    work_ns = m.cost[COST_HUGE_ZERO] + HPAGE_PMD_NR * m.cost[COST_COPY_PAGE]
    while st.scan_pass[PASS_PROGRESS] < pages:
        if st.scan_pass[PASS_WORK_NS] > 0:
            used = min(turn_ns, st.scan_pass[PASS_WORK_NS])
            turn_ns -= used
            m.sc[SC_NOW_NS] += used
            st.scan_pass[PASS_WORK_NS] -= used
            if st.scan_pass[PASS_WORK_NS] > 0:
                st.scan_pass[PASS_SEEN_NS] = m.sc[SC_NOW_NS]
                if wanted:
                    st.scan_pass[PASS_DEBT_NS] = TICK_NS * NICE_0_LOAD // WEIGHT_NICE_19
                return min(TICK_NS, st.scan_pass[PASS_WORK_NS])
        if m.sc[SC_KHUGEPAGED_MM] < 0:
            st.scan_pass[PASS_HEADS] += 1
            if st.scan_pass[PASS_HEADS] == 2:
                break
        left = pages - st.scan_pass[PASS_PROGRESS]
        collapses = m.sc[SC_KHUGEPAGED_READY]
        start_ns = m.sc[SC_NOW_NS]
        done = khugepaged_scan_mm_slot(m, left, st.max_ptes_none[0], st.max_ptes_swap[0], st.max_ptes_shared[0], gfp)
        if collapses:
            m.sc[SC_NOW_NS] = max(start_ns, m.sc[SC_NOW_NS] - work_ns)  # it has had that
        if m.sc[SC_KHUGEPAGED_READY]:
            st.scan_pass[PASS_WORK_NS] = work_ns
        st.scan_pass[PASS_PROGRESS] += done & 0xFFFFFFFF
        if done >> 32 == SCAN_ALLOC_HUGE_PAGE_FAIL and st.scan_pass[PASS_PROGRESS] < pages:
            if st.scan_pass[PASS_WAITED]:
                break
            st.scan_pass[PASS_WAITED] = 1
            return max(1, st.alloc_sleep_millisecs[0] * NS_PER_MS)
    return end_pass(m, st)
