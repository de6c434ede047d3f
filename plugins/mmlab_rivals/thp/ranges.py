"""What the rivals share: the aligned 2 MiB ranges of address spaces, how full they are, how many of their pages were accessed.

A range is known by its PMD entry's slot in m.pt; arrays with an element a range are as long as m.pt and take memory only where there are PMD
tables.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import find_vma
from mmlab.model.const import HPAGE_PMD_NR, HPAGE_PMD_ORDER
from mmlab.model.page import PG_YOUNG, page_folio, page_set
from mmlab.model.rows import (
    MM_STRIDE, MM_USERS, PTE_ACCESSED, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, VMA_END, VMA_FLAGS, VMA_INODE, VMA_START, VMA_STRIDE,
    VM_NOHUGEPAGE, VM_SHARED, VM_SPECIAL,
)

NS_PER_MS = 1_000_000


@leaf
def may_be_huge(m, vma):
    """1 for anonymous memory of one process that nobody has excluded."""
    row = vma * VMA_STRIDE
    return 1 if m.vma[row + VMA_INODE] < 0 and m.vma[row + VMA_FLAGS] & (VM_NOHUGEPAGE | VM_SPECIAL | VM_SHARED) == 0 else 0


@leaf
def holds_range(m, vma, vpn):
    """1 if the whole 2 MiB around vpn lies in the VMA."""
    first = vpn >> HPAGE_PMD_ORDER << HPAGE_PMD_ORDER
    row = vma * VMA_STRIDE
    return 1 if m.vma[row + VMA_START] >> 12 <= first and first + HPAGE_PMD_NR <= m.vma[row + VMA_END] >> 12 else 0


@kernel
def next_range(m, mm, vpn):
    """First page of the next range at or behind vpn that may be huge and has something mapped, or -1. O(VMAs and PMD entries passed)."""
    vma = find_vma(m, mm, vpn << 12)
    while vma >= 0:
        row = vma * VMA_STRIDE
        if may_be_huge(m, vma):
            at = (max(vpn, m.vma[row + VMA_START] >> 12) + HPAGE_PMD_NR - 1) >> HPAGE_PMD_ORDER << HPAGE_PMD_ORDER
            while at + HPAGE_PMD_NR <= m.vma[row + VMA_END] >> 12:
                pmd = walk_pmd(m, mm, at)
                if pmd >= 0 and m.pt[pmd]:
                    return at
                at = at + HPAGE_PMD_NR if pmd >= 0 else ((at >> 18) + 1) << 18
        vma = find_vma(m, mm, m.vma[row + VMA_END])
    return -1


@leaf
def lives(m, mm):
    """1 if the address space is in use."""
    return 1 if m.mm[mm * MM_STRIDE + MM_USERS] > 0 else 0


@kernel
def utilization(m, pmd):
    """Pages of the range below m.pt[pmd] that are there; the zero page is none."""
    table = (m.pt[pmd] >> PTE_SHIFT) * 512
    found = 0
    for slot in range(table, table + 512):
        if m.pt[slot] & (PTE_PRESENT | PTE_SPECIAL) == PTE_PRESENT:
            found += 1
    return found


@kernel
def harvest(m, pmd):
    """Pages of the range that were accessed since the last call, all 512 of a huge one; their accessed bits are cleared, the pages are young."""
    if m.pt[pmd] & PTE_HUGE:
        if m.pt[pmd] & PTE_ACCESSED == 0:
            return 0
        m.pt[pmd] &= ~PTE_ACCESSED
        if m.pt[pmd] & PTE_SPECIAL == 0:
            page_set(m, m.pt[pmd] >> PTE_SHIFT, PG_YOUNG)
        return HPAGE_PMD_NR
    table = (m.pt[pmd] >> PTE_SHIFT) * 512
    found = 0
    for slot in range(table, table + 512):
        entry = m.pt[slot]
        if entry & PTE_PRESENT and entry & PTE_ACCESSED:
            m.pt[slot] = entry & ~PTE_ACCESSED
            if entry & PTE_SPECIAL == 0:
                page_set(m, page_folio(m, entry >> PTE_SHIFT), PG_YOUNG)
                found += 1
    return found
