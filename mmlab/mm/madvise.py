"""madvise.

Models: mm/madvise.c. Models: mm/vmscan.c reclaim_pages(). Left out: MERGEABLE's merging (the flag is set).
"""

from mmlab.kernels.large_folio import folio_likely_mapped_shared
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import count_folio_events
from mmlab.kernels.ops import (
    fault_handler_unshare, reclaimer_folio_added, reclaimer_folio_deactivate, reclaimer_folio_removed, vma_index_find,
)
from mmlab.kernels.pte import note_written, walk_pmd, walk_pte
from mmlab.kernels.services import reclaim_folio, zap_pte, zap_range
from mmlab.mm.filemap import truncate_pages
from mmlab.mm.files import unmap_mapping_range
from mmlab.mm.huge_memory import split_folio
from mmlab.mm.khugepaged import khugepaged_enter_vma, madvise_collapse
from mmlab.mm.mmap import page_align
from mmlab.mm.page_cache import is_shmem
from mmlab.mm.page_io import blk_flush_plug
from mmlab.mm.readahead import force_page_cache_ra
from mmlab.mm.swap import folio_mark_lazyfree, lru_add_drain
from mmlab.mm.swap_state import folio_free_swap, read_swap_cache_async
from mmlab.mm.vma import vma_modify
from mmlab.mm.xarray import XA_VALUE, entry_is, xa_load
from mmlab.mm.zswap_writeback import zswap_worker_turn
from mmlab.model.const import (
    EACCES, EAGAIN, EINVAL, ENOMEM, RECLAIM_ACTIVATE, RECLAIM_FREED, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_PROACTIVE,
)
from mmlab.model.page import (
    KIND_ANON, KIND_SHMEM, PG_ACTIVE, PG_DIRTY, PG_HEAD, PG_MLOCKED, PG_REFERENCED, PG_SWAPCACHE, PG_UNEVICTABLE, PG_YOUNG, folio_nr_pages,
    page_clear, page_folio, page_kind, page_mapcount, page_order, page_set, page_test,
)
from mmlab.model.rows import (
    COST_DAMOS_PAGE, COST_LRU_MOVE, COST_RECLAIM_PAGE, COST_SYSCALL, MTHP_SPLIT, MTHP_STRIDE, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE,
    PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_SWAP, SC_IN_RECLAIM, SC_NOW_NS, SC_SHARED_TABLES, VM_DONTCOPY, VM_HUGEPAGE, VM_LOCKED, VM_PFNMAP,
    VM_MAYWRITE, VM_MERGEABLE, VM_NOHUGEPAGE, VM_RAND_READ, VM_SEQ_READ, VM_SHARED, VM_SPECIAL, VM_WIPEONFORK, VMA_END, VMA_FILE,
    VMA_FLAGS, VMA_INODE, VMA_PGOFF, VMA_POLICY, VMA_START, VMA_STRIDE, KHUGEPAGED_LOCKED_OUT, KHUGEPAGED_NEW, KHUGEPAGED_PREEMPTS, SC_KHUGEPAGED_WAKE,
)
from mmlab.model.vmstat import V_PGACTIVATE

(
    MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE,
    MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT, MADV_DONTNEED_LOCKED,
    MADV_REMOVE, MADV_COLLAPSE,
) = range(19)
ADVICES = ("normal", "random", "sequential", "willneed", "dontneed", "free", "dontfork", "dofork", "mergeable", "unmergeable", "hugepage", "nohugepage",
           "wipeonfork", "keeponfork", "cold", "pageout", "dontneed_locked", "remove", "collapse")


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
        return flags if flags & (VM_SHARED | VM_SPECIAL) else flags | VM_MERGEABLE
    if advice == MADV_UNMERGEABLE:
        return flags & ~VM_MERGEABLE
    if advice == MADV_HUGEPAGE:
        return (flags & ~VM_NOHUGEPAGE) | VM_HUGEPAGE
    if advice == MADV_NOHUGEPAGE:
        return (flags & ~VM_HUGEPAGE) | VM_NOHUGEPAGE
    if advice == MADV_WIPEONFORK:
        return flags | VM_WIPEONFORK
    return flags & ~VM_WIPEONFORK


@leaf
def _whole_folio(m, slot, vpn, end_vpn, head):
    """1 if PTEs from vpn's on map all of the folio within [vpn, end) and one table."""
    nr = 1 << page_order(m, head)
    if vpn + nr > end_vpn or (vpn & 511) + nr > 512:
        return 0
    for i in range(nr):
        if m.pt[slot + i] & PTE_PRESENT == 0 or m.pt[slot + i] >> PTE_SHIFT != head + i:
            return 0
    return 1


@kernel
def advise_folio(m, head, advice):
    """COLD or FREE of a folio that only one place maps, or its isolation for PAGEOUT."""
    if advice == MADV_FREE:
        page_clear(m, head, PG_DIRTY)
        return folio_mark_lazyfree(m, head)
    page_clear(m, head, PG_REFERENCED | PG_YOUNG)
    m.sc[SC_NOW_NS] += m.cost[COST_DAMOS_PAGE] + m.cost[COST_LRU_MOVE]
    if advice == MADV_COLD:
        return reclaimer_folio_deactivate(m, head)
    reclaimer_folio_removed(m, head)
    m.isolated[0] += 1
    m.isolated[m.isolated[0]] = head
    return 0


