"""Mapping and unmapping pages: anonymous folios, zapping, splitting a huge PMD, swap faults, and the entry from the CPU.

Models: mm/memory.c zap_pte_range(), do_swap_page(), mm_account_fault(); mm/huge_memory.c __split_huge_pmd(), zap_huge_pmd();
arch/x86/mm/fault.c do_user_addr_fault(); mm/mmap.c expand_downwards(). Left out: userfaultfd, protection keys, hugetlb.
A split huge PMD splits its folio into 512 pages at once (Linux may keep the folio whole).
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import (
    fault_handler_handle_mm_fault, reclaimer_folio_added, reclaimer_folio_removed, vma_index_find, vma_index_find_prev, vma_index_resize,
)
from mmlab.kernels.pte import add_rmap, remove_rmap, walk_pmd, walk_pte
from mmlab.kernels.services import alloc_pages, anon_vma_prepare, free_pages, zap_pte
from mmlab.kernels.zones import page_node
from mmlab.mm.page_counter import current_memcg, mem_cgroup_charge
from mmlab.mm.pgtable import free_table, pgtable_withdraw
from mmlab.mm.swap_slots import swap_free
from mmlab.mm.swap_state import delete_from_swap_cache, swap_cache_get, swapin_readahead
from mmlab.model.const import ENOMEM, EXEC, TASK_SIZE, VM_FAULT_ERROR, VM_FAULT_MAJOR, VM_FAULT_OOM, VM_FAULT_RETRY, VM_FAULT_SIGBUS, WRITE
from mmlab.model.page import (
    KIND_ANON, NO_MAPPING, PG_ACTIVE, PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_HEAD, PG_LRU, PG_REFERENCED, PG_SWAPBACKED, PG_SWAPCACHE,
    PG_TAIL, PG_UPTODATE, add_refs, page_clear, page_counts, page_flags, page_index, page_mapcount, page_mapping, page_order,
    page_private, page_refs, page_set, page_test, set_page_counts, set_page_index, set_page_kind, set_page_mapping, set_page_order,
    set_page_private,
)
from mmlab.model.rows import (
    SC_IN_LRU_FAULT, VM_RAND_READ, VM_SEQ_READ, COST_FAULT, COST_HUGE_ZERO, COST_SPLIT_THP, COST_SWAP_CACHE_HIT, COST_ZAP_PTE, COST_ZERO_PAGE, MM_RLIMIT_AS, MM_RLIMIT_STACK,
    MM_STACK_VM, MM_STRIDE, MM_SWAPENTS, MM_TOTAL_VM, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT,
    PTE_SPECIAL, PTE_SWAP, PTE_SWAP_EXCLUSIVE, PTE_WRITE, SC_COMMITTED_AS, SC_MMAP_MIN_ADDR, SC_NOW_NS, SC_NR_SWAP_FREE, SC_NR_SWAP_SLOTS,
    SC_PGTABLE_LEVELS, SC_STACK_GUARD_GAP, SC_ZERO_PFN, T_FLAGS, T_MAJ_FLT, T_MIN_FLT, T_MM, T_SI_ADDR, T_SI_CODE, T_SIGNAL, TASK_STRIDE,
    TF_KILLED, VM_ACCOUNT, VM_EXEC, VM_GROWSDOWN, VM_LOCKED, VM_READ, VM_WRITE, VMA_ANON_VMA, VMA_END, VMA_FLAGS, VMA_PGOFF, VMA_START,
    VMA_STRIDE,
)
from mmlab.model.vmstat import V_NR_ANON_TRANSPARENT_HUGEPAGES, V_PGFAULT, V_PGMAJFAULT, V_THP_SPLIT_PAGE, V_THP_SPLIT_PMD, mod_node_state

SIGSEGV, SIGBUS, SIGKILL = 11, 7, 9
SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR, SI_KERNEL = 1, 2, 2, 128
VM_ACCESS = VM_READ | VM_WRITE | VM_EXEC


@leaf
def linear_page_index(m, vma, vpn):
    """Offset of the virtual page in the VMA's mapping, in pages."""
    return vpn - (m.vma[vma * VMA_STRIDE + VMA_START] >> 12) + m.vma[vma * VMA_STRIDE + VMA_PGOFF]


