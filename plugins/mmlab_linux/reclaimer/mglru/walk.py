"""Aging by page-table walk: every young entry found puts its page into the youngest generation.

Models: mm/vmscan.c iterate_mm_list(), get_next_mm(), walk_mm(), should_skip_vma(), walk_pmd_range(), walk_pte_range(), get_pfn_folio(),
suitable_to_scan(). A PMD entry's accessed bit is what rmap left there when it cleared entries below, or an entry that became young since.
Left out: batching of size updates, preemption of a walk.
"""

from mmlab.kernels.dirty import folio_mark_dirty
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import lruvec_memcg, lruvec_node, page_lruvec
from mmlab.kernels.ops import vma_index_find
from mmlab.kernels.pte import walk_pmd
from mmlab.model.page import PG_ANON, PG_SWAPBACKED, PG_SWAPCACHE, page_flags
from mmlab.model.rows import (
    COST_WALK_PTE, COST_WALK_YOUNG, IF_SHMEM, INODE_STRIDE, I_FLAGS, MM_LRU_GEN, MM_LRU_KNOWN, MM_LRU_USED, MM_STRIDE, MM_USERS, PTE_ACCESSED, PTE_DIRTY,
    PTE_HUGE, PTE_PRESENT, PTE_SEEN, PTE_SHIFT, PTE_SPECIAL, SC_NOW_NS, SC_NR_TASKS, TASK_STRIDE, T_ALIVE, T_MEMCG, T_MM, VMA_END,
    VMA_FLAGS, VMA_INODE, VMA_START, VMA_STRIDE, VM_EXEC, VM_LOCKED, VM_RAND_READ, VM_READ, VM_SEQ_READ, VM_SPECIAL, VM_WRITE,
)
from mmlab_linux.reclaimer.lruvec import ANON
from mmlab_linux.reclaimer.mglru.bloom import reset_bloom_filter, test_bloom_filter, update_bloom_filter
from mmlab_linux.reclaimer.mglru.lrugen import MAX_NR_GENS, folio_kind, folio_update_gen

PTES_PER_CACHE_LINE = 8


@leaf
def suitable_to_scan(total, young):
    """1 if a page table has on average a young entry in each cache line looked at."""
    return 1 if young * PTES_PER_CACHE_LINE >= total else 0


@leaf
def should_skip_vma(m, vma, can_swap):
    """1 for a VMA whose accessed bits say nothing, or whose pages cannot be evicted."""
    row = vma * VMA_STRIDE
    flags = m.vma[row + VMA_FLAGS]
    if flags & (VM_READ | VM_WRITE | VM_EXEC) == 0 or flags & (VM_SEQ_READ | VM_RAND_READ | VM_LOCKED | VM_SPECIAL):
        return 1
    inode = m.vma[row + VMA_INODE]
    if inode < 0 or m.inode[inode * INODE_STRIDE + I_FLAGS] & IF_SHMEM:
        return 1 - can_swap
    return 0


@leaf
def young_folio(m, slot, lruvec, can_swap):
    """The page behind a young entry, if it is the lruvec's and may be evicted; -1."""
    entry = m.pt[slot]
    if entry & PTE_PRESENT == 0 or entry & PTE_SPECIAL or entry & PTE_ACCESSED == 0:
        return -1
    pfn = entry >> PTE_SHIFT
    if page_lruvec(m, pfn) != lruvec or (folio_kind(page_flags(m, pfn)) == ANON and can_swap == 0):
        return -1
    return pfn


@leaf
def clear_young(m, slot, pfn):
    """Take the accessed bit; a dirty entry makes its page dirty, unless it is anonymous and not in the swap cache."""
    entry = m.pt[slot]
    m.pt[slot] = entry & ~(PTE_ACCESSED | PTE_SEEN)
    if entry & PTE_DIRTY:
        flags = page_flags(m, pfn)
        if flags & PG_ANON == 0 or flags & PG_SWAPBACKED == 0 or flags & PG_SWAPCACHE:
            folio_mark_dirty(m, pfn)


