"""Mapping and unmapping pages: anonymous folios, zapping, splitting a huge PMD, swap faults, and the entry from the CPU.

Models: mm/memory.c zap_pte_range(), do_swap_page(), mm_account_fault(); mm/huge_memory.c __split_huge_pmd(), zap_huge_pmd();
arch/x86/mm/fault.c do_user_addr_fault(). Left out: userfaultfd, hugetlb, protection keys but for that of what may only be executed.
"""


from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import folio_remove_rmap_pte, note_partially_mapped
from mmlab.kernels.likely import unlikely
from mmlab.kernels.memcg import count_memcg_event_mm
from mmlab.kernels.ops import fault_handler_handle_mm_fault, fault_handler_unshare, reclaimer_folio_removed, thp_place, vma_index_find
from mmlab.kernels.page_class import new_page_class
from mmlab.kernels.pte import add_rmap, note_rss, note_written, remove_rmap, walk_pmd, walk_pte
from mmlab.kernels.services import (
    alloc_pages, anon_vma_prepare, expand_stack, free_pages, mlock_faulted, munlock_folio, split_huge_pmd, vma_zonelist, zap_pte,
)
from mmlab.mm.huge_memory import free_large_folio, make_large_folio, zap_huge_pmd
from mmlab.mm.mlock import clear_page_mlock
from mmlab.mm.mempolicy import alloc_pages_mpol, get_vma_policy, vma_interleave_index
from mmlab.mm.page_alloc import do_alloc_pages
from mmlab.mm.page_counter import current_memcg, mem_cgroup_charge
from mmlab.mm.swap_slots import swap_device, swap_free
from mmlab.mm.swap_state import delete_from_swap_cache, folio_free_swap, folio_swapped, swap_cache_get, swapin_readahead
from mmlab.model.const import (
    ENOMEM, EXEC, HPAGE_PMD_ORDER, TASK_SIZE, VM_FAULT_ERROR, VM_FAULT_MAJOR, VM_FAULT_OOM, VM_FAULT_RETRY, VM_FAULT_SIGBUS, WRITE,
)
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.page import (
    KIND_ANON, NO_MAPPING, PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_HEAD, PG_MLOCKED, PG_SWAPBACKED, PG_SWAPCACHE, PG_TAIL, PG_UPTODATE,
    PG_WRITEBACK, add_refs, page_clear, page_counts, page_flags, page_folio, page_mapcount, page_order, page_refs, page_set, page_test,
    set_page_index, set_page_kind, set_page_mapping,
)
from mmlab.model.rows import (
    CLASS_ZERO, COST_FAULT, COST_HUGE_ZERO, COST_SWAP_CACHE_HIT, COST_ZAP_PTE, COST_ZERO_PAGE, MM_STRIDE, MM_SWAPENTS, MTHP_NR_ANON,
    MTHP_PLACES, MTHP_STRIDE, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_SWAP, PTE_SWAP_EXCLUSIVE,
    PTE_WRITE, SC_IN_LRU_FAULT, SC_MTHP_ORDERS, SC_NODE, SC_NOW_NS, SC_NR_NODES, SC_NR_SWAP_FREE, SC_NR_SWAP_SLOTS, SC_PGTABLE_LEVELS,
    SC_SHARED_TABLES, SC_WANTS_ACCESS, SC_ZAP_BATCH, SI_FIRST, SS_DIRECT, SUBPAGE_WRITTEN, SWAP_INFO_STRIDE, TASK_STRIDE, TF_KILLED,
    T_FLAGS, T_MAJ_FLT, T_MIN_FLT, T_MM, T_SIGNAL, T_SI_ADDR, T_SI_CODE, VMA_ANON_VMA, VMA_END, VMA_FLAGS, VMA_PGOFF, VMA_START,
    VMA_STRIDE, VM_EXEC, VM_GROWSDOWN, VM_LOCKED, VM_RAND_READ, VM_READ, VM_SEQ_READ, VM_WRITE, WANTS_SUBPAGES,
)
from mmlab.model.vmstat import V_PGFAULT, V_PGMAJFAULT

