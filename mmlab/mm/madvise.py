"""madvise and mlock.

Models: mm/madvise.c, mm/mlock.c. Left out: MADV_COLLAPSE, MERGEABLE's merging (the flag is set), REMOVE.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_drain, reclaimer_folio_added, reclaimer_folio_deactivate, reclaimer_folio_removed, vma_index_find
from mmlab.kernels.pte import walk_pmd, walk_pte
from mmlab.kernels.services import reclaim_folio, split_huge_pmd
from mmlab.mm.memory import zap_range
from mmlab.mm.mmap import page_align
from mmlab.mm.vma import vma_modify
from mmlab.model.const import EAGAIN, EINVAL, ENOMEM, RECLAIM_FREED, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_PROACTIVE
from mmlab.model.page import PG_DIRTY, PG_MLOCKED, PG_UNEVICTABLE, page_clear, page_mapcount, page_test
from mmlab.model.rows import (
    COST_SYSCALL, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, SC_CPU, SC_NOW_NS, VM_DONTCOPY, VM_HUGEPAGE,
    VM_LOCKED, VM_MERGEABLE, VM_NOHUGEPAGE, VM_RAND_READ, VM_SEQ_READ, VM_SHARED, VM_WIPEONFORK, VMA_END, VMA_FLAGS, VMA_INODE, VMA_START,
    VMA_STRIDE,
)

(
    MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE,
    MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT, MADV_DONTNEED_LOCKED,
) = range(17)
ADVICES = ("normal", "random", "sequential", "willneed", "dontneed", "free", "dontfork", "dofork", "mergeable", "unmergeable", "hugepage", "nohugepage",
           "wipeonfork", "keeponfork", "cold", "pageout", "dontneed_locked")


@leaf
def advised_flags(flags, advice):
    """VMA flags after an advice that only sets flags."""
    if advice == MADV_NORMAL:
        return flags & ~(VM_RAND_READ | VM_SEQ_READ)
    if advice == MADV_RANDOM:
        return (flags & ~VM_SEQ_READ) | VM_RAND_READ
    if advice == MADV_SEQUENTIAL:
        return (flags & ~VM_RAND_READ) | VM_SEQ_READ
    if advice == MADV_DONTFORK:
        return flags | VM_DONTCOPY
    if advice == MADV_DOFORK:
        return flags & ~VM_DONTCOPY
    if advice == MADV_MERGEABLE:
        return flags | VM_MERGEABLE
    if advice == MADV_UNMERGEABLE:
        return flags & ~VM_MERGEABLE
    if advice == MADV_HUGEPAGE:
        return (flags & ~VM_NOHUGEPAGE) | VM_HUGEPAGE
    if advice == MADV_NOHUGEPAGE:
        return (flags & ~VM_HUGEPAGE) | VM_NOHUGEPAGE
    if advice == MADV_WIPEONFORK:
        return flags | VM_WIPEONFORK
    return flags & ~VM_WIPEONFORK


@kernel
def cold_or_pageout(m, mm, vma, start_vpn, end_vpn, advice):
    """Clear young and deactivate (COLD), free lazily (FREE), or reclaim at once (PAGEOUT) what is mapped in [start, end)."""
    reclaimer_drain(m, m.sc[SC_CPU])
    for vpn in range(start_vpn, end_vpn):
        pmd = walk_pmd(m, mm, vpn)
        if pmd < 0 or m.pt[pmd] == 0:
            continue
        if m.pt[pmd] & PTE_HUGE:
            split_huge_pmd(m, pmd)
        slot = walk_pte(m, mm, vpn)
        entry = m.pt[slot]
        if entry & PTE_PRESENT == 0 or entry & PTE_SPECIAL:
            continue
        pfn = entry >> PTE_SHIFT
        if page_mapcount(m, pfn) != 1 or page_test(m, pfn, PG_UNEVICTABLE | PG_MLOCKED):
            continue
        m.pt[slot] = entry & ~PTE_ACCESSED
        if advice == MADV_COLD:
            reclaimer_folio_deactivate(m, pfn)
        elif advice == MADV_FREE:
            m.pt[slot] = entry & ~(PTE_ACCESSED | PTE_DIRTY)
            page_clear(m, pfn, PG_DIRTY)
            reclaimer_folio_deactivate(m, pfn)
        else:
            reclaimer_folio_removed(m, pfn)
            if reclaim_folio(m, pfn, SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | SCAN_PROACTIVE) != RECLAIM_FREED:
                reclaimer_folio_added(m, pfn)
    return 0


@kernel
def sys_madvise(m, mm, start, length, advice):
    """madvise(2): 0, -EINVAL, -EAGAIN (at max_map_count), or -ENOMEM over a hole after the mapped parts were done."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    if start & 4095:
        return -EINVAL
    end = start + page_align(length)
    holes = 0
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] >= end:
            return -ENOMEM
        row = vma * VMA_STRIDE
        if m.vma[row + VMA_START] > at:
            holes = 1
            at = m.vma[row + VMA_START]
        stop = min(end, m.vma[row + VMA_END])
        flags = m.vma[row + VMA_FLAGS]
        if advice in (MADV_DONTNEED, MADV_DONTNEED_LOCKED):
            if flags & VM_LOCKED and advice == MADV_DONTNEED:
                return -EINVAL
            zap_range(m, mm, vma, at >> 12, stop >> 12)
        elif advice in (MADV_COLD, MADV_PAGEOUT, MADV_FREE):
            if flags & VM_LOCKED or (advice == MADV_FREE and m.vma[row + VMA_INODE] >= 0):
                return -EINVAL
            cold_or_pageout(m, mm, vma, at >> 12, stop >> 12, advice)
        elif advice == MADV_WILLNEED:
            pass
        else:
            if advice in (MADV_WIPEONFORK, MADV_KEEPONFORK) and (m.vma[row + VMA_INODE] >= 0 or flags & VM_SHARED):
                return -EINVAL
            new = advised_flags(flags, advice)
            if new != flags and vma_modify(m, vma, at, stop, new) < 0:
                return -EAGAIN
        at = stop
    return -ENOMEM if holes else 0
