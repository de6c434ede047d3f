"""Access checks: one page of each region and sampling interval.

Models: mm/damon/vaddr.c damon_va_prepare_access_checks(), __damon_va_check_access(); mm/damon/paddr.c damon_pa_prepare_access_checks(),
__damon_pa_check_access(); mm/damon/core.c damon_update_region_access_rate(). O(regions), whatever the size of memory.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.prefetch import prefetch
from mmlab.kernels.pte import walk_pmd
from mmlab.model.rows import (
    COST_DAMON_CHECK, MM_STRIDE, MM_USERS, PTE_HUGE, PTE_SHIFT, PTE_SPECIAL, SC_MAX_PFN, SC_MONITOR_CHECKS, SC_NOW_NS, T_ALIVE, T_MM, T_PID,
    TASK_STRIDE,
)
from mmlab_linux.monitor.damon.merge_split import max_nr_accesses
from mmlab_linux.monitor.damon.ops_common import MAPPED, damon_get_folio, damon_pa_mkold, damon_pa_young, damon_va_mkold, damon_va_young
from mmlab_linux.monitor.damon.rand import damon_rand
from mmlab_linux.monitor.damon.region import next_region, target_row
from mmlab_linux.monitor.damon.state import (
    C_NR_CHECKS, C_NR_TARGETS, C_OPS, CTX_STRIDE, ONE_LAST_ACCESSED, ONE_LAST_ADDR, ONE_LAST_FOLIO_SZ, OPS_PADDR, R_END, R_LAST_NR_ACCESSES,
    R_NR_ACCESSES, R_NR_ACCESSES_BP, R_SAMPLING_ADDR, R_START, REGION_STRIDE, T_HEAD, T_PID_NR, T_TASK,
)

AHEAD = 24  # regions from one stage of look_ahead() to the next, and to the check


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
def look_ahead(m, st, mm, paddr, r, head, stage):
    """Start loading what the check of region r will want: stage 0 the entry of the upper table, 1 that of the lower one, 2 the frame's record.
    The region after r, or the list's head. Pages lie anywhere in memory; without this each check would wait for it, the longer the larger
    memory is."""
    if r == head:
        return head
    vpn = st.region[r * REGION_STRIDE + R_SAMPLING_ADDR] >> 12
    pfn = -1
    if paddr:
        pfn = vpn if stage == 0 and vpn < m.sc[SC_MAX_PFN] else -1
    else:
        slot = walk_pmd(m, mm, vpn)
        if slot >= 0 and stage == 0:
            prefetch(m.pt, slot)
        elif slot >= 0:
            entry = m.pt[slot]
            if entry and entry & PTE_HUGE == 0:
                slot = (entry >> PTE_SHIFT) * 512 + (vpn & 511)
                if stage == 1:
                    prefetch(m.pt, slot)
                    entry = 0
                else:
                    entry = m.pt[slot]
            elif stage == 2:
                entry = 0
            pfn = entry >> PTE_SHIFT if entry & MAPPED and entry & PTE_SPECIAL == 0 else -1
    if pfn >= 0:
        prefetch(m.page, pfn * 4)
        if paddr:
            prefetch(m.pagex, pfn * 4)  # its size
    return next_region(st, r)


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
            base = r * REGION_STRIDE
            st.region[base + R_SAMPLING_ADDR] = damon_rand(m, st, k, st.region[base + R_START], st.region[base + R_END])
            r = next_region(st, r)
        step = 0
        r = upper = lower = frame = next_region(st, head)
        while r != head:
            upper = look_ahead(m, st, mm, paddr, upper, head, 0)
            if step >= AHEAD:
                lower = look_ahead(m, st, mm, paddr, lower, head, 1)
            if step >= 2 * AHEAD:
                frame = look_ahead(m, st, mm, paddr, frame, head, 2)
            if step >= 3 * AHEAD:
                addr = st.region[r * REGION_STRIDE + R_SAMPLING_ADDR]
                if paddr:
                    damon_pa_mkold(m, addr)
                else:
                    damon_va_mkold(m, mm, addr)
                r = next_region(st, r)
            step += 1
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
        r = upper = lower = frame = next_region(st, head)
        same_target = 1 if paddr and index > 0 else 0
        step = 0
        while r != head:
            if mm >= 0:
                upper = look_ahead(m, st, mm, paddr, upper, head, 0)
                if step >= AHEAD:
                    lower = look_ahead(m, st, mm, paddr, lower, head, 1)
                if step >= 2 * AHEAD:
                    frame = look_ahead(m, st, mm, paddr, frame, head, 2)
                step += 1
                if step <= 3 * AHEAD:
                    continue
            addr = st.region[r * REGION_STRIDE + R_SAMPLING_ADDR]
            if mm < 0:
                update_region_access_rate(st, r, 0, top)
            else:
                folio_sz = st.one[ONE_LAST_FOLIO_SZ]
                if same_target == 0 or addr // folio_sz != st.one[ONE_LAST_ADDR] // folio_sz:
                    st.one[ONE_LAST_ACCESSED] = damon_pa_young(m, st, addr) if paddr else damon_va_young(m, st, mm, addr)
                    st.one[ONE_LAST_ADDR] = addr
                update_region_access_rate(st, r, st.one[ONE_LAST_ACCESSED], top)
            most = max(most, st.region[r * REGION_STRIDE + R_NR_ACCESSES])
            same_target = 1
            checks += 1
            if paddr == 0 or damon_get_folio(m, addr >> 12) >= 0:
                walks += 1  # a frame that is on no LRU list takes no time to speak of
            r = next_region(st, r)
    st.ctx[base + C_NR_CHECKS] += checks
    m.sc[SC_MONITOR_CHECKS] += checks
    m.sc[SC_NOW_NS] += walks * m.cost[COST_DAMON_CHECK]
    return most