@leaf
def set_anon(m, pfn, vma, vpn):
    """Make a fresh page anonymous, exclusive to this VMA's anon_vma."""
    page_set(m, pfn, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_ANON_EXCLUSIVE)
    set_page_kind(m, pfn, KIND_ANON)
    set_page_mapping(m, pfn, m.vma[vma * VMA_STRIDE + VMA_ANON_VMA])
    set_page_index(m, pfn, linear_page_index(m, vma, vpn))


@kernel
def alloc_anon_folio(m, mm, vma, vpn, order, gfp):
    """Service: a zeroed anonymous folio of 2^order pages for vpn (its first page); the zeroing takes its simulated time."""
    pfn = alloc_pages(m, gfp, order, -1)
    if pfn < 0:
        return -ENOMEM
    if mem_cgroup_charge(m, pfn, current_memcg(m), gfp, 1 << order) < 0:
        free_pages(m, pfn, order)
        return -ENOMEM
    set_anon(m, pfn, vma, vpn)
    if order > 0:
        page_set(m, pfn, PG_HEAD)
        for tail in range(1, 1 << order):
            page_set(m, pfn + tail, PG_TAIL)
            set_page_private(m, pfn + tail, tail)
            set_page_kind(m, pfn + tail, KIND_ANON)
        m.sc[SC_NOW_NS] += m.cost[COST_HUGE_ZERO]
    else:
        m.sc[SC_NOW_NS] += m.cost[COST_ZERO_PAGE]
    return pfn


@kernel
def do_folio_put(m, pfn):
    """Service folio_put: drop a reference that is not a mapping; a page without any is freed."""
    if add_refs(m, pfn, -1) > 0:
        return 0
    free_folio(m, pfn)
    return 1


@kernel
def free_folio(m, pfn):
    """Nobody maps or holds the folio: off its list and back to the allocator."""
    order = page_order(m, pfn) if page_test(m, pfn, PG_HEAD) else 0
    if page_test(m, pfn, PG_SWAPCACHE):
        delete_from_swap_cache(m, pfn, -1)
    reclaimer_folio_removed(m, pfn)
    set_page_mapping(m, pfn, NO_MAPPING)
    for tail in range(pfn + 1, pfn + (1 << order)):
        page_clear(m, tail, PG_TAIL)
    return free_pages(m, pfn, order)


@leaf
def put_mapped_page(m, pfn):
    """After an unmapping: free the page if that was the last use; a swap-cache page with no other user goes too."""
    counts = page_counts(m, pfn)
    if counts == 0:
        free_folio(m, pfn)
    elif page_test(m, pfn, PG_SWAPCACHE) and page_mapcount(m, pfn) == 0 and page_refs(m, pfn) == 1:
        if np.int64(m.swap_map[page_private(m, pfn)]) == 0:
            delete_from_swap_cache(m, pfn, -1)
            if page_counts(m, pfn) == 0:
                free_folio(m, pfn)


@kernel
def do_zap_pte(m, mm, vma, slot):
    """Service zap_pte: empty an entry, dropping the page or the swap slot behind it."""
    entry = m.pt[slot]
    m.pt[slot] = 0
    if entry == 0:
        return 0
    m.sc[SC_NOW_NS] += m.cost[COST_ZAP_PTE]
    if entry & PTE_SWAP:
        m.mm[mm * MM_STRIDE + MM_SWAPENTS] -= 1
        swap = entry >> PTE_SHIFT
        swap_free(m, swap)
        cached = swap_cache_get(m, swap)
        if cached >= 0:
            put_mapped_page(m, cached)
        return 0
    if entry & PTE_SPECIAL:
        return 0
    pfn = entry >> PTE_SHIFT
    if entry & PTE_DIRTY:
        page_set(m, pfn, PG_DIRTY)
    remove_rmap(m, mm, pfn, 1)
    put_mapped_page(m, pfn)
    return 0


