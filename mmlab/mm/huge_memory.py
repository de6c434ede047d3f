"""Large folios of anonymous memory: making them at a fault, sharing them over fork, splitting their mapping, splitting the folio itself.

Models: mm/huge_memory.c do_huge_pmd_anonymous_page(), set_huge_zero_folio(), do_huge_pmd_wp_page(), copy_huge_pmd(), zap_huge_pmd(),
__split_huge_pmd(), split_huge_page_to_list_to_order(); mm/memory.c alloc_anon_folio(). Books of mappings: mmlab.kernels.large_folio.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import (
    add_pte_mapcount, deferred_split_folio, entire_mapcount, folio_add_rmap_pmd, folio_add_rmap_pte, folio_remove_rmap_pmd,
    folio_unqueue_deferred_split, init_large_folio, nr_pages_mapped, page_pte_mapcount,
)
from mmlab.kernels.ops import reclaimer_folio_added, reclaimer_folio_removed, thp_fault_gfp, thp_fault_orders, thp_use_zero_page
from mmlab.kernels.pte import note_rss, walk_pmd, walk_pte
from mmlab.kernels.services import alloc_anon_folio, alloc_pages, anon_vma_prepare, folio_put, free_pages, rmap_walk, split_huge_pmd
from mmlab.kernels.zones import page_node
from mmlab.mm.mlock import clear_page_mlock, munlock_folio
from mmlab.mm.pgtable import alloc_table, free_table, pgtable_deposit, pgtable_withdraw, pmd_alloc
from mmlab.model.const import ENOMEM, HPAGE_PMD_NR, HPAGE_PMD_ORDER, NEVER_NS, RMAP_UNMAP, VM_FAULT_OOM, WRITE, RMAP_ZEROPAGE
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_ZERO
from mmlab.model.page import (
    KIND_ANON, KIND_SHMEM, NO_MAPPING, PG_ACTIVE, PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_FLAGS_MASK, PG_HEAD, PG_MLOCKED, PG_REFERENCED,
    PG_RESERVED, PG_SWAPBACKED, PG_SWAPCACHE, PG_TAIL, PG_UPTODATE, PG_WORKINGSET, PG_WRITEBACK, add_mapcount, add_refs, page_clear, page_flags,
    page_index, page_mapcount, page_mapping, page_memcg, page_order, page_private, page_refs, page_set, page_test, set_page_counts,
    set_page_flags, set_page_fresh, set_page_index, set_page_kind, set_page_mapping, set_page_memcg, set_page_order, set_page_private,
)
from mmlab.model.rows import (
    ANON_VMA_STRIDE, AVC_NEXT_IN_ANON, AVC_STRIDE, AVC_VMA, AV_AVC_FIRST, COST_FORK_PTE, COST_SPLIT_THP, INODE_STRIDE, I_MAP_FIRST,
    MM_KHUGEPAGED, MM_STRIDE, MTHP_ANON_FAULT_ALLOC, MTHP_ANON_FAULT_FALLBACK, MTHP_NR_ANON, MTHP_SPLIT, MTHP_SPLIT_FAILED, MTHP_STRIDE,
    PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, PTE_WRITE, SC_HUGE_ZERO_PFN,
    SC_KHUGEPAGED_SEQUENCE, SC_KHUGEPAGED_WAKE, KHUGEPAGED_NEW, KHUGEPAGED_PREEMPTS, SC_MTHP_ORDERS, SC_NEXT_EVENT_NS, SC_NOW_NS, SC_THP_TIMER_NS, SC_ZERO_PFN, VMA_ANON_VMA, VMA_END, VMA_FLAGS,
    VMA_MAP_NEXT, VMA_MM, VMA_PGOFF, VMA_START, VMA_STRIDE, VM_SHARED, VM_WRITE, SC_WANTS_ACCESS, WANTS_SUBPAGES, SUBPAGE_WRITTEN,
)
from mmlab.model.vmstat import (
    V_NR_ANON_TRANSPARENT_HUGEPAGES, V_NR_SHMEM_HUGEPAGES, V_THP_FAULT_ALLOC, V_THP_FAULT_FALLBACK, V_THP_SPLIT_PAGE,
    V_THP_SPLIT_PAGE_FAILED, V_THP_SPLIT_PMD, V_THP_ZERO_PAGE_ALLOC, V_THP_ZERO_PAGE_ALLOC_FAILED, mod_node_state,
)

FOLIO_FLAGS = PG_ANON | PG_SWAPBACKED | PG_UPTODATE
KEPT_BY_SPLIT = FOLIO_FLAGS | PG_DIRTY | PG_MLOCKED | PG_ACTIVE | PG_REFERENCED | PG_WORKINGSET | PG_SWAPCACHE


# making and freeing -------------------------------------------------------------------------------------------------------------------------
@kernel
def make_large_folio(m, head, order, flags, kind):
    """A fresh block, whose head has its flags already, becomes one folio; flags, kind: of the tails."""
    page_set(m, head, PG_HEAD)
    set_page_order(m, head, order)
    for tail in range(1, 1 << order):
        page_set(m, head + tail, PG_TAIL | flags)
        set_page_private(m, head + tail, tail)
        set_page_kind(m, head + tail, kind)
        set_page_counts(m, head + tail, 0, 0)
    init_large_folio(m, head)
    return 0


@kernel
def make_anon_pmd_folio(m, head):
    """512 anonymous pages of one owner, which nothing maps any more, become one folio of the first page's place in its anon_vma."""
    keep = page_flags(m, head) & (KEPT_BY_SPLIT | PG_ANON_EXCLUSIVE)
    set_page_flags(m, head, (page_flags(m, head) & ~PG_FLAGS_MASK) | keep)
    for tail in range(head + 1, head + HPAGE_PMD_NR):
        set_page_flags(m, tail, page_flags(m, tail) & ~PG_FLAGS_MASK)
        set_page_fresh(m, tail, KIND_ANON, 0)
        set_page_mapping(m, tail, NO_MAPPING)
    make_large_folio(m, head, HPAGE_PMD_ORDER, FOLIO_FLAGS, KIND_ANON)
    m.mthp[HPAGE_PMD_ORDER * MTHP_STRIDE + MTHP_NR_ANON] += 1
    return 0