NO_BATCH, EMPTY_BATCH = 0, -1  # m.sc[SC_ZAP_BATCH]: no zap_range() runs; it has met no large folio; else the folio whose PTEs it removes
SIGSEGV, SIGBUS, SIGKILL = 11, 7, 9
SEGV_MAPERR, SEGV_ACCERR, SEGV_PKUERR, BUS_ADRERR, SI_KERNEL = 1, 2, 4, 2, 128
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


@leaf
def charge_anon(m, pfn, vma, vpn, order, gfp):
    """A fresh folio counts for the task's memory cgroup and becomes anonymous: pfn, or -ENOMEM with the folio freed."""
    if mem_cgroup_charge(m, pfn, current_memcg(m), gfp, 1 << order) < 0:
        free_pages(m, pfn, order)
        return -ENOMEM
    set_anon(m, pfn, vma, vpn)
    new_page_class(m, pfn, CLASS_ZERO)
    return pfn


@kernel
def vma_alloc_zeroed_movable_folio(m, mm, vma, vpn):
    """Service: a zeroed anonymous page for vpn; the zeroing takes its simulated time."""
    pfn = thp_place(m, mm, vma, vpn) if unlikely(m.sc[SC_MTHP_ORDERS] & MTHP_PLACES != 0) else -1
    if pfn < 0:
        pfn = do_alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0, vma_zonelist(m, vma, vpn, 0) if unlikely(m.sc[SC_NR_NODES] > 1) else m.sc[SC_NODE])
    if unlikely(pfn < 0) or charge_anon(m, pfn, vma, vpn, 0, GFP_HIGHUSER_MOVABLE) < 0:
        return -ENOMEM
    m.sc[SC_NOW_NS] += m.cost[COST_ZERO_PAGE]
    return pfn


@kernel
def memblock_zeroed_folio(m, mm, vma, vpn):
    """Service vma_alloc_zeroed_movable_folio while memblock serves alloc_pages."""
    pfn = alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0, -1)
    if pfn < 0 or charge_anon(m, pfn, vma, vpn, 0, GFP_HIGHUSER_MOVABLE) < 0:
        return -ENOMEM
    m.sc[SC_NOW_NS] += m.cost[COST_ZERO_PAGE]
    return pfn


@kernel
def alloc_anon_folio(m, mm, vma, vpn, order, gfp, pfn):
    """Service: a zeroed anonymous folio of 2^order pages (order > 0) for vpn, its first page; the zeroing takes its simulated time. pfn: a
    block for it, -1 for one by the VMA's policy."""
    if pfn < 0:
        if m.sc[SC_NR_NODES] > 1:
            pfn = alloc_pages_mpol(m, gfp, order, get_vma_policy(m, vma, vpn), vma_interleave_index(m, vma, vpn, order))
        else:
            pfn = alloc_pages(m, gfp, order, -1)
    if pfn < 0 or charge_anon(m, pfn, vma, vpn, order, gfp) < 0:
        return -ENOMEM
    # below 2 MiB, where pages are mapped one by one, each is exclusive by itself
    flags = PG_ANON | PG_SWAPBACKED | PG_UPTODATE | (PG_ANON_EXCLUSIVE if order < HPAGE_PMD_ORDER else 0)
    make_large_folio(m, pfn, order, flags, KIND_ANON)
    m.mthp[order * MTHP_STRIDE + MTHP_NR_ANON] += 1
    if m.sc[SC_WANTS_ACCESS] & WANTS_SUBPAGES:
        for page in range(pfn, pfn + (1 << order)):
            m.subpage[page] = 0
    m.sc[SC_NOW_NS] += m.cost[COST_HUGE_ZERO] >> (HPAGE_PMD_ORDER - order)
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
    if page_test(m, pfn, PG_MLOCKED):
        clear_page_mlock(m, pfn)
    if order:
        free_large_folio(m, pfn, order)
    set_page_mapping(m, pfn, NO_MAPPING)
    return free_pages(m, pfn, order)


