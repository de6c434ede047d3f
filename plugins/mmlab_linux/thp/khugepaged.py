"""khugepaged: looks through address spaces, some pages at a time, for small pages to collapse into huge ones, and sleeps in between.

A pass goes on until pages_to_scan of progress are made or the list of address spaces was begun twice. Without a huge page to be had it waits
alloc_sleep_millisecs once in a pass, then gives the pass up. What may be collapsed, and the copying, is the core's. While no address space is
registered it waits for the first one. Its nice value is 19: on a machine with one CPU it has its turn when a task sleeps, or has run for a tick.

Models: mm/khugepaged.c khugepaged_do_scan(), khugepaged_wait_work(). Left out: that the pass itself can be pre-empted.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import khugepaged_scan_mm_slot, lru_add_drain_all
from mmlab.model.const import HPAGE_PMD_ORDER, SCAN_ALLOC_HUGE_PAGE_FAIL
from mmlab.model.gfp import GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT
from mmlab.model.rows import MM_KHUGEPAGED, MM_STRIDE, MM_USERS, SC_BUSY_SINCE_NS, SC_KHUGEPAGED_MM, SC_NR_CPUS, SC_NR_TASKS, SC_TASK

NS_PER_MS = 1_000_000
TICK_NS = 4 * NS_PER_MS  # CONFIG_HZ=250
PASS_PROGRESS, PASS_HEADS, PASS_WAITED = range(3)  # of st.scan_pass, the pass that waits for memory; all 0 between passes


def khugepaged_state() -> dict[str, np.ndarray]:
    """The files of transparent_hugepage/khugepaged as Linux sets them, and the pass that was begun."""
    files = {
        "khugepaged_defrag": 1, "pages_to_scan": 8 << HPAGE_PMD_ORDER, "scan_sleep_millisecs": 10000, "alloc_sleep_millisecs": 60000,
        "max_ptes_none": (1 << HPAGE_PMD_ORDER) - 1, "max_ptes_swap": 64, "max_ptes_shared": 256,
    }  # fmt: skip
    return {**{name: np.array([value]) for name, value in files.items()}, "scan_pass": np.zeros(3, np.int64)}


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
    st.scan_pass[PASS_PROGRESS] = st.scan_pass[PASS_HEADS] = st.scan_pass[PASS_WAITED] = 0
    return max(1, st.scan_sleep_millisecs[0] * NS_PER_MS) if khugepaged_has_work(m) else 0


@leaf
def waits_for_cpu(m, now_ns):
    """ns until the thread may have the CPU that a task is using, 0: now."""
    if m.sc[SC_NR_CPUS] > 1 or m.sc[SC_TASK] < 0:
        return 0
    return max(0, m.sc[SC_BUSY_SINCE_NS] + TICK_NS - now_ns)


@kernel
def khugepaged_do_scan(m, st):
    """One pass, or the rest of one: ns until the next step."""
    lru_add_drain_all(m)
    pages = st.pages_to_scan[0]
    gfp = GFP_TRANSHUGE if st.khugepaged_defrag[0] else GFP_TRANSHUGE_LIGHT
    while st.scan_pass[PASS_PROGRESS] < pages:
        if m.sc[SC_KHUGEPAGED_MM] < 0:
            st.scan_pass[PASS_HEADS] += 1
            if st.scan_pass[PASS_HEADS] == 2:
                break
        left = pages - st.scan_pass[PASS_PROGRESS]
        done = khugepaged_scan_mm_slot(m, left, st.max_ptes_none[0], st.max_ptes_swap[0], st.max_ptes_shared[0], gfp)
        st.scan_pass[PASS_PROGRESS] += done & 0xFFFFFFFF
        if done >> 32 == SCAN_ALLOC_HUGE_PAGE_FAIL and st.scan_pass[PASS_PROGRESS] < pages:
            if st.scan_pass[PASS_WAITED]:
                break
            st.scan_pass[PASS_WAITED] = 1
            return max(1, st.alloc_sleep_millisecs[0] * NS_PER_MS)
    return end_pass(m, st)