@kernel
def free_large_folio(m, head, order):
    """Before the block goes back: its tails are plain frames again."""
    folio_unqueue_deferred_split(m, head)
    if page_test(m, head, PG_ANON):
        m.mthp[order * MTHP_STRIDE + MTHP_NR_ANON] -= 1
    for tail in range(head + 1, head + (1 << order)):
        set_page_flags(m, tail, page_flags(m, tail) & ~PG_FLAGS_MASK)
        set_page_mapping(m, tail, NO_MAPPING)
    return 0


@kernel
def khugepaged_enter_mm(m, mm):
    """khugepaged will visit the address space from now on, after those that it knows already; it wakes if it waits for the first."""
    if m.mm[mm * MM_STRIDE + MM_KHUGEPAGED] == 0:
        if m.sc[SC_THP_TIMER_NS] == NEVER_NS:
            m.sc[SC_THP_TIMER_NS] = m.sc[SC_NEXT_EVENT_NS] = m.sc[SC_NOW_NS]
            if m.sc[SC_KHUGEPAGED_WAKE] == KHUGEPAGED_NEW:
                m.sc[SC_KHUGEPAGED_WAKE] = KHUGEPAGED_PREEMPTS
        m.sc[SC_KHUGEPAGED_SEQUENCE] += 1
        m.mm[mm * MM_STRIDE + MM_KHUGEPAGED] = m.sc[SC_KHUGEPAGED_SEQUENCE]
    return 0


# faults -------------------------------------------------------------------------------------------------------------------------------------
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