@leaf
def put_mapped_page(m, pfn):
    """After an unmapping: free the folio that pfn heads if that was the last use; one in the swap cache with no other user goes too."""
    counts = page_counts(m, pfn)
    if counts == 0:
        free_folio(m, pfn)
    elif page_test(m, pfn, PG_SWAPCACHE) and page_mapcount(m, pfn) == 0 and page_refs(m, pfn) == 1:
        if folio_swapped(m, pfn) == 0 and page_test(m, pfn, PG_WRITEBACK) == 0:
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
            put_mapped_page(m, page_folio(m, cached))
        return 0
    if entry & PTE_SPECIAL:
        return 0
    pfn = entry >> PTE_SHIFT
    flags = page_flags(m, pfn)
    if entry & PTE_DIRTY and flags & PG_ANON == 0:
        page_set(m, page_folio(m, pfn), PG_DIRTY)
        note_written(m, page_folio(m, pfn), entry)
    if flags & (PG_HEAD | PG_TAIL):
        return zap_large_pte(m, mm, pfn)
    remove_rmap(m, mm, pfn)
    if flags & PG_MLOCKED and m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED:
        munlock_folio(m, pfn)
    put_mapped_page(m, pfn)
    return 0


@kernel
def zap_large_pte(m, mm, pfn):
    """Drop a PTE's mapping of a page of a large folio. Within zap_range() the folio is looked at (and freed) when its last PTE there is gone."""
    head = page_folio(m, pfn)
    batch = m.sc[SC_ZAP_BATCH]
    if batch != head:
        if batch > 0:
            end_zap_batch(m, batch)
        add_refs(m, head, 1)
    note_rss(m, mm)
    folio_remove_rmap_pte(m, mm, pfn)
    if batch == NO_BATCH:
        return end_zap_batch(m, head)
    m.sc[SC_ZAP_BATCH] = head
    return 0


@kernel
def end_zap_batch(m, head):
    """The run of PTEs of one folio that zap_range() removed has ended."""
    note_partially_mapped(m, head)
    add_refs(m, head, -1)
    put_mapped_page(m, head)
    return 0


@leaf
def swap_run(m, first, most):
    """__swap_entries_free(): how many entries from m.pt[first] on name slots in a row. They are freed at once, not by way of the CPU's cache
    of slots, if there are several, each the last reference to a slot without a cached page, within 512 aligned slots."""
    entry = m.pt[first]
    slot = entry >> PTE_SHIFT
    nr = 1
    while nr < most and m.pt[first + nr] == entry + (nr << PTE_SHIFT):
        nr += 1
    offset = slot - m.swap_info[swap_device(m, slot) * SWAP_INFO_STRIDE + SI_FIRST] + 1
    direct = 1 if nr > 1 and (offset & 511) + nr <= 512 else 0
    for i in range(nr):
        if m.swap_map[slot + i] != 1 or m.swap_cache[slot + i] & 1:
            direct = 0
    m.swap_slots[SS_DIRECT] = direct
    return nr


@kernel
def zap_range(m, mm, vma, start_vpn, end_vpn):
    """Unmap everything of the VMA in [start, end); tables stay. A huge PMD that is cut is split first."""
    if m.sc[SC_SHARED_TABLES]:
        fault_handler_unshare(m, mm, start_vpn, end_vpn, 1)
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
            split_huge_pmd(m, mm, pmd)
        if m.pt[pmd]:
            table = (m.pt[pmd] >> PTE_SHIFT) * 512
            m.sc[SC_ZAP_BATCH] = EMPTY_BATCH
            run = 0
            for at in range(vpn, stop):
                slot = table + (at & 511)
                if m.pt[slot]:
                    if run == 0 and m.pt[slot] & PTE_SWAP:
                        run = swap_run(m, slot, stop - at)
                    zap_pte(m, mm, vma, slot)
                    if run > 0:
                        run -= 1
                        if run == 0:
                            m.swap_slots[SS_DIRECT] = 0
            if m.sc[SC_ZAP_BATCH] > 0:
                end_zap_batch(m, m.sc[SC_ZAP_BATCH])
            m.sc[SC_ZAP_BATCH] = NO_BATCH
        vpn = stop
    return 0


