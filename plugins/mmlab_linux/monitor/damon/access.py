"""Access checks: one page of each region and sampling interval.

Models: mm/damon/vaddr.c damon_va_prepare_access_checks(), __damon_va_check_access(); mm/damon/paddr.c damon_pa_prepare_access_checks(),
__damon_pa_check_access(); mm/damon/core.c damon_update_region_access_rate(). O(regions), whatever the size of memory.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.prefetch import prefetch
from mmlab.kernels.pte import pte_offset, walk_pmd
from mmlab.model.rows import (
    COST_DAMON_CHECK, MM_STRIDE, MM_USERS, PTE_HUGE, PTE_SHIFT, PTE_SPECIAL, SC_MAX_PFN, SC_MONITOR_CHECKS, SC_NOW_NS, T_ALIVE, T_MM, T_PID,
    TASK_STRIDE,
)
from mmlab_linux.monitor.damon.merge_split import max_nr_accesses
from mmlab_linux.monitor.damon.ops_common import MAPPED, damon_get_folio, damon_pa_mkold, damon_pa_young, damon_va_mkold, damon_va_young
from mmlab_linux.monitor.damon.rand import damon_rand
from mmlab_linux.monitor.damon.region import next_region, target_row
from mmlab_linux.monitor.damon.state import (
    AHEAD, C_NR_CHECKS, C_NR_TARGETS, C_OPS, CTX_STRIDE, ONE_LAST_ACCESSED, ONE_LAST_ADDR, ONE_LAST_FOLIO_SZ, OPS_PADDR, R_END, R_LAST_NR_ACCESSES,
    R_NR_ACCESSES, R_NR_ACCESSES_BP, R_SAMPLING_ADDR, R_START, REGION_STRIDE, T_HEAD, T_PID_NR, T_TASK,
)

@leaf
def target_mm(m, st, k, index):
    """The target's address space, or -1 if its process is gone."""
    row = target_row(k, index)
    task = st.target[row + T_TASK] * TASK_STRIDE
    mm = m.task[task + T_MM]
    if m.task[task + T_ALIVE] == 0 or m.task[task + T_PID] != st.target[row + T_PID_NR] or m.mm[mm * MM_STRIDE + MM_USERS] == 0:
        return -1
    return mm


@leaf
def prefetch_frame(m, pfn, paddr):
    """Start loading what damon_get_folio() will want, and for paddr the folio's size."""
    if pfn < m.sc[SC_MAX_PFN]:
        prefetch(m.page, pfn * 4)
        if paddr:
            prefetch(m.pagex, pfn * 4)


@kernel
def look_ahead(m, st, k, mm, paddr, first, head, choose):
    """Find where the pages of up to AHEAD regions from `first` on are mapped: their rows, and slots in m.pt (-1: nowhere), go to st.ahead.
    choose: the pages are drawn now. Returns how many regions.

    Pages lie anywhere in memory, and each step of a walk would wait for it, the longer the larger memory is: so all of them take a step together.
    """
    nr = 0
    r = first
    while nr < AHEAD and r != head:
        base = r * REGION_STRIDE
        if choose:
            st.region[base + R_SAMPLING_ADDR] = damon_rand(m, st, k, st.region[base + R_START], st.region[base + R_END])
        vpn = st.region[base + R_SAMPLING_ADDR] >> 12
        slot = -1 if paddr else walk_pmd(m, mm, vpn)
        if paddr:
            prefetch_frame(m, vpn, 1)
        elif slot >= 0:
            prefetch(m.pt, slot)
        st.ahead[2 * nr], st.ahead[2 * nr + 1] = r, slot
        nr += 1
        r = next_region(st, r)
    if paddr:
        return nr
    for i in range(nr):
        slot = st.ahead[2 * i + 1]
        if slot >= 0 and m.pt[slot] & PTE_HUGE == 0:
            vpn = st.region[st.ahead[2 * i] * REGION_STRIDE + R_SAMPLING_ADDR] >> 12
            slot = pte_offset(m, slot, vpn) if m.pt[slot] else -1
            if slot >= 0:
                prefetch(m.pt, slot)
            st.ahead[2 * i + 1] = slot
        elif slot >= 0:
            prefetch_frame(m, m.pt[slot] >> PTE_SHIFT, 0)
    for i in range(nr):
        slot = st.ahead[2 * i + 1]
        if slot >= 0 and (m.pt[slot] & MAPPED == 0 or m.pt[slot] & PTE_SPECIAL):
            st.ahead[2 * i + 1] = -1
        elif slot >= 0:
            prefetch_frame(m, m.pt[slot] >> PTE_SHIFT, 0)
    return nr