@leaf
def _count_fallback(m, order):
    if order == HPAGE_PMD_ORDER:
        m.vmstat[V_THP_FAULT_FALLBACK] += 1
    m.mthp[order * MTHP_STRIDE + MTHP_ANON_FAULT_FALLBACK] += 1


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
    if m.mm[mm * MM_STRIDE + MM_KHUGEPAGED] == 0:
        khugepaged_enter_mm(m, mm)
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
    pfn = alloc_anon_folio(m, mm, vma, first, HPAGE_PMD_ORDER, thp_fault_gfp(m, mm, vma, HPAGE_PMD_ORDER), -1)
    if pfn < 0:
        _count_fallback(m, HPAGE_PMD_ORDER)
        free_table(m, mm, table, 1)
        return -1
    m.vmstat[V_THP_FAULT_ALLOC] += 1
    m.mthp[HPAGE_PMD_ORDER * MTHP_STRIDE + MTHP_ANON_FAULT_ALLOC] += 1
    pgtable_deposit(m, pmd >> 9, table)
    folio_add_rmap_pmd(m, mm, pfn)
    reclaimer_folio_added(m, pfn)
    deferred_split_folio(m, pfn, 0)
    entry = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_HUGE | PTE_ACCESSED | PTE_DIRTY
    m.pt[pmd] = entry | (PTE_WRITE if m.vma[row + VMA_FLAGS] & VM_WRITE else 0)
    return 0


@leaf
def _all_none(m, table, first, nr):
    for i in range(first, first + nr):
        if m.pt[table + i]:
            return 0
    return 1


@kernel
def do_anonymous_folio(m, mm, vma, vpn):
    """Service: the largest block of a size that is on, fits the VMA and has nothing mapped in it yet, mapped by PTEs; -1: a single page."""
    orders = thp_fault_orders(m, mm, vma, vpn, WRITE) & m.sc[SC_MTHP_ORDERS]
    slot = walk_pte(m, mm, vpn)
    if orders == 0 or slot < 0:
        return -1
    table = slot - (vpn & 511)
    order = HPAGE_PMD_ORDER - 1
    while order > 1 and (orders & (1 << order) == 0 or _all_none(m, table, (vpn & 511) >> order << order, 1 << order) == 0):
        order -= 1
    if order > 1 and m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] < 0 and anon_vma_prepare(m, vma) < 0:
        return VM_FAULT_OOM
    while order > 1:
        if orders & (1 << order):
            first = vpn >> order << order
            pfn = alloc_anon_folio(m, mm, vma, first, order, thp_fault_gfp(m, mm, vma, order), -1)
            if pfn >= 0:
                m.mthp[order * MTHP_STRIDE + MTHP_ANON_FAULT_ALLOC] += 1
                flags = PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | (PTE_WRITE if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_WRITE else 0)
                for i in range(1 << order):
                    folio_add_rmap_pte(m, mm, pfn + i)
                    m.pt[table + (first & 511) + i] = ((pfn + i) << PTE_SHIFT) | flags
                reclaimer_folio_added(m, pfn)
                return 0
            _count_fallback(m, order)
        order -= 1
    return -1


@kernel
def do_huge_pmd_wp_page(m, mm, pmd):
    """Service: a write to a huge entry that is not writable. The only user of the folio gets it back (0); else the entry is split (-1)."""
    entry = m.pt[pmd]
    if entry & PTE_SPECIAL == 0:
        head = entry >> PTE_SHIFT
        if page_test(m, head, PG_ANON_EXCLUSIVE) or (page_mapcount(m, head) == 1 and page_refs(m, head) == 0):
            page_set(m, head, PG_ANON_EXCLUSIVE)
            m.pt[pmd] = entry | PTE_ACCESSED | PTE_DIRTY | PTE_WRITE
            return 0
    split_huge_pmd(m, mm, pmd)
    return -1


# fork, zap ----------------------------------------------------------------------------------------------------------------------------------
@leaf
def deposits_table(m, entry):
    """1 if a huge entry has a table deposited: anonymous ones do, the huge zero page's too, shmem's do not."""
    return 1 if entry & PTE_SPECIAL or page_test(m, entry >> PTE_SHIFT, PG_ANON) else 0