@kernel
def zap_huge_pmd(m, mm, pmd):
    """Unmap a whole huge PMD and drop its deposited table."""
    entry = m.pt[pmd]
    m.pt[pmd] = 0
    free_table(m, mm, pgtable_withdraw(m, pmd >> 9), 1)
    if entry & PTE_SPECIAL:
        return 0
    pfn = entry >> PTE_SHIFT
    mod_node_state(m, page_node(m, pfn), V_NR_ANON_TRANSPARENT_HUGEPAGES, -1)
    remove_rmap(m, mm, pfn, 512)
    if page_counts(m, pfn) == 0:
        free_folio(m, pfn)
    return 0


@kernel
def zap_range(m, mm, vma, start_vpn, end_vpn):
    """Unmap everything of the VMA in [start, end); tables stay. A huge PMD that is cut is split first."""
    vpn = start_vpn
    while vpn < end_vpn:
        pmd = walk_pmd(m, mm, vpn)
        if pmd < 0:
            vpn = ((vpn >> 18) + 1) << 18
            continue
        stop = min(end_vpn, ((vpn >> 9) + 1) << 9)
        if m.pt[pmd] & PTE_HUGE:
            if vpn & 511 == 0 and stop == vpn + 512:
                zap_huge_pmd(m, mm, pmd)
                vpn = stop
                continue
            split_huge_pmd(m, pmd)
        if m.pt[pmd]:
            table = (m.pt[pmd] >> PTE_SHIFT) * 512
            for at in range(vpn, stop):
                if m.pt[table + (at & 511)]:
                    zap_pte(m, mm, vma, table + (at & 511))
        vpn = stop
    return 0


@kernel
def split_huge_pmd(m, pmd):
    """Replace a huge PMD by its deposited table of 512 entries, and its folio (mapped nowhere else) by 512 pages."""
    entry = m.pt[pmd]
    table = pgtable_withdraw(m, pmd >> 9)
    m.vmstat[V_THP_SPLIT_PMD] += 1
    m.sc[SC_NOW_NS] += m.cost[COST_SPLIT_THP]
    flags = entry & (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY | PTE_SPECIAL | PTE_PROTNONE)
    head = entry >> PTE_SHIFT
    m.pt[pmd] = (table << PTE_SHIFT) | PTE_PRESENT
    if entry & PTE_SPECIAL:
        for i in range(512):
            m.pt[table * 512 + i] = (m.sc[SC_ZERO_PFN] << PTE_SHIFT) | (flags & ~PTE_WRITE)
        return 0
    exclusive = page_test(m, head, PG_ANON_EXCLUSIVE)
    split_folio(m, head)
    mod_node_state(m, page_node(m, head), V_NR_ANON_TRANSPARENT_HUGEPAGES, -1)
    for i in range(512):
        m.pt[table * 512 + i] = ((head + i) << PTE_SHIFT) | flags
        set_page_counts(m, head + i, 1, 0)
        page_set(m, head + i, exclusive)
    return 0


@kernel
def split_folio(m, head):
    """A huge folio mapped once becomes 512 pages, each reclaimable by itself."""
    reclaimer_folio_removed(m, head)
    mapping = page_mapping(m, head)
    index = page_index(m, head)
    keep = page_flags(m, head) & (PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_DIRTY)
    page_clear(m, head, PG_HEAD | PG_LRU | PG_ACTIVE | PG_REFERENCED)
    set_page_order(m, head, 0)
    m.vmstat[V_THP_SPLIT_PAGE] += 1
    for i in range(512):
        page_clear(m, head + i, PG_TAIL)
        page_set(m, head + i, keep)
        set_page_kind(m, head + i, KIND_ANON)
        set_page_order(m, head + i, 0)
        set_page_private(m, head + i, 0)
        set_page_mapping(m, head + i, mapping)
        set_page_index(m, head + i, index + i)
        reclaimer_folio_added(m, head + i)
    return 0