@kernel
def prepare_access_checks(m, st, k):
    """Choose a page in each region, then clear the accessed state of all."""
    paddr = st.ctx[k * CTX_STRIDE + C_OPS] == OPS_PADDR
    for index in range(st.ctx[k * CTX_STRIDE + C_NR_TARGETS]):
        mm = 0 if paddr else target_mm(m, st, k, index)
        if mm < 0:
            continue
        head = st.target[target_row(k, index) + T_HEAD]
        r = next_region(st, head)
        while r != head:
            nr = look_ahead(m, st, k, mm, paddr, r, head, 1)
            for i in range(nr):
                r = st.ahead[2 * i]
                if paddr:
                    damon_pa_mkold(m, st.region[r * REGION_STRIDE + R_SAMPLING_ADDR])
                else:
                    damon_va_mkold(m, st.ahead[2 * i + 1])
            r = next_region(st, r)
    return 0


@leaf
def update_region_access_rate(st, r, accessed, top):
    """damon_update_region_access_rate(): the window's count, and a moving sum in 1/10000 that supposes the last window evenly spread."""
    base = r * REGION_STRIDE
    st.region[base + R_NR_ACCESSES_BP] += (10000 if accessed else 0) - st.region[base + R_LAST_NR_ACCESSES] * 10000 // top
    if accessed:
        st.region[base + R_NR_ACCESSES] += 1


@kernel
def check_accesses(m, st, k):
    """Look at each region's page: the greatest nr_accesses of any region so far. A folio that the region before looked at is not asked again."""
    base = k * CTX_STRIDE
    paddr = st.ctx[base + C_OPS] == OPS_PADDR
    top = max_nr_accesses(st, k)
    most = 0
    checks = 0
    walks = 0
    for index in range(st.ctx[base + C_NR_TARGETS]):
        mm = 0 if paddr else target_mm(m, st, k, index)
        head = st.target[target_row(k, index) + T_HEAD]
        r = next_region(st, head)
        same_target = 1 if paddr and index > 0 else 0
        while r != head and mm < 0:
            update_region_access_rate(st, r, 0, top)
            most = max(most, st.region[r * REGION_STRIDE + R_NR_ACCESSES])
            checks += 1
            walks += 1
            r = next_region(st, r)
        while r != head:
            nr = look_ahead(m, st, k, mm, paddr, r, head, 0)
            for i in range(nr):
                r = st.ahead[2 * i]
                addr = st.region[r * REGION_STRIDE + R_SAMPLING_ADDR]
                folio_sz = st.one[ONE_LAST_FOLIO_SZ]
                if same_target == 0 or addr // folio_sz != st.one[ONE_LAST_ADDR] // folio_sz:
                    st.one[ONE_LAST_ACCESSED] = damon_pa_young(m, st, addr) if paddr else damon_va_young(m, st, st.ahead[2 * i + 1])
                    st.one[ONE_LAST_ADDR] = addr
                same_target = 1
                update_region_access_rate(st, r, st.one[ONE_LAST_ACCESSED], top)
                most = max(most, st.region[r * REGION_STRIDE + R_NR_ACCESSES])
                if paddr == 0 or damon_get_folio(m, addr >> 12) >= 0:
                    walks += 1  # a frame that is on no LRU list takes no time to speak of
            checks += nr
            r = next_region(st, r)
    st.ctx[base + C_NR_CHECKS] += checks
    m.sc[SC_MONITOR_CHECKS] += checks
    m.sc[SC_NOW_NS] += walks * m.cost[COST_DAMON_CHECK]
    return most