@kernel
def copy_huge_pmd(m, dst_mm, src_mm, vpn):
    """Service: the child shares the huge page at vpn; neither may write to it without a fault. 0, or -ENOMEM."""
    src = walk_pmd(m, src_mm, vpn)
    entry = m.pt[src]
    if deposits_table(m, entry) == 0:
        return 0  # shared memory is faulted in again
    dst = pmd_alloc(m, dst_mm, vpn)
    if dst < 0:
        return -ENOMEM
    table = alloc_table(m, dst_mm, 1)
    if table < 0:
        return -ENOMEM
    m.sc[SC_NOW_NS] += m.cost[COST_FORK_PTE]
    pgtable_deposit(m, dst >> 9, table)
    if entry & PTE_SPECIAL == 0:
        head = entry >> PTE_SHIFT
        page_clear(m, head, PG_ANON_EXCLUSIVE)
        folio_add_rmap_pmd(m, dst_mm, head)
        entry &= ~PTE_WRITE
        m.pt[src] = entry
    m.pt[dst] = entry & ~PTE_ACCESSED
    return 0


@kernel
def zap_huge_pmd(m, mm, pmd):
    """Unmap a whole huge PMD and drop its deposited table."""
    entry = m.pt[pmd]
    m.pt[pmd] = 0
    if deposits_table(m, entry):
        free_table(m, mm, pgtable_withdraw(m, pmd >> 9), 1)
    if entry & PTE_SPECIAL:
        return 0
    head = entry >> PTE_SHIFT
    if entry & PTE_DIRTY and page_test(m, head, PG_ANON) == 0:
        page_set(m, head, PG_DIRTY)
    add_refs(m, head, 1)
    note_rss(m, mm)
    folio_remove_rmap_pmd(m, mm, head)
    munlock_folio(m, head)
    folio_put(m, head)
    return 0


# splitting ----------------------------------------------------------------------------------------------------------------------------------
@kernel
def do_split_huge_pmd(m, mm, pmd):
    """Service split_huge_pmd: 512 PTEs in the deposited table instead of the huge entry; the folio stays. Shared memory is just unmapped."""
    entry = m.pt[pmd]
    m.vmstat[V_THP_SPLIT_PMD] += 1
    m.sc[SC_NOW_NS] += m.cost[COST_SPLIT_THP]
    if deposits_table(m, entry) == 0:
        return zap_huge_pmd(m, mm, pmd)
    table = pgtable_withdraw(m, pmd >> 9)
    flags = entry & (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY | PTE_SPECIAL | PTE_PROTNONE)
    head = entry >> PTE_SHIFT
    m.pt[pmd] = (table << PTE_SHIFT) | PTE_PRESENT
    if entry & PTE_SPECIAL:
        for i in range(512):
            m.pt[table * 512 + i] = (m.sc[SC_ZERO_PFN] << PTE_SHIFT) | (flags & ~PTE_WRITE)
        return 0
    exclusive = page_test(m, head, PG_ANON_EXCLUSIVE)
    for i in range(512):
        page_clear(m, head + i, PG_ANON_EXCLUSIVE)
        page_set(m, head + i, exclusive)
        add_pte_mapcount(m, head, head + i, 1)
        m.pt[table * 512 + i] = ((head + i) << PTE_SHIFT) | flags
    add_mapcount(m, head, HPAGE_PMD_NR - 1)
    entire = entire_mapcount(m, head) - 1
    set_page_mapping(m, head + 2, entire)
    if entire == 0:
        mod_node_state(m, page_node(m, head), V_NR_ANON_TRANSPARENT_HUGEPAGES, -1)
    return 0


@leaf
def _split_in_vma(m, vma, head):
    row = vma * VMA_STRIDE
    vpn = (m.vma[row + VMA_START] >> 12) + page_index(m, head) - m.vma[row + VMA_PGOFF]
    if vpn >= m.vma[row + VMA_START] >> 12 and vpn < m.vma[row + VMA_END] >> 12:
        pmd = walk_pmd(m, m.vma[row + VMA_MM], vpn)
        if pmd >= 0 and m.pt[pmd] & PTE_HUGE and m.pt[pmd] >> PTE_SHIFT == head:
            split_huge_pmd(m, m.vma[row + VMA_MM], pmd)