@leaf
def _pageout(m, pfn):
    """Reclaim an isolated folio: 1 if it is gone. One that could not be written becomes active."""
    verdict = reclaim_folio(m, pfn, SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | SCAN_PROACTIVE)
    if verdict == RECLAIM_ACTIVATE and page_test(m, pfn, PG_MLOCKED) == 0:
        page_set(m, pfn, PG_ACTIVE)
        count_folio_events(m, pfn, V_PGACTIVATE, folio_nr_pages(m, pfn))
    return 1 if verdict == RECLAIM_FREED else 0


@kernel
def reclaim_pages(m):
    """Reclaim what is isolated in m.isolated, accessed or not; what is not freed goes back to its list when all have had their turn.

    A large folio that had to be split is reclaimed page by page. Returns pages or folios freed.
    """
    freed = 0
    was = m.sc[SC_IN_RECLAIM]
    m.sc[SC_IN_RECLAIM] = 1
    for i in range(1, m.isolated[0] + 1):
        head = m.isolated[i]
        order = page_order(m, head) if page_test(m, head, PG_HEAD) else 0
        splits = m.mthp[order * MTHP_STRIDE + MTHP_SPLIT]
        if _pageout(m, head):
            m.isolated[i] = -1
            freed += 1
        if order and m.mthp[order * MTHP_STRIDE + MTHP_SPLIT] > splits:
            for pfn in range(head + 1, head + (1 << order)):
                if page_kind(m, pfn) == KIND_ANON or page_kind(m, pfn) == KIND_SHMEM:
                    reclaimer_folio_removed(m, pfn)
                    if _pageout(m, pfn):
                        freed += 1
                    else:
                        reclaimer_folio_added(m, pfn)
        zswap_worker_turn(m)
    m.sc[SC_NOW_NS] += freed * m.cost[COST_RECLAIM_PAGE]
    for i in range(1, m.isolated[0] + 1):
        if m.isolated[i] >= 0:
            reclaimer_folio_added(m, m.isolated[i])
    m.isolated[0] = 0
    m.sc[SC_IN_RECLAIM] = was
    return freed


@kernel
def madvise_huge_pmd(m, mm, pmd, whole, advice):
    """COLD, PAGEOUT or FREE over a huge PMD: 1 done (or skipped), 0: go on with the PTEs that are there now."""
    entry = m.pt[pmd]
    head = entry >> PTE_SHIFT
    if entry & PTE_SPECIAL or page_mapcount(m, head) != 1 or page_test(m, head, PG_UNEVICTABLE | PG_MLOCKED):
        return 1
    if whole == 0:
        return 1 - split_folio(m, head)
    if advice == MADV_COLD:
        m.pt[pmd] = entry & ~PTE_ACCESSED
    elif advice == MADV_FREE:
        note_written(m, head, entry)
        m.pt[pmd] = entry & ~(PTE_ACCESSED | PTE_DIRTY)
    advise_folio(m, head, advice)
    if advice == MADV_PAGEOUT:
        reclaim_pages(m)
    return 1


@kernel
def madvise_lru_range(m, mm, vma, start_vpn, end_vpn, advice):
    """Clear young and deactivate (COLD), reclaim at once, young or not (PAGEOUT), or make droppable, young and dirty cleared (FREE).

    COLD and PAGEOUT leave what another place maps too. Large folios are taken whole, or split where the range covers a part; FREE drops
    swap slots as well.
    """
    lru_add_drain(m)
    vpn = start_vpn
    while vpn < end_vpn:
        pmd = walk_pmd(m, mm, vpn)
        stop = min(end_vpn, ((vpn >> 9) + 1) << 9)
        if advice == MADV_PAGEOUT and vpn & 511 == 0:
            reclaim_pages(m)
        if pmd < 0 or m.pt[pmd] == 0 or (m.pt[pmd] & PTE_HUGE and madvise_huge_pmd(m, mm, pmd, 1 if stop - vpn == 512 else 0, advice)):
            vpn = stop
            continue
        slot = walk_pte(m, mm, vpn)
        if slot < 0:
            vpn = stop  # still huge: something holds it
            continue
        entry = m.pt[slot]
        vpn += 1
        if entry & PTE_SWAP and advice == MADV_FREE:
            zap_pte(m, mm, vma, slot)
        if entry & PTE_PRESENT == 0 or entry & PTE_SPECIAL:
            continue
        pfn = page_folio(m, entry >> PTE_SHIFT)
        nr = 1
        if page_test(m, pfn, PG_HEAD):
            if _whole_folio(m, slot, vpn - 1, end_vpn, pfn):
                nr = 1 << page_order(m, pfn)
            elif folio_likely_mapped_shared(m, pfn) or split_folio(m, pfn) == 0:
                continue
            else:
                entry = m.pt[slot]
                if entry & PTE_SPECIAL:
                    continue  # it was never written: the zero page is there now
                pfn = entry >> PTE_SHIFT
        if page_test(m, pfn, PG_UNEVICTABLE | PG_MLOCKED):
            continue
        if advice == MADV_FREE:
            if page_test(m, pfn, PG_SWAPCACHE | PG_DIRTY):
                if page_mapcount(m, pfn) != nr:
                    continue
                if page_test(m, pfn, PG_SWAPCACHE) and folio_free_swap(m, pfn) == 0:
                    continue
        elif page_mapcount(m, pfn) != nr:
            continue
        for i in range(nr):
            if advice == MADV_COLD:
                m.pt[slot + i] &= ~PTE_ACCESSED
            elif advice == MADV_FREE:
                note_written(m, pfn, m.pt[slot + i])
                m.pt[slot + i] &= ~(PTE_ACCESSED | PTE_DIRTY)
        advise_folio(m, pfn, advice)
        vpn += nr - 1
    return reclaim_pages(m) if advice == MADV_PAGEOUT else 0


