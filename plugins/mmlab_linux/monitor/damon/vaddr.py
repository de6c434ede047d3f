"""Which addresses of a task are monitored: three ranges, everything but the two biggest holes; and DAMOS actions on them.

Models: mm/damon/vaddr.c __damon_va_three_regions(), __damon_va_init_regions(), damon_va_evenly_split_region(), damon_va_update(),
damon_va_apply_scheme(). O(VMAs).
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.services import find_vma, madvise
from mmlab.model.rows import SC_NOW_NS, T_MM, TASK_STRIDE, VMA_END, VMA_START, VMA_STRIDE
from mmlab_linux.monitor.damon.region import insert_region, region_sz, set_regions, target_row
from mmlab_linux.monitor.damon.state import (
    C_MIN_NR_REGIONS, CTX_STRIDE, D_MIN, DAMOS_COLD, DAMOS_HUGEPAGE, DAMOS_NOHUGEPAGE, DAMOS_PAGEOUT, DAMOS_WILLNEED, MAX_RANGES,
    ONE_RESCHED_NS, R_END, R_START, REGION_STRIDE, T_HEAD, T_TASK,
)

MADV_WILLNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLD, MADV_PAGEOUT = 3, 14, 15, 20, 21


@kernel
def three_regions(m, st, k, index):
    """Put the target's three ranges behind the user's in st.range: number of the first, or -1 if there are fewer than two holes."""
    mm = m.task[st.target[target_row(k, index) + T_TASK] * TASK_STRIDE + T_MM]
    first_start, first_end, second_start, second_end = 0, 0, 0, 0
    vma = find_vma(m, mm, 0)
    if vma < 0:
        return -1
    start = m.vma[vma * VMA_STRIDE + VMA_START]
    end = m.vma[vma * VMA_STRIDE + VMA_END]
    vma = find_vma(m, mm, end)
    while vma >= 0:
        next_start = m.vma[vma * VMA_STRIDE + VMA_START]
        if next_start - end > first_end - first_start:
            second_start, second_end = first_start, first_end
            first_start, first_end = end, next_start
        elif next_start - end > second_end - second_start:
            second_start, second_end = end, next_start
        end = m.vma[vma * VMA_STRIDE + VMA_END]
        vma = find_vma(m, mm, end)
    if first_end == first_start or second_end == second_start:
        return -1
    if first_start > second_start:
        first_start, first_end, second_start, second_end = second_start, second_end, first_start, first_end
    at = (k + 1) * MAX_RANGES - 3
    st.range[2 * at], st.range[2 * at + 1] = start, first_start
    st.range[2 * at + 2], st.range[2 * at + 3] = first_end, second_start
    st.range[2 * at + 4], st.range[2 * at + 5] = second_end, end
    return at


@kernel
def evenly_split_region(st, k, row, r, nr_pieces):
    """damon_va_evenly_split_region(): equal pieces rounded down to pages; the last takes the rest."""
    if nr_pieces <= 1:
        return 0
    base = r * REGION_STRIDE
    piece = region_sz(st, r) // nr_pieces // D_MIN * D_MIN
    if piece == 0:
        return 0
    end = st.region[base + R_END]
    start = st.region[base + R_START]
    for i in range(nr_pieces - 1):
        # each new region goes in front of r, which keeps what is left
        insert_region(st, k, row, r, start + i * piece, start + (i + 1) * piece)
    st.region[base + R_START] = start + (nr_pieces - 1) * piece
    st.region[base + R_END] = end
    return 0


@kernel
def va_init_regions(m, st, k, index):
    """damon_va_init() of one target without regions."""
    first = three_regions(m, st, k, index)
    if first < 0:
        return 0
    row = target_row(k, index)
    head = st.target[row + T_HEAD]
    total = 0
    for i in range(first, first + 3):
        total += st.range[2 * i + 1] - st.range[2 * i]
    sz = max(total // max(1, st.ctx[k * CTX_STRIDE + C_MIN_NR_REGIONS]), D_MIN)
    for i in range(first, first + 3):
        start, end = st.range[2 * i] // D_MIN * D_MIN, (st.range[2 * i + 1] + D_MIN - 1) // D_MIN * D_MIN
        r = insert_region(st, k, row, head, start, end)
        evenly_split_region(st, k, row, r, (end - start) // sz)
    return 0


@kernel
def va_update(m, st, k, index):
    """damon_va_update() of one target."""
    first = three_regions(m, st, k, index)
    if first >= 0:
        set_regions(st, k, index, first, 3)
    return 0


@kernel
def va_apply_scheme(m, st, k, index, r, action):
    """damon_va_apply_scheme(): bytes applied."""
    advice = -1
    if action == DAMOS_WILLNEED:
        advice = MADV_WILLNEED
    elif action == DAMOS_COLD:
        advice = MADV_COLD
    elif action == DAMOS_PAGEOUT:
        advice = MADV_PAGEOUT
    elif action == DAMOS_HUGEPAGE:
        advice = MADV_HUGEPAGE
    elif action == DAMOS_NOHUGEPAGE:
        advice = MADV_NOHUGEPAGE
    if advice < 0:
        return 0
    start, sz = st.region[r * REGION_STRIDE + R_START], region_sz(st, r)
    mm = m.task[st.target[target_row(k, index) + T_TASK] * TASK_STRIDE + T_MM]
    began = m.sc[SC_NOW_NS]
    answer = madvise(m, mm, start, sz, advice)
    st.one[ONE_RESCHED_NS] += m.sc[SC_NOW_NS] - began
    return sz if answer == 0 else 0
