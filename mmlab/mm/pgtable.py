"""Page tables: making them on the way down, freeing them when their whole span has no VMA left.

Models: mm/memory.c __pte_alloc(), free_pgd_range(), free_pgtables(); arch/x86/mm/pgtable.c. Table 0 is never used (an entry of 0 is none).
A huge PMD keeps a table deposited with its PMD table.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.kernels.zones import page_node
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_KERNEL_ACCOUNT, GFP_ZERO
from mmlab.model.page import KIND_TABLE, PG_TABLE, page_set, set_page_counts, set_page_kind, set_page_private
from mmlab.model.rows import (
    COST_PAGE_TABLE, MM_PGTABLES_BYTES, MM_ROOT, MM_ROOT_PFN, MM_STRIDE, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, SC_NOW_NS, SC_PGTABLE_LEVELS,
    SC_TABLE_FREE, SC_TABLE_TOP, TABLE_STRIDE, TB_DEPOSIT, TB_NEXT_FREE, TB_PFN,
)
from mmlab.model.vmstat import V_NR_PAGE_TABLE_PAGES, mod_node_state


@leaf
def _table_number(m):
    table = m.sc[SC_TABLE_FREE]
    if table:
        m.sc[SC_TABLE_FREE] = m.table[table * TABLE_STRIDE + TB_NEXT_FREE]
    else:
        m.sc[SC_TABLE_TOP] += 1
        table = m.sc[SC_TABLE_TOP]
    return table


@kernel
def alloc_table(m, mm, counted):
    """A zeroed page table: its number, or -ENOMEM. counted: it adds to the mm's pgtables_bytes (all levels but the top)."""
    pfn = alloc_pages(m, GFP_KERNEL_ACCOUNT | GFP_ZERO, 0, -1)
    if pfn < 0:
        return -ENOMEM
    table = _table_number(m)
    m.table[table * TABLE_STRIDE + TB_PFN] = pfn
    page_set(m, pfn, PG_TABLE)
    set_page_kind(m, pfn, KIND_TABLE)
    set_page_counts(m, pfn, 0, 1)
    set_page_private(m, pfn, table)
    m.sc[SC_NOW_NS] += m.cost[COST_PAGE_TABLE]
    if counted:
        m.mm[mm * MM_STRIDE + MM_PGTABLES_BYTES] += 4096
        mod_node_state(m, page_node(m, pfn), V_NR_PAGE_TABLE_PAGES, 1)
    return table


@kernel
def free_table(m, mm, table, counted):
    """Give a table back; its slots are zero already."""
    pfn = m.table[table * TABLE_STRIDE + TB_PFN]
    if counted:
        m.mm[mm * MM_STRIDE + MM_PGTABLES_BYTES] -= 4096
        mod_node_state(m, page_node(m, pfn), V_NR_PAGE_TABLE_PAGES, -1)
    m.table[table * TABLE_STRIDE + TB_PFN] = -1
    m.table[table * TABLE_STRIDE + TB_NEXT_FREE] = m.sc[SC_TABLE_FREE]
    m.sc[SC_TABLE_FREE] = table
    free_pages(m, pfn, 0)
    return 0


@kernel
def pgd_alloc(m, mm):
    """The top of an mm's tables; with five levels another page stands above it. 0, or -ENOMEM."""
    above = -1
    if m.sc[SC_PGTABLE_LEVELS] == 5:
        above = alloc_pages(m, GFP_KERNEL_ACCOUNT | GFP_ZERO, 0, -1)
        if above < 0:
            return -ENOMEM
        set_page_kind(m, above, KIND_TABLE)
        set_page_counts(m, above, 0, 1)
    root = alloc_table(m, mm, 0)
    if root < 0:
        if above >= 0:
            free_pages(m, above, 0)
        return -ENOMEM
    m.mm[mm * MM_STRIDE + MM_ROOT] = root
    m.mm[mm * MM_STRIDE + MM_ROOT_PFN] = above
    return 0


@kernel
def pgd_free(m, mm):
    """Free the top; everything below is gone."""
    free_table(m, mm, m.mm[mm * MM_STRIDE + MM_ROOT], 0)
    if m.mm[mm * MM_STRIDE + MM_ROOT_PFN] >= 0:
        free_pages(m, m.mm[mm * MM_STRIDE + MM_ROOT_PFN], 0)
    m.mm[mm * MM_STRIDE + MM_ROOT] = 0
    return 0