@kernel
def madvise_remove(m, vma, start, end):
    """MADV_REMOVE: punch a hole into the file behind [start, end), whoever maps it; private copies stay. 0, -EINVAL, or -EACCES."""
    row = vma * VMA_STRIDE
    flags = m.vma[row + VMA_FLAGS]
    if flags & VM_LOCKED or m.vma[row + VMA_INODE] < 0:
        return -EINVAL
    if flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        return -EACCES
    first = ((start - m.vma[row + VMA_START]) >> 12) + m.vma[row + VMA_PGOFF]
    unmap_mapping_range(m, m.vma[row + VMA_INODE], first, first + ((end - start) >> 12), 0)
    truncate_pages(m, m.vma[row + VMA_INODE], first, first + ((end - start) >> 12))
    return 0


@kernel
def madvise_willneed(m, mm, vma, start, end):
    """MADV_WILLNEED: read the file ahead, or bring what lies in swap into the swap cache. 0."""
    row = vma * VMA_STRIDE
    inode = m.vma[row + VMA_INODE]
    pages = (end - start) >> 12
    first = ((start - m.vma[row + VMA_START]) >> 12) + m.vma[row + VMA_PGOFF]
    if inode >= 0 and is_shmem(m, inode) == 0:
        force_page_cache_ra(m, m.vma[row + VMA_FILE], first, pages)
        return 0
    for i in range(pages):
        if inode >= 0:
            entry = xa_load(m, inode, first + i)
            if entry_is(entry, XA_VALUE):
                read_swap_cache_async(m, entry >> 2)
        else:
            slot = walk_pte(m, mm, (start >> 12) + i)
            if slot >= 0 and m.pt[slot] & PTE_SWAP:
                read_swap_cache_async(m, m.pt[slot] >> PTE_SHIFT)
    lru_add_drain(m)
    return 0


@kernel
def sys_madvise(m, mm, start, length, advice):
    """madvise(2): 0, -EINVAL, -EAGAIN (at max_map_count), or -ENOMEM over a hole after the mapped parts were done."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    if start & 4095:
        return -EINVAL
    end = start + page_align(length)
    if m.sc[SC_SHARED_TABLES]:
        fault_handler_unshare(m, mm, start >> 12, end >> 12, 0)
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
            if flags & (VM_PFNMAP | VM_LOCKED if advice == MADV_DONTNEED else VM_PFNMAP):
                return -EINVAL
            lru_add_drain(m)
            zap_range(m, mm, vma, at >> 12, stop >> 12)
        elif advice in (MADV_COLD, MADV_PAGEOUT, MADV_FREE):
            if flags & (VM_LOCKED | VM_PFNMAP) or (advice == MADV_FREE and m.vma[row + VMA_INODE] >= 0):
                return -EINVAL
            madvise_lru_range(m, mm, vma, at >> 12, stop >> 12, advice)
            blk_flush_plug(m)
        elif advice == MADV_WILLNEED:
            madvise_willneed(m, mm, vma, at, stop)
        elif advice in (MADV_REMOVE, MADV_COLLAPSE):
            done = madvise_remove(m, vma, at, stop) if advice == MADV_REMOVE else madvise_collapse(m, mm, vma, at, stop)
            if done < 0:
                return done
        else:
            if advice in (MADV_WIPEONFORK, MADV_KEEPONFORK) and (m.vma[row + VMA_INODE] >= 0 or flags & VM_SHARED):
                return -EINVAL
            new = advised_flags(flags, advice)
            if new != flags:
                vma = vma_modify(m, vma, at, stop, new, m.vma[row + VMA_POLICY])
                if vma < 0:
                    return -EAGAIN
            if advice == MADV_HUGEPAGE:
                asleep = m.sc[SC_KHUGEPAGED_WAKE] == KHUGEPAGED_NEW
                khugepaged_enter_vma(m, mm, vma)
                if asleep and m.sc[SC_KHUGEPAGED_WAKE] == KHUGEPAGED_PREEMPTS:
                    m.sc[SC_KHUGEPAGED_WAKE] = KHUGEPAGED_LOCKED_OUT
        at = stop
    return -ENOMEM if holes else 0
