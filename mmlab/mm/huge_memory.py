"""Huge pages at fault time.

Models: mm/huge_memory.c do_huge_pmd_anonymous_page(), __do_huge_pmd_anonymous_page(), set_huge_zero_folio(). Left out: khugepaged, shmem.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_folio_added, thp_fault_gfp, thp_fault_orders, thp_use_zero_page
from mmlab.kernels.pte import add_rmap
from mmlab.kernels.services import alloc_anon_folio, alloc_pages, anon_vma_prepare
from mmlab.kernels.zones import page_node
from mmlab.mm.pgtable import alloc_table, free_table, pgtable_deposit, pmd_alloc
from mmlab.model.const import HPAGE_PMD_ORDER, VM_FAULT_OOM, WRITE
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_ZERO
from mmlab.model.page import PG_RESERVED, page_set, set_page_counts
from mmlab.model.rows import (
    PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_WRITE, SC_HUGE_ZERO_PFN, VM_SHARED, VM_WRITE,
    VMA_ANON_VMA, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE,
)
from mmlab.model.vmstat import (
    V_NR_ANON_TRANSPARENT_HUGEPAGES, V_THP_FAULT_ALLOC, V_THP_FAULT_FALLBACK, V_THP_ZERO_PAGE_ALLOC, V_THP_ZERO_PAGE_ALLOC_FAILED,
    mod_node_state,
)


@leaf
def _huge_zero_pfn(m):
    if m.sc[SC_HUGE_ZERO_PFN] == 0:
        pfn = alloc_pages(m, GFP_HIGHUSER_MOVABLE | GFP_ZERO, HPAGE_PMD_ORDER, -1)
        if pfn < 0:
            m.vmstat[V_THP_ZERO_PAGE_ALLOC_FAILED] += 1
            return -1
        set_page_counts(m, pfn, 0, 1)
        page_set(m, pfn, PG_RESERVED)
        m.sc[SC_HUGE_ZERO_PFN] = pfn
        m.vmstat[V_THP_ZERO_PAGE_ALLOC] += 1
    return m.sc[SC_HUGE_ZERO_PFN]


@kernel
def do_huge_pmd_anonymous_page(m, mm, vma, vpn, access):
    """Service: map a huge page (or the huge zero page) over the 2 MiB around vpn if the thp policy wants it and the VMA holds it; -1: small pages."""
    row = vma * VMA_STRIDE
    first = vpn >> 9 << 9
    if first < m.vma[row + VMA_START] >> 12 or first + 512 > m.vma[row + VMA_END] >> 12 or m.vma[row + VMA_FLAGS] & VM_SHARED:
        return -1
    if thp_fault_orders(m, mm, vma, vpn, access) & (1 << HPAGE_PMD_ORDER) == 0:
        return -1
    pmd = pmd_alloc(m, mm, vpn)
    if pmd < 0 or (m.vma[row + VMA_ANON_VMA] < 0 and anon_vma_prepare(m, vma) < 0):
        return VM_FAULT_OOM
    table = alloc_table(m, mm, 1)
    if table < 0:
        return VM_FAULT_OOM
    if access != WRITE and thp_use_zero_page(m, mm, vma):
        zero = _huge_zero_pfn(m)
        if zero < 0:
            m.vmstat[V_THP_FAULT_FALLBACK] += 1
            free_table(m, mm, table, 1)
            return -1
        pgtable_deposit(m, pmd >> 9, table)
        m.pt[pmd] = (zero << PTE_SHIFT) | PTE_PRESENT | PTE_HUGE | PTE_SPECIAL | PTE_ACCESSED
        return 0
    pfn = alloc_anon_folio(m, mm, vma, first, HPAGE_PMD_ORDER, thp_fault_gfp(m, mm, vma, HPAGE_PMD_ORDER))
    if pfn < 0:
        m.vmstat[V_THP_FAULT_FALLBACK] += 1
        free_table(m, mm, table, 1)
        return -1
    m.vmstat[V_THP_FAULT_ALLOC] += 1
    pgtable_deposit(m, pmd >> 9, table)
    add_rmap(m, mm, pfn, 512)
    mod_node_state(m, page_node(m, pfn), V_NR_ANON_TRANSPARENT_HUGEPAGES, 1)
    reclaimer_folio_added(m, pfn)
    entry = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_HUGE | PTE_ACCESSED | PTE_DIRTY
    m.pt[pmd] = entry | (PTE_WRITE if m.vma[row + VMA_FLAGS] & VM_WRITE else 0)
    return 0