@leaf
def acct_stack_growth(m, mm, vma, address):
    """1 if the VMA may grow down to address: within the stack limit and away from what lies below it."""
    row = vma * VMA_STRIDE
    if address < m.sc[SC_MMAP_MIN_ADDR] or m.vma[row + VMA_END] - address > m.mm[mm * MM_STRIDE + MM_RLIMIT_STACK]:
        return 0
    grow = (m.vma[row + VMA_START] - address) >> 12
    if m.mm[mm * MM_STRIDE + MM_TOTAL_VM] + grow > m.mm[mm * MM_STRIDE + MM_RLIMIT_AS] >> 12:
        return 0
    below = vma_index_find_prev(m, mm, m.vma[row + VMA_START])
    if below >= 0:
        lower = below * VMA_STRIDE
        flags = m.vma[lower + VMA_FLAGS]
        if m.vma[lower + VMA_END] > address:
            return 0
        if flags & VM_ACCESS and flags & VM_GROWSDOWN == 0 and address - m.vma[lower + VMA_END] < m.sc[SC_STACK_GUARD_GAP] << 12:
            return 0
    return 1


@kernel
def expand_stack(m, mm, vma, address):
    """Grow a VM_GROWSDOWN VMA down to the page of address: 0, or -ENOMEM."""
    address = address >> 12 << 12
    if acct_stack_growth(m, mm, vma, address) == 0:
        return -ENOMEM
    row = vma * VMA_STRIDE
    grow = (m.vma[row + VMA_START] - address) >> 12
    if grow > m.vma[row + VMA_PGOFF] or vma_index_resize(m, mm, vma, address, m.vma[row + VMA_END]) < 0:
        return -ENOMEM
    m.vma[row + VMA_PGOFF] -= grow
    m.mm[mm * MM_STRIDE + MM_TOTAL_VM] += grow
    m.mm[mm * MM_STRIDE + MM_STACK_VM] += grow
    if m.vma[row + VMA_FLAGS] & VM_ACCOUNT:
        m.sc[SC_COMMITTED_AS] += grow
    return 0


@leaf
def force_sig_fault(m, task, signal, code, address):
    """The task gets a signal for what it did at address; -1."""
    row = task * TASK_STRIDE
    m.task[row + T_SIGNAL] = signal
    m.task[row + T_SI_CODE] = code
    m.task[row + T_SI_ADDR] = address
    return -1


@kernel
def do_user_addr_fault(m, task, vpn, access):
    """A fault of a task at a virtual page: 0 minor, VM_FAULT_MAJOR, or -1 with the signal in the task's row (SIGKILL: out of memory)."""
    row = task * TASK_STRIDE
    mm = m.task[row + T_MM]
    m.sc[SC_NOW_NS] += m.cost[COST_FAULT]
    m.vmstat[V_PGFAULT] += 1
    if vpn < 0 or vpn >= 1 << 44:
        high = vpn & ((1 << 51) - 1)  # a kernel address; the sign bit is put back without a shift that overflows
        return force_sig_fault(m, task, SIGSEGV, SEGV_MAPERR, (high << 12) | (-1 << 63) if vpn & (1 << 51) else high << 12)
    address = vpn << 12
    if address >= TASK_SIZE + 4096 and m.sc[SC_PGTABLE_LEVELS] == 4:
        return force_sig_fault(m, task, SIGSEGV, SI_KERNEL, 0)
    vma = vma_index_find(m, mm, address)
    if vma < 0:
        return force_sig_fault(m, task, SIGSEGV, SEGV_MAPERR, address)
    if m.vma[vma * VMA_STRIDE + VMA_START] > address:
        if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_GROWSDOWN == 0 or expand_stack(m, mm, vma, address) < 0:
            return force_sig_fault(m, task, SIGSEGV, SEGV_MAPERR, address)
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    allowed = flags & VM_ACCESS
    if access == WRITE:
        allowed = flags & VM_WRITE
    elif access == EXEC:
        allowed = flags & VM_EXEC
    if allowed == 0:
        return force_sig_fault(m, task, SIGSEGV, SEGV_ACCERR, address)
    before = m.vmstat[V_PGMAJFAULT]
    m.sc[SC_IN_LRU_FAULT] = 1 if flags & (VM_SEQ_READ | VM_RAND_READ) == 0 else 0
    result = VM_FAULT_RETRY
    tries = 0
    while result & VM_FAULT_RETRY:
        result = fault_handler_handle_mm_fault(m, mm, vma, vpn, access)
        tries += 1
        if tries > 64:
            result = VM_FAULT_OOM
    m.sc[SC_IN_LRU_FAULT] = 0
    if result & VM_FAULT_ERROR:
        if result & VM_FAULT_SIGBUS:
            return force_sig_fault(m, task, SIGBUS, BUS_ADRERR, address)
        if result & VM_FAULT_OOM:
            m.task[row + T_FLAGS] |= TF_KILLED
            return force_sig_fault(m, task, SIGKILL, 0, address)
        return force_sig_fault(m, task, SIGSEGV, SEGV_MAPERR, address)
    if result & VM_FAULT_MAJOR or m.vmstat[V_PGMAJFAULT] > before:
        m.task[row + T_MAJ_FLT] += 1
        return VM_FAULT_MAJOR
    m.task[row + T_MIN_FLT] += 1
    return 0


