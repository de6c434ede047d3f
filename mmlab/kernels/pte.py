"""Page-table entries and the books that go with mapping a page: walks, mapcount, resident counts.

The tables are radix tables of 512 slots in m.pt (PTE_* of mmlab.model.rows); the root holds bits 39-47 of an address, the fifth level above
it is folded out. Models: include/linux/pgtable.h, mm/rmap.c folio_add_*_rmap(), mm/memory.c inc_mm_counter(). Cost: four loads a walk.
"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.large_folio import folio_add_rmap_pte, folio_remove_rmap_pte, folio_rss_counter, note_partially_mapped
from mmlab.kernels.page_class import set_page_class
from mmlab.kernels.zones import page_node
from mmlab.model.page import PG_ANON, PG_HEAD, PG_TAIL, add_mapcount, page_flags, page_folio, page_test
from mmlab.model.rows import (
    MM_HIWATER_RSS, MM_LRU_ALL_USED, MM_LRU_GEN, MM_ROOT, MM_RSS_ANON, MM_RSS_FILE, MM_RSS_SHMEM, MM_STRIDE, PTE_DIRTY, PTE_HUGE,
    PTE_SHIFT, SC_STORE_CLASS, SC_TASK, TASK_STRIDE, T_MM,
)
from mmlab.model.vmstat import V_NR_ANON_PAGES, V_NR_MAPPED, mod_node_state


@leaf
def walk_pmd(m, mm, vpn):
    """Slot in m.pt of the PMD entry for a virtual page number, or -1 if a table above is missing."""
    entry = m.pt[m.mm[mm * MM_STRIDE + MM_ROOT] * 512 + ((vpn >> 27) & 511)]
    if entry == 0:
        return -1
    entry = m.pt[(entry >> PTE_SHIFT) * 512 + ((vpn >> 18) & 511)]
    if entry == 0:
        return -1
    return (entry >> PTE_SHIFT) * 512 + ((vpn >> 9) & 511)


@leaf
def pte_offset(m, pmd, vpn):
    """Slot in m.pt of the PTE for a virtual page number under a PMD entry that names a table."""
    return (m.pt[pmd] >> PTE_SHIFT) * 512 + (vpn & 511)


@leaf
def walk_pte(m, mm, vpn):
    """Slot in m.pt of the PTE for a virtual page number, or -1 if there is no PTE table (or a huge PMD in its place)."""
    pmd = walk_pmd(m, mm, vpn)
    if pmd < 0:
        return -1
    entry = m.pt[pmd]
    if entry == 0 or entry & PTE_HUGE:
        return -1
    return (entry >> PTE_SHIFT) * 512 + (vpn & 511)


@leaf
def walk_leaf(m, mm, vpn):
    """Slot in m.pt of the entry that maps a virtual page number, a PTE or a huge PMD, whatever it holds; -1 if there is no PTE table."""
    pmd = walk_pmd(m, mm, vpn)
    if pmd < 0 or m.pt[pmd] == 0:
        return -1
    return pmd if m.pt[pmd] & PTE_HUGE else pte_offset(m, pmd, vpn)


@leaf
def mapped_entry(m, mm, vpn):
    """The entry that maps vpn: a PTE, or the huge PMD above it; 0 if there is none."""
    slot = walk_leaf(m, mm, vpn)
    return m.pt[slot] if slot >= 0 else 0


@leaf
def lru_gen_use_mm(m):
    """The running task was switched in (it has waited for a device, say): its address space counts as used for the next walk of aging."""
    task = m.sc[SC_TASK]
    if task >= 0:
        m.mm[m.task[task * TASK_STRIDE + T_MM] * MM_STRIDE + MM_LRU_GEN] |= MM_LRU_ALL_USED


@leaf
def mm_rss(m, mm):
    """Resident pages of an address space."""
    base = mm * MM_STRIDE
    return m.mm[base + MM_RSS_ANON] + m.mm[base + MM_RSS_FILE] + m.mm[base + MM_RSS_SHMEM]


@leaf
def add_rmap(m, mm, pfn):
    """One more PTE of mm maps the page."""
    flags = page_flags(m, pfn)
    if flags & (PG_HEAD | PG_TAIL):
        folio_add_rmap_pte(m, mm, pfn)
        return
    m.mm[mm * MM_STRIDE + folio_rss_counter(m, pfn)] += 1
    if add_mapcount(m, pfn, 1) == 1:
        mod_node_state(m, page_node(m, pfn), V_NR_ANON_PAGES if flags & PG_ANON else V_NR_MAPPED, 1)


@leaf
def folio_add_new_anon_rmap(m, mm, pfn):
    """The first PTE that maps a fresh anonymous page (not of a large folio)."""
    m.mm[mm * MM_STRIDE + MM_RSS_ANON] += 1
    add_mapcount(m, pfn, 1)
    mod_node_state(m, page_node(m, pfn), V_NR_ANON_PAGES, 1)


@leaf
def note_rss(m, mm):
    """The high-water mark of RSS, which Linux notes before it unmaps."""
    rss = mm_rss(m, mm)
    if rss > m.mm[mm * MM_STRIDE + MM_HIWATER_RSS]:
        m.mm[mm * MM_STRIDE + MM_HIWATER_RSS] = rss


@leaf
def remove_rmap(m, mm, pfn):
    """One PTE of mm less; returns how many entries still map the page (or anything of its large folio)."""
    note_rss(m, mm)
    if page_test(m, pfn, PG_HEAD | PG_TAIL):
        left = folio_remove_rmap_pte(m, mm, pfn)
        note_partially_mapped(m, page_folio(m, pfn))
        return left
    m.mm[mm * MM_STRIDE + folio_rss_counter(m, pfn)] -= 1
    left = add_mapcount(m, pfn, -1)
    if left == 0:
        mod_node_state(m, page_node(m, pfn), V_NR_ANON_PAGES if page_test(m, pfn, PG_ANON) else V_NR_MAPPED, -1)
    return left


@leaf
def note_written(m, pfn, entry):
    """What a PTE_DIRTY that is about to be lost tells of a folio: it no longer holds what it held before."""
    if entry & PTE_DIRTY:
        set_page_class(m, pfn, m.sc[SC_STORE_CLASS])


@leaf
def swap_duplicate(m, entry):
    """One more entry refers to a swap slot."""
    m.swap_map[entry >> PTE_SHIFT] += 1