@kernel
def walk_pte_range(m, st, lruvec, mm, vma, first_vpn, seq, can_swap):
    """Look at one page table from first_vpn on, through all VMAs that share it: 1 if the next pass should look at it again."""
    end = ((first_vpn >> 9) + 1) << 9
    pmd = walk_pmd(m, mm, first_vpn)
    table = (m.pt[pmd] >> PTE_SHIFT) * 512
    gen = seq % MAX_NR_GENS
    looked = young = 0
    at = vma
    vpn = first_vpn
    while at >= 0 and vpn < end:
        row = at * VMA_STRIDE
        stop = min(end, m.vma[row + VMA_END] >> 12)
        if should_skip_vma(m, at, can_swap) == 0:
            for page in range(vpn, stop):
                looked += 1
                slot = table + (page & 511)
                pfn = young_folio(m, slot, lruvec, can_swap)
                if pfn >= 0:
                    clear_young(m, slot, pfn)
                    young += 1
                    folio_update_gen(m, st, pfn, gen)
        at = vma_index_find(m, mm, m.vma[row + VMA_END])
        if at >= 0:
            vpn = m.vma[at * VMA_STRIDE + VMA_START] >> 12
    m.sc[SC_NOW_NS] += looked * m.cost[COST_WALK_PTE] + young * m.cost[COST_WALK_YOUNG]
    return suitable_to_scan(looked, young)


@leaf
def pmd_test_clear_young(m, pmd):
    """1 if something was accessed through this page table since the last call; young entries are marked as seen.

    Not noticed: another access through an entry that is young and seen, and so does not change.
    """
    entry = m.pt[pmd]
    young = 1 if entry & PTE_ACCESSED else 0
    m.pt[pmd] = entry & ~PTE_ACCESSED
    table = (entry >> PTE_SHIFT) * 512
    for slot in range(table, table + 512):
        if m.pt[slot] & (PTE_ACCESSED | PTE_SEEN) == PTE_ACCESSED:
            m.pt[slot] |= PTE_SEEN
            young = 1
    return young


@leaf
def walk_huge_pmd(m, st, lruvec, pmd, seq, can_swap):
    """A huge page is one entry."""
    pfn = young_folio(m, pmd, lruvec, can_swap)
    if pfn >= 0:
        clear_young(m, pmd, pfn)
        folio_update_gen(m, st, pfn, seq % MAX_NR_GENS)


@kernel
def walk_mm(m, st, lruvec, mm, seq, can_swap, force_scan):
    """One address space: the page tables that the filter names and that were used, or all if force_scan."""
    at = 0
    vma = vma_index_find(m, mm, 0)
    while vma >= 0:
        row = vma * VMA_STRIDE
        at = max(at, m.vma[row + VMA_START])
        vpn = at >> 12
        if should_skip_vma(m, vma, can_swap):
            at = m.vma[row + VMA_END]
        else:
            pmd = walk_pmd(m, mm, vpn)
            table_end = ((vpn >> 9) + 1) << 21
            if pmd < 0:
                at = min(m.vma[row + VMA_END], ((vpn >> 18) + 1) << 30)
            elif m.pt[pmd] == 0:
                at = min(m.vma[row + VMA_END], table_end)
            elif m.pt[pmd] & PTE_HUGE:
                walk_huge_pmd(m, st, lruvec, pmd, seq, can_swap)
                at = min(m.vma[row + VMA_END], table_end)
            elif force_scan or (pmd_test_clear_young(m, pmd) and test_bloom_filter(st, lruvec, seq, pmd)):
                if walk_pte_range(m, st, lruvec, mm, vma, vpn, seq, can_swap):
                    update_bloom_filter(st, lruvec, seq + 1, pmd)
                at = table_end
            else:
                at = min(m.vma[row + VMA_END], table_end)
        vma = vma_index_find(m, mm, at)


@kernel
def walk_mm_list(m, st, lruvec, seq, can_swap, force_scan):
    """Walk the address spaces of the lruvec's cgroup: those used since the last pass, and in full the ones that are new and all behind them.

    Whether an mm was used is known for all nodes together.
    """
    memcg, node = lruvec_memcg(m, lruvec), lruvec_node(m, lruvec)
    force = force_scan
    walked = 0
    for task in range(m.sc[SC_NR_TASKS]):
        row = task * TASK_STRIDE
        mm = m.task[row + T_MM]
        if m.task[row + T_ALIVE] == 0 or m.task[row + T_MEMCG] != memcg or mm < 0 or m.mm[mm * MM_STRIDE + MM_USERS] == 0:
            continue
        state = m.mm[mm * MM_STRIDE + MM_LRU_GEN]
        if state & MM_LRU_KNOWN == 0:
            force = 1
        if force == 0 and state & (MM_LRU_USED << node) == 0:
            continue
        m.mm[mm * MM_STRIDE + MM_LRU_GEN] = (state | MM_LRU_KNOWN) & ~(MM_LRU_USED << node)
        if walked == 0:
            reset_bloom_filter(st, lruvec, seq + 1)
        walked = 1
        walk_mm(m, st, lruvec, mm, seq, can_swap, force)
    return walked