@kernel
def _walk_alloc(m, mm, vpn, to_shift):
    """Slot of the entry for vpn in the table whose entries cover 2^to_shift pages, tables above made as needed; -ENOMEM."""
    table = m.mm[mm * MM_STRIDE + MM_ROOT]
    shift = 27
    while shift > to_shift:
        slot = table * 512 + ((vpn >> shift) & 511)
        if m.pt[slot] == 0:
            below = alloc_table(m, mm, 1)
            if below < 0:
                return -ENOMEM
            m.pt[slot] = (below << PTE_SHIFT) | PTE_PRESENT
        table = m.pt[slot] >> PTE_SHIFT
        shift -= 9
    return table * 512 + ((vpn >> to_shift) & 511)


@kernel
def pud_alloc(m, mm, vpn):
    """Slot of the PUD entry for vpn, the table above made as needed; -ENOMEM."""
    return _walk_alloc(m, mm, vpn, 18)


@kernel
def pmd_alloc(m, mm, vpn):
    """Slot of the PMD entry for vpn, tables above made as needed; -ENOMEM."""
    return _walk_alloc(m, mm, vpn, 9)


@kernel
def pte_alloc(m, mm, vpn):
    """Slot of the PTE for vpn, tables made as needed; -ENOMEM. The PMD must not be huge."""
    pmd = pmd_alloc(m, mm, vpn)
    if pmd < 0:
        return -ENOMEM
    if m.pt[pmd] == 0:
        table = alloc_table(m, mm, 1)
        if table < 0:
            return -ENOMEM
        m.pt[pmd] = (table << PTE_SHIFT) | PTE_PRESENT
    return (m.pt[pmd] >> PTE_SHIFT) * 512 + (vpn & 511)


@kernel
def free_pgtables(m, mm, start_vpn, end_vpn, floor_vpn, ceiling_vpn):
    """Free the tables under [start, end) whose whole span lies between the neighbouring VMAs [floor, ceiling). Entries are unmapped already."""
    root = m.mm[mm * MM_STRIDE + MM_ROOT]
    vpn = start_vpn
    while vpn < end_vpn:
        pgd = root * 512 + ((vpn >> 27) & 511)
        if m.pt[pgd] == 0:
            vpn = ((vpn >> 27) + 1) << 27
            continue
        pud_table = m.pt[pgd] >> PTE_SHIFT
        pud = pud_table * 512 + ((vpn >> 18) & 511)
        if m.pt[pud]:
            pmd_table = m.pt[pud] >> PTE_SHIFT
            at = vpn
            stop = min(end_vpn, ((vpn >> 18) + 1) << 18)
            while at < stop:
                pmd = pmd_table * 512 + ((at >> 9) & 511)
                first = (at >> 9) << 9
                if m.pt[pmd] and m.pt[pmd] & PTE_HUGE == 0 and first >= floor_vpn and first + 512 <= ceiling_vpn:
                    free_table(m, mm, m.pt[pmd] >> PTE_SHIFT, 1)
                    m.pt[pmd] = 0
                at = first + 512
            first = (vpn >> 18) << 18
            if first >= floor_vpn and first + (1 << 18) <= ceiling_vpn:
                free_table(m, mm, pmd_table, 1)
                m.pt[pud] = 0
        next_pud = ((vpn >> 18) + 1) << 18
        first = (vpn >> 27) << 27
        if (next_pud >= end_vpn or next_pud >> 27 != vpn >> 27) and first >= floor_vpn and first + (1 << 27) <= ceiling_vpn:
            free_table(m, mm, pud_table, 1)
            m.pt[pgd] = 0
        vpn = next_pud
    return 0


@leaf
def pgtable_deposit(m, pmd_table, table):
    """Keep a table beside a huge PMD, for the day it is split."""
    m.table[table * TABLE_STRIDE + TB_NEXT_FREE] = m.table[pmd_table * TABLE_STRIDE + TB_DEPOSIT]
    m.table[pmd_table * TABLE_STRIDE + TB_DEPOSIT] = table


@leaf
def pgtable_withdraw(m, pmd_table):
    """The table kept last under this PMD table."""
    table = m.table[pmd_table * TABLE_STRIDE + TB_DEPOSIT]
    m.table[pmd_table * TABLE_STRIDE + TB_DEPOSIT] = m.table[table * TABLE_STRIDE + TB_NEXT_FREE]
    return table