@leaf
def force_sig_fault(m, task, signal, code, address):
    """The task gets a signal for what it did at address; -1."""
    row = task * TASK_STRIDE
    m.task[row + T_SIGNAL] = signal
    m.task[row + T_SI_CODE] = code
    m.task[row + T_SI_ADDR] = address
    return -1


@leaf
def do_user_addr_fault(m, task, vpn, access):
    """A fault of a task at a virtual page: 0 minor, VM_FAULT_MAJOR, or -1 with the signal in the task's row (SIGKILL: out of memory)."""
    row = task * TASK_STRIDE
    mm = m.task[row + T_MM]
    m.sc[SC_NOW_NS] += m.cost[COST_FAULT]
    m.vmstat[V_PGFAULT] += 1
    count_memcg_event_mm(m, V_PGFAULT)
    if unlikely(vpn < 0 or vpn >= 1 << 44):
        high = vpn & ((1 << 51) - 1)  # a kernel address; the sign bit is put back without a shift that overflows
        return force_sig_fault(m, task, SIGSEGV, SEGV_MAPERR, (high << 12) | (-1 << 63) if vpn & (1 << 51) else high << 12)
    address = vpn << 12
    if unlikely(address >= TASK_SIZE + 4096) and m.sc[SC_PGTABLE_LEVELS] == 4:
        return force_sig_fault(m, task, SIGSEGV, SI_KERNEL, 0)
    vma = vma_index_find(m, mm, address)
    if unlikely(vma < 0):
        return force_sig_fault(m, task, SIGSEGV, SEGV_MAPERR, address)
    if unlikely(m.vma[vma * VMA_STRIDE + VMA_START] > address):
        if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_GROWSDOWN == 0 or expand_stack(m, mm, vma, address) < 0:
            return force_sig_fault(m, task, SIGSEGV, SEGV_MAPERR, address)
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    allowed = flags & VM_ACCESS
    if access == WRITE:
        allowed = flags & VM_WRITE
    elif access == EXEC:
        allowed = flags & VM_EXEC
    if unlikely(flags & VM_ACCESS == VM_EXEC) and access != EXEC:  # a protection key keeps data accesses out
        return force_sig_fault(m, task, SIGSEGV, SEGV_PKUERR, address)
    if unlikely(allowed == 0):
        return force_sig_fault(m, task, SIGSEGV, SEGV_ACCERR, address)
    before = m.vmstat[V_PGMAJFAULT]
    m.sc[SC_IN_LRU_FAULT] = 1 if flags & (VM_SEQ_READ | VM_RAND_READ) == 0 else 0
    result = VM_FAULT_RETRY
    tries = 0
    while unlikely(result & VM_FAULT_RETRY):
        result = fault_handler_handle_mm_fault(m, mm, vma, vpn, access)
        tries += 1
        if tries > 64:
            result = VM_FAULT_OOM
    m.sc[SC_IN_LRU_FAULT] = 0
    if unlikely(result & VM_FAULT_ERROR):
        if result & VM_FAULT_SIGBUS:
            return force_sig_fault(m, task, SIGBUS, BUS_ADRERR, address)
        if result & VM_FAULT_OOM:
            m.task[row + T_FLAGS] |= TF_KILLED
            return force_sig_fault(m, task, SIGKILL, 0, address)
        return force_sig_fault(m, task, SIGSEGV, SEGV_MAPERR, address)
    if unlikely(flags & VM_LOCKED):
        mlock_faulted(m, mm, vma, vpn)
    if result & VM_FAULT_MAJOR or m.vmstat[V_PGMAJFAULT] > before:
        m.task[row + T_MAJ_FLT] += 1
        return VM_FAULT_MAJOR
    m.task[row + T_MIN_FLT] += 1
    return 0


