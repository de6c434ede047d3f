"""Locking pages in memory: the mark on a page, and the walk that sets or clears it under a VMA.

Models: mm/mlock.c mlock_folio(), mlock_new_folio(), munlock_folio(), mlock_pte_range(). A page is locked while an entry of a VM_LOCKED VMA maps
it; zero pages are not. Of the batch of such pages only how many are in it is known (m.sc[SC_MLOCK_BATCH], for all CPUs). Left out: that pages in it are
not yet marked, mlock_count (a reverse walk says whether another VMA still locks the page).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_folio_added, reclaimer_folio_removed
from mmlab.kernels.pte import walk_pmd, walk_pte
from mmlab.kernels.services import rmap_walk
from mmlab.kernels.zones import zone_of
from mmlab.model.const import PAGEVEC_SIZE, RMAP_LOCKED
from mmlab.model.page import PG_HEAD, PG_MLOCKED, PG_TAIL, folio_nr_pages, page_clear, page_folio, page_set, page_test
from mmlab.model.rows import (
    COST_LRU_MOVE, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, SC_MLOCK_BATCH, SC_NOW_NS, VM_LOCKED, VMA_END, VMA_FLAGS, VMA_INODE, VMA_START, VMA_STRIDE,
    Z_NR_MLOCK, ZONE_STRIDE,
)
from mmlab.model.vmstat import V_UNEVICTABLE_PGS_CLEARED, V_UNEVICTABLE_PGS_MLOCKED, V_UNEVICTABLE_PGS_MUNLOCKED


@kernel
def mlock_folio(m, pfn):
    """Mark a page that is on the reclaimer's lists, count it, and let the reclaimer put it among the unevictable ones."""
    if page_test(m, pfn, PG_MLOCKED):
        return 0
    pages = folio_nr_pages(m, pfn)
    m.zone[zone_of(m, pfn) * ZONE_STRIDE + Z_NR_MLOCK] += pages
    m.vmstat[V_UNEVICTABLE_PGS_MLOCKED] += pages
    reclaimer_folio_removed(m, pfn)
    page_set(m, pfn, PG_MLOCKED)
    reclaimer_folio_added(m, pfn)
    return 1


@kernel
def mlock_new_folio(m, pfn):
    """A page that was faulted into a VM_LOCKED VMA goes to the batch; the one that fills it is unevictable at once. 1 if so, else 0."""
    m.sc[SC_MLOCK_BATCH] += 1
    if m.sc[SC_MLOCK_BATCH] < PAGEVEC_SIZE:
        return 0
    m.sc[SC_MLOCK_BATCH] = 0
    return mlock_folio(m, pfn)


@kernel
def munlock_folio(m, pfn):
    """A VMA that locked the page is done with it: unless another one maps it, the page may be reclaimed again. A large folio always may."""
    if page_test(m, pfn, PG_MLOCKED) == 0 or (page_test(m, pfn, PG_HEAD) == 0 and rmap_walk(m, pfn, RMAP_LOCKED)):
        return 0
    pages = folio_nr_pages(m, pfn)
    m.zone[zone_of(m, pfn) * ZONE_STRIDE + Z_NR_MLOCK] -= pages
    m.vmstat[V_UNEVICTABLE_PGS_MUNLOCKED] += pages
    reclaimer_folio_removed(m, pfn)
    page_clear(m, pfn, PG_MLOCKED)
    reclaimer_folio_added(m, pfn)
    return 1


@kernel
def clear_page_mlock(m, pfn):
    """A locked page is freed (truncation): it counts no more."""
    pages = folio_nr_pages(m, pfn)
    m.zone[zone_of(m, pfn) * ZONE_STRIDE + Z_NR_MLOCK] -= pages
    m.vmstat[V_UNEVICTABLE_PGS_CLEARED] += pages
    page_clear(m, pfn, PG_MLOCKED)
    return 0


@leaf
def _maps_whole(m, table, vpn, start_vpn, end_vpn, pfn, head):
    """1 if the PTEs around vpn's, which maps pfn, map all of the large folio within [start, end) and the table."""
    first = vpn - (pfn - head)
    nr = folio_nr_pages(m, head)
    if first < start_vpn or first + nr > end_vpn or first >> 9 != (first + nr - 1) >> 9:
        return 0
    for i in range(nr):
        entry = m.pt[table + (first & 511) + i]
        if entry & PTE_PRESENT == 0 or entry >> PTE_SHIFT != head + i:
            return 0
    return 1


@kernel
def mlock_pte_range(m, mm, vma, start_vpn, end_vpn):
    """Mark (VM_LOCKED) or unmark what is mapped in [start, end) of the VMA. A large folio is marked only if all of it is mapped there."""
    locked = m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED
    vpn = start_vpn
    while vpn < end_vpn:
        pmd = walk_pmd(m, mm, vpn)
        stop = min(end_vpn, ((vpn >> 9) + 1) << 9)
        if pmd < 0 or m.pt[pmd] == 0:
            vpn = stop
            continue
        huge = m.pt[pmd] & PTE_HUGE
        table = (m.pt[pmd] >> PTE_SHIFT) * 512
        for at in range(vpn, vpn + 1 if huge else stop):
            entry = m.pt[pmd] if huge else m.pt[table + (at & 511)]
            if entry & PTE_PRESENT == 0 or entry & PTE_SPECIAL:
                continue
            pfn = page_folio(m, entry >> PTE_SHIFT)
            if locked and huge == 0 and page_test(m, pfn, PG_HEAD) and _maps_whole(m, table, at, start_vpn, end_vpn, entry >> PTE_SHIFT, pfn) == 0:
                continue
            if mlock_folio(m, pfn) if locked else munlock_folio(m, pfn):
                m.sc[SC_NOW_NS] += m.cost[COST_LRU_MOVE]
        vpn = stop
    return 0


@kernel
def mlock_faulted(m, mm, vma, vpn):
    """After a fault in a VM_LOCKED VMA: mark what it mapped, with what was mapped around it where that is a file's."""
    row = vma * VMA_STRIDE
    first, end = vpn, vpn + 1
    slot = walk_pte(m, mm, vpn)
    large = slot >= 0 and m.pt[slot] & PTE_PRESENT and page_test(m, m.pt[slot] >> PTE_SHIFT, PG_HEAD | PG_TAIL)
    if m.vma[row + VMA_INODE] >= 0 or large:
        first = max(vpn >> 9 << 9, m.vma[row + VMA_START] >> 12)
        end = min(((vpn >> 9) + 1) << 9, m.vma[row + VMA_END] >> 12)
    return mlock_pte_range(m, mm, vma, first, end)