@kernel
def split_huge_pmds_of(m, head):
    """Split every PMD that maps a folio."""
    if entire_mapcount(m, head) == 0:
        return 0
    if page_test(m, head, PG_ANON):
        avc = m.anon_vma[page_mapping(m, head) * ANON_VMA_STRIDE + AV_AVC_FIRST]
        while avc >= 0:
            _split_in_vma(m, m.avc[avc * AVC_STRIDE + AVC_VMA], head)
            avc = m.avc[avc * AVC_STRIDE + AVC_NEXT_IN_ANON]
        return 0
    vma = m.inode[page_mapping(m, head) * INODE_STRIDE + I_MAP_FIRST]
    while vma >= 0:
        _split_in_vma(m, vma, head)
        vma = m.vma[vma * VMA_STRIDE + VMA_MAP_NEXT]
    return 0


@leaf
def is_unused(m, pfn):
    """1 if a page of a large folio is known to hold nothing but zeroes; only machines that mark what subpages meet (m.subpage) know."""
    return 1 if m.sc[SC_WANTS_ACCESS] & WANTS_SUBPAGES and np.int64(m.subpage[pfn]) & SUBPAGE_WRITTEN == 0 else 0


@kernel
def do_split_folio(m, pfn):
    """Service split_folio."""
    return split_folio(m, pfn)


@kernel
def split_folio(m, head):
    """Make single pages of a large folio: 1, or 0 if something holds it. The caller holds no reference.

    Anonymous pages are mapped as before, but for those that were never written, whose place the zero page takes; those that nobody maps are
    freed. A file's are mapped nowhere any more. Pages that stay go to the
    reclaimer.
    """
    order = page_order(m, head)
    anon = page_test(m, head, PG_ANON)
    cached = 1 if anon == 0 or page_test(m, head, PG_SWAPCACHE) else 0
    if page_refs(m, head) > cached or page_test(m, head, PG_WRITEBACK):
        m.mthp[order * MTHP_STRIDE + MTHP_SPLIT_FAILED] += 1
        if order == HPAGE_PMD_ORDER:
            m.vmstat[V_THP_SPLIT_PAGE_FAILED] += 1
        return 0
    if anon and entire_mapcount(m, head) == 0 and nr_pages_mapped(m, head) > 1:
        deferred_split_folio(m, head, 1)  # unmapped entry by entry, it is mapped in part for a moment
    split_huge_pmds_of(m, head)
    if anon == 0:
        rmap_walk(m, head, RMAP_UNMAP)
    mapping, index, slot = page_mapping(m, head), page_index(m, head), page_private(m, head)
    keep, memcg = page_flags(m, head) & KEPT_BY_SPLIT, page_memcg(m, head)
    reclaimer_folio_removed(m, head)
    folio_unqueue_deferred_split(m, head)
    m.mthp[order * MTHP_STRIDE + MTHP_SPLIT] += 1
    if order == HPAGE_PMD_ORDER:
        m.vmstat[V_THP_SPLIT_PAGE] += 1
    if anon:
        m.mthp[order * MTHP_STRIDE + MTHP_NR_ANON] -= 1
    else:
        mod_node_state(m, page_node(m, head), V_NR_SHMEM_HUGEPAGES, -1)
    set_page_counts(m, head, page_pte_mapcount(m, head, head), cached)
    for i in range(1 << order):
        pfn = head + i
        exclusive = page_test(m, pfn, PG_ANON_EXCLUSIVE)
        set_page_flags(m, pfn, (page_flags(m, pfn) & ~PG_FLAGS_MASK) | keep | exclusive)
        set_page_counts(m, pfn, page_mapcount(m, pfn), cached)
        set_page_kind(m, pfn, KIND_ANON if anon else KIND_SHMEM)
        set_page_order(m, pfn, 0)
        set_page_memcg(m, pfn, memcg)
        set_page_private(m, pfn, slot + i if anon and cached else 0)
        set_page_mapping(m, pfn, mapping)
        set_page_index(m, pfn, index + i)
        m.page_class[pfn] = m.page_class[head]
        if anon and keep & PG_MLOCKED == 0 and page_mapcount(m, pfn) and is_unused(m, pfn):
            rmap_walk(m, pfn, RMAP_ZEROPAGE)
        if page_mapcount(m, pfn) or cached:
            reclaimer_folio_added(m, pfn)
        else:
            if keep & PG_MLOCKED:
                clear_page_mlock(m, pfn)
            set_page_mapping(m, pfn, NO_MAPPING)
            free_pages(m, pfn, 0)
    return 1