@kernel
def do_swap_page(m, mm, vma, vpn, entry, access):
    """Service swap_in: bring back what a swap entry names and map it. VM_FAULT_* bits.

    The slot is freed at once for a locked VMA, when swap is more than half full, or on a write if nobody else maps the page; else the page stays cached.
    """
    slot = entry >> PTE_SHIFT
    if m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] < 0 and anon_vma_prepare(m, vma) < 0:
        return VM_FAULT_OOM
    pfn = swap_cache_get(m, slot)
    major = 0
    if pfn < 0:
        m.vmstat[V_PGMAJFAULT] += 1
        count_memcg_event_mm(m, V_PGMAJFAULT)
        major = VM_FAULT_MAJOR
    else:
        m.sc[SC_NOW_NS] += m.cost[COST_SWAP_CACHE_HIT]
    pfn = swapin_readahead(m, slot, mm, vma, vpn)
    if pfn < 0:
        return VM_FAULT_OOM
    head = page_folio(m, pfn)
    nr = 1
    first = vpn
    if head != pfn or page_test(m, pfn, PG_HEAD):
        if swap_pte_batch(m, mm, vma, vpn - (pfn - head), entry - ((pfn - head) << PTE_SHIFT), 1 << page_order(m, head)):
            nr = 1 << page_order(m, head)
            first = vpn - (pfn - head)
            slot -= pfn - head
            pfn = head
    pte = walk_pte(m, mm, first)
    exclusive = entry & PTE_SWAP_EXCLUSIVE
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    m.mm[mm * MM_STRIDE + MM_SWAPENTS] -= nr
    for i in range(nr):
        swap_free(m, slot + i)
    cached = page_test(m, head, PG_SWAPCACHE)
    if page_test(m, head, PG_ANON) == 0:  # one that never left the swap cache keeps the anon_vma that all its users share
        set_page_mapping(m, head, m.vma[vma * VMA_STRIDE + VMA_ANON_VMA])
        set_page_index(m, head, linear_page_index(m, vma, first))
        page_set(m, head, PG_ANON)
    for i in range(nr):
        add_rmap(m, mm, pfn + i)
    used = m.sc[SC_NR_SWAP_SLOTS] - 1 - m.sc[SC_NR_SWAP_FREE]
    alone = page_mapcount(m, head) == nr and page_refs(m, head) == 1  # but for the swap cache
    if cached and (flags & VM_LOCKED or used * 2 > m.sc[SC_NR_SWAP_SLOTS] - 1 or (access == WRITE and alone)):
        folio_free_swap(m, head)
    new = PTE_PRESENT | PTE_ACCESSED
    if exclusive or page_counts(m, head) == nr:  # these mappings and nothing else, not even the swap cache
        if flags & VM_WRITE:
            new |= PTE_WRITE
            if access == WRITE:
                new |= PTE_DIRTY
        exclusive = 1
    for i in range(nr):
        if m.sc[SC_WANTS_ACCESS] & WANTS_SUBPAGES:
            m.subpage[pfn + i] |= SUBPAGE_WRITTEN
        if exclusive:
            page_set(m, pfn + i, PG_ANON_EXCLUSIVE)
        else:
            page_clear(m, pfn + i, PG_ANON_EXCLUSIVE)
        m.pt[pte + i] = ((pfn + i) << PTE_SHIFT) | new
    if access == WRITE and new & PTE_WRITE == 0:
        return major | VM_FAULT_RETRY
    return major


@leaf
def swap_pte_batch(m, mm, vma, first, entry, nr):
    """1 if nr entries from page `first` on, all in the VMA and one table, name the slots from that of `entry` on, equally exclusive."""
    row = vma * VMA_STRIDE
    if first < m.vma[row + VMA_START] >> 12 or first + nr > m.vma[row + VMA_END] >> 12 or first >> 9 != (first + nr - 1) >> 9:
        return 0
    slot = walk_pte(m, mm, first)
    for i in range(nr):
        if slot < 0 or m.pt[slot + i] != entry + (i << PTE_SHIFT):
            return 0
    return 1