@kernel
def do_swap_page(m, mm, vma, vpn, entry, access):
    """Service swap_in: bring back what a swap entry names and map it. VM_FAULT_* bits.

    The slot is freed at once for a locked VMA, when swap is more than half full, or on a write that nobody shares; else the page stays cached.
    """
    slot = entry >> PTE_SHIFT
    if m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] < 0 and anon_vma_prepare(m, vma) < 0:
        return VM_FAULT_OOM
    pfn = swap_cache_get(m, slot)
    major = 0
    if pfn < 0:
        m.vmstat[V_PGMAJFAULT] += 1
        major = VM_FAULT_MAJOR
    else:
        m.sc[SC_NOW_NS] += m.cost[COST_SWAP_CACHE_HIT]
    pfn = swapin_readahead(m, slot, mm, vma, vpn)
    if pfn < 0:
        return VM_FAULT_OOM
    pte = walk_pte(m, mm, vpn)
    exclusive = entry & PTE_SWAP_EXCLUSIVE
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    m.mm[mm * MM_STRIDE + MM_SWAPENTS] -= 1
    swap_free(m, slot)
    others = np.int64(m.swap_map[slot]) if page_test(m, pfn, PG_SWAPCACHE) else 0
    set_page_mapping(m, pfn, m.vma[vma * VMA_STRIDE + VMA_ANON_VMA])
    set_page_index(m, pfn, linear_page_index(m, vma, vpn))
    page_set(m, pfn, PG_ANON)
    add_rmap(m, mm, pfn, 1)
    used = m.sc[SC_NR_SWAP_SLOTS] - 1 - m.sc[SC_NR_SWAP_FREE]
    if page_test(m, pfn, PG_SWAPCACHE) and (flags & VM_LOCKED or used * 2 > m.sc[SC_NR_SWAP_SLOTS] - 1 or (access == WRITE and others == 0)):
        if others == 0:
            delete_from_swap_cache(m, pfn, -1)
            page_set(m, pfn, PG_DIRTY)
    new = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED
    if exclusive or (others == 0 and page_mapcount(m, pfn) == 1):
        page_set(m, pfn, PG_ANON_EXCLUSIVE)
        if flags & VM_WRITE:
            new |= PTE_WRITE
            if access == WRITE:
                new |= PTE_DIRTY
    else:
        page_clear(m, pfn, PG_ANON_EXCLUSIVE)
    m.pt[pte] = new
    if access == WRITE and new & PTE_WRITE == 0:
        return major | VM_FAULT_RETRY
    return major
