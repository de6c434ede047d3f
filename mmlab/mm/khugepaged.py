"""Collapsing small pages into a huge one: khugepaged's scan of an address space, and MADV_COLLAPSE.

Models: mm/khugepaged.c hpage_collapse_scan_pmd(), collapse_huge_page(), khugepaged_scan_mm_slot(), khugepaged_enter_vma(), madvise_collapse().
When and how much khugepaged scans is the thp slot's business (its op step). Left out: files of a disk (as CONFIG_READ_ONLY_THP_FOR_FS=n),
pages on per-CPU lists of other CPUs (all are drained first).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import deferred_split_folio, entire_mapcount, folio_add_rmap_pmd, folio_likely_mapped_shared, nr_pages_mapped
from mmlab.kernels.ops import reclaimer_drain, reclaimer_folio_added, reclaimer_folio_removed, thp_fault_orders, vma_index_find
from mmlab.kernels.pte import remove_rmap, walk_pmd, walk_pte
from mmlab.kernels.services import alloc_anon_folio, folio_put, swap_in, zap_range
from mmlab.mm.buffer import invalidate_bh_lrus
from mmlab.mm.collapse_node import add_node_load, alloc_collapse_pages, reset_node_load
from mmlab.mm.huge_memory import khugepaged_enter_mm, make_anon_pmd_folio
from mmlab.mm.mlock import mlock_folio
from mmlab.mm.page_cache import filemap_get_page
from mmlab.mm.pgtable import free_table, pgtable_deposit
from mmlab.mm.shmem_huge import collapse_file, do_set_pmd, scan_file, shmem_huge_allowed, suitable
from mmlab.mm.swap import lru_lazyfree_drain
from mmlab.model.const import (
    EAGAIN, EINVAL, ENOMEM, HPAGE_PMD_NR, HPAGE_PMD_ORDER, READ, SCAN_ALLOC_HUGE_PAGE_FAIL, SCAN_EXCEED_NONE_PTE, SCAN_EXCEED_SHARED_PTE,
    SCAN_EXCEED_SWAP_PTE, SCAN_FAIL, SCAN_LACK_REFERENCED_PAGE, SCAN_PAGE_ANON, SCAN_PAGE_COUNT, SCAN_PAGE_RO, SCAN_PMD_MAPPED,
    SCAN_PMD_NONE, SCAN_PMD_NULL, SCAN_SCAN_ABORT, SCAN_SUCCEED, VM_FAULT_ERROR, VM_FAULT_RETRY, WRITE,
)
from mmlab.model.gfp import GFP_TRANSHUGE
from mmlab.model.page import (
    PG_ANON, PG_ANON_EXCLUSIVE, PG_HEAD, PG_MLOCKED, PG_REFERENCED, PG_SWAPCACHE, PG_TAIL, PG_WRITEBACK, PG_YOUNG, add_refs, page_folio,
    page_mapcount, page_mapping, page_memcg, page_refs, page_test, set_page_counts,
)
from mmlab.model.rows import (
    COST_COPY_PAGE, COST_SPLIT_THP, IF_SHMEM, INODE_STRIDE, I_FLAGS, MM_KHUGEPAGED, MM_STRIDE, MM_USERS, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE,
    PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, PTE_SWAP, PTE_WRITE, SC_KHUGEPAGED_ADDRESS, SC_KHUGEPAGED_COLLAPSED,
    SC_KHUGEPAGED_FULL_SCANS, SC_KHUGEPAGED_MM, SC_KHUGEPAGED_READY, SC_NOW_NS, SC_NR_CPUS, SC_NR_TASKS, SC_WANTS_ACCESS, VMA_ANON_VMA,
    VMA_END, VMA_FLAGS, VMA_INODE, VMA_PGOFF, VMA_START, VMA_STRIDE, VM_LOCKED, VM_NOHUGEPAGE, VM_SHARED, VM_SPECIAL, VM_WRITE,
    WANTS_SUBPAGES,
)
from mmlab.model.vmstat import (
    V_THP_COLLAPSE_ALLOC, V_THP_COLLAPSE_ALLOC_FAILED, V_THP_SCAN_EXCEED_NONE_PTE, V_THP_SCAN_EXCEED_SHARE_PTE, V_THP_SCAN_EXCEED_SWAP_PTE,
)

NO_LIMIT = 1 << 20  # of max_ptes_*: MADV_COLLAPSE knows none


@leaf
def _next_mm(m, after):
    """The living address space registered next after the sequence number, or -1."""
    best = -1
    for mm in range(m.sc[SC_NR_TASKS]):
        number = m.mm[mm * MM_STRIDE + MM_KHUGEPAGED]
        if number > after and m.mm[mm * MM_STRIDE + MM_USERS] and (best < 0 or number < m.mm[best * MM_STRIDE + MM_KHUGEPAGED]):
            best = mm
    return best


@kernel
def drain_all(m):
    """lru_add_drain_all(), which makes CPUs let go of the blocks they looked up as well."""
    for cpu in range(m.sc[SC_NR_CPUS]):
        lru_lazyfree_drain(m, cpu)
        reclaimer_drain(m, cpu)
    invalidate_bh_lrus(m)
    return 0


@leaf
def _first_eligible(m, vma):
    """First page of the first aligned 2 MiB inside an anonymous VMA that has an anon_vma, or -1."""
    row = vma * VMA_STRIDE
    if m.vma[row + VMA_INODE] >= 0 or m.vma[row + VMA_ANON_VMA] < 0 or m.vma[row + VMA_FLAGS] & (VM_NOHUGEPAGE | VM_SPECIAL | VM_SHARED):
        return -1
    first = (m.vma[row + VMA_START] + (1 << 21) - 1) >> 21 << 9
    return first if first + HPAGE_PMD_NR <= m.vma[row + VMA_END] >> 12 else -1


@leaf
def _first_eligible_shmem(m, vma, force):
    """The same for a VMA over a swap-backed file that may be huge, aligned in the file as well."""
    row = vma * VMA_STRIDE
    inode = m.vma[row + VMA_INODE]
    if m.inode[inode * INODE_STRIDE + I_FLAGS] & IF_SHMEM == 0 or m.vma[row + VMA_FLAGS] & VM_SPECIAL:
        return -1
    first = (m.vma[row + VMA_START] + (1 << 21) - 1) >> 21 << 9
    if shmem_huge_allowed(m, inode, m.vma[row + VMA_PGOFF], m.vma[row + VMA_FLAGS], 0, force) == 0 or suitable(m, vma, first) == 0:
        return -1
    return first


@kernel
def khugepaged_enter_vma(m, mm, vma):
    """Register the VMA's address space if the thp policy would make it huge somewhere."""
    if m.vma[vma * VMA_STRIDE + VMA_INODE] >= 0:
        if _first_eligible_shmem(m, vma, 0) >= 0:
            khugepaged_enter_mm(m, mm)
        return 0
    first = _first_eligible(m, vma)
    if first >= 0 and thp_fault_orders(m, mm, vma, first, WRITE) & (1 << HPAGE_PMD_ORDER):
        khugepaged_enter_mm(m, mm)
    return 0


@kernel
def collapse_scan_ptes(m, mm, first, max_ptes_none, max_ptes_swap, max_ptes_shared, by_khugepaged):
    """May the 512 PTEs from page `first` on become one huge page: SCAN_SUCCEED, or why not."""
    pmd = walk_pmd(m, mm, first)
    if pmd < 0:
        return SCAN_PMD_NULL
    if m.pt[pmd] == 0:
        return SCAN_PMD_NONE
    if m.pt[pmd] & PTE_HUGE:
        return SCAN_PMD_MAPPED
    table = (m.pt[pmd] >> PTE_SHIFT) * 512
    none = swapped = shared = writable = referenced = 0
    reset_node_load(m)
    for slot in range(table, table + 512):
        entry = m.pt[slot]
        if entry & PTE_SWAP:
            swapped += 1
            if swapped > max_ptes_swap:
                m.vmstat[V_THP_SCAN_EXCEED_SWAP_PTE] += 1
                return SCAN_EXCEED_SWAP_PTE
            continue
        if entry == 0 or entry & PTE_SPECIAL:
            none += 1
            if none > max_ptes_none:
                m.vmstat[V_THP_SCAN_EXCEED_NONE_PTE] += 1
                return SCAN_EXCEED_NONE_PTE
            continue
        if entry & PTE_WRITE:
            writable = 1
        head = page_folio(m, entry >> PTE_SHIFT)
        if page_test(m, head, PG_ANON) == 0 or entry & PTE_PROTNONE:
            return SCAN_PAGE_ANON
        if folio_likely_mapped_shared(m, head):
            shared += 1
            if shared > max_ptes_shared:
                m.vmstat[V_THP_SCAN_EXCEED_SHARE_PTE] += 1
                return SCAN_EXCEED_SHARED_PTE
        if add_node_load(m, head) == 0:
            return SCAN_SCAN_ABORT
        if page_refs(m, head) > (1 if page_test(m, head, PG_SWAPCACHE) else 0):
            return SCAN_PAGE_COUNT
        if entry & PTE_ACCESSED or page_test(m, head, PG_REFERENCED | PG_YOUNG):
            referenced += 1
    if writable == 0:
        return SCAN_PAGE_RO
    if by_khugepaged and (referenced == 0 or (swapped and referenced < HPAGE_PMD_NR // 2)):
        return SCAN_LACK_REFERENCED_PAGE
    return SCAN_SUCCEED


@kernel
def collapse_huge_page(m, mm, vma, first, gfp):
    """Copy what the 512 PTEs from page `first` on map into one huge page, zeroes where nothing is: SCAN_SUCCEED, or why it failed."""
    folio = alloc_collapse_pages(m, gfp)
    if folio < 0 or alloc_anon_folio(m, mm, vma, first, HPAGE_PMD_ORDER, gfp, folio) < 0:
        m.vmstat[V_THP_COLLAPSE_ALLOC_FAILED] += 1
        return SCAN_ALLOC_HUGE_PAGE_FAIL
    m.vmstat[V_THP_COLLAPSE_ALLOC] += 1
    add_refs(m, folio, 1)
    for vpn in range(first, first + HPAGE_PMD_NR):
        slot = walk_pte(m, mm, vpn)
        tries = 0
        while slot >= 0 and m.pt[slot] & PTE_SWAP:
            result = swap_in(m, mm, vma, vpn, m.pt[slot], READ)
            tries += 1
            if result & VM_FAULT_ERROR or (result & VM_FAULT_RETRY and tries > 64):
                folio_put(m, folio)
                return SCAN_FAIL
    pmd = walk_pmd(m, mm, first)
    table = m.pt[pmd] >> PTE_SHIFT
    if m.sc[SC_WANTS_ACCESS] & WANTS_SUBPAGES:
        for i in range(HPAGE_PMD_NR):
            entry = m.pt[table * 512 + i]
            if entry & PTE_PRESENT and entry & PTE_SPECIAL == 0:
                m.subpage[folio + i] = m.subpage[entry >> PTE_SHIFT]
    for i in range(HPAGE_PMD_NR):  # they are unmapped one by one, a large folio in part at first
        entry = m.pt[table * 512 + i]
        if entry & PTE_PRESENT and entry & PTE_SPECIAL == 0 and page_test(m, entry >> PTE_SHIFT, PG_HEAD | PG_TAIL):
            head = page_folio(m, entry >> PTE_SHIFT)
            if entire_mapcount(m, head) == 0 and nr_pages_mapped(m, head) > 1:
                deferred_split_folio(m, head, 1)
    zap_range(m, mm, vma, first, first + HPAGE_PMD_NR)
    m.sc[SC_NOW_NS] += HPAGE_PMD_NR * m.cost[COST_COPY_PAGE]
    pgtable_deposit(m, pmd >> 9, table)
    folio_add_rmap_pmd(m, mm, folio)
    add_refs(m, folio, -1)
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    m.pt[pmd] = (folio << PTE_SHIFT) | PTE_PRESENT | PTE_HUGE | PTE_ACCESSED | PTE_DIRTY | (PTE_WRITE if flags & VM_WRITE else 0)
    reclaimer_folio_added(m, folio)
    deferred_split_folio(m, folio, 0)
    if flags & VM_LOCKED:
        mlock_folio(m, folio)
    return SCAN_SUCCEED


@kernel
def collapse_pmd(m, mm, vma, first, max_ptes_none, max_ptes_swap, max_ptes_shared, by_khugepaged, gfp):
    """Scan the 512 PTEs from page `first` on and collapse them if they may be: SCAN_*."""
    result = collapse_scan_ptes(m, mm, first, max_ptes_none, max_ptes_swap, max_ptes_shared, by_khugepaged)
    if result == SCAN_SUCCEED:
        return collapse_huge_page(m, mm, vma, first, gfp)
    return result


@kernel
def collapse_range(m, mm, vpn, max_ptes_none, gfp):
    """Service: one range, wherever khugepaged's own scan is."""
    first = vpn >> HPAGE_PMD_ORDER << HPAGE_PMD_ORDER
    vma = vma_index_find(m, mm, first << 12)
    if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] > first << 12 or m.vma[vma * VMA_STRIDE + VMA_END] < (first + HPAGE_PMD_NR) << 12:
        return SCAN_FAIL
    if _first_eligible(m, vma) < 0:
        return SCAN_FAIL
    return collapse_pmd(m, mm, vma, first, max_ptes_none, HPAGE_PMD_NR // 8, HPAGE_PMD_NR // 2, 0, gfp)


@kernel
def do_collapse_in_place(m, mm, vpn):
    """Service collapse_in_place. Pages in the swap cache, locked, shared or held stay as they are."""
    first = vpn >> HPAGE_PMD_ORDER << HPAGE_PMD_ORDER
    vma = vma_index_find(m, mm, first << 12)
    pmd = walk_pmd(m, mm, first)
    if vma < 0 or pmd < 0 or m.pt[pmd] == 0 or m.pt[pmd] & PTE_HUGE:
        return 0
    row = vma * VMA_STRIDE
    if m.vma[row + VMA_START] > first << 12 or m.vma[row + VMA_END] < (first + HPAGE_PMD_NR) << 12 or _first_eligible(m, vma) < 0:
        return 0
    table = m.pt[pmd] >> PTE_SHIFT
    head = m.pt[table * 512] >> PTE_SHIFT
    same = PTE_PRESENT | PTE_WRITE | PTE_SWAP | PTE_SPECIAL | PTE_PROTNONE
    bits = m.pt[table * 512] & same
    if bits & ~PTE_WRITE != PTE_PRESENT or head & (HPAGE_PMD_NR - 1) or m.vma[row + VMA_FLAGS] & VM_LOCKED:
        return 0
    unwanted = PG_HEAD | PG_TAIL | PG_SWAPCACHE | PG_WRITEBACK | PG_MLOCKED
    for i in range(HPAGE_PMD_NR):
        pfn = head + i
        if m.pt[table * 512 + i] & same != bits or m.pt[table * 512 + i] >> PTE_SHIFT != pfn:
            return 0
        if page_test(m, pfn, PG_ANON) == 0 or page_test(m, pfn, unwanted) or page_test(m, pfn, PG_ANON_EXCLUSIVE) == 0:
            return 0
        if page_mapcount(m, pfn) != 1 or page_refs(m, pfn) or page_memcg(m, pfn) != page_memcg(m, head) or page_mapping(m, pfn) != page_mapping(m, head):
            return 0
    drain_all(m)
    seen = 0
    for i in range(HPAGE_PMD_NR):
        seen |= m.pt[table * 512 + i] & (PTE_ACCESSED | PTE_DIRTY)
        m.pt[table * 512 + i] = 0
        reclaimer_folio_removed(m, head + i)
        remove_rmap(m, mm, head + i)
        set_page_counts(m, head + i, 0, 0)
    m.sc[SC_NOW_NS] += m.cost[COST_SPLIT_THP]
    make_anon_pmd_folio(m, head)
    pgtable_deposit(m, pmd >> 9, table)
    folio_add_rmap_pmd(m, mm, head)
    m.pt[pmd] = (head << PTE_SHIFT) | PTE_HUGE | bits | seen
    reclaimer_folio_added(m, head)
    deferred_split_folio(m, head, 0)
    return 1


@kernel
def khugepaged_scan_mm_slot(m, pages, max_ptes_none, max_ptes_swap, max_ptes_shared, gfp):
    """Service: go on with the current address space until one range may be collapsed or `pages` of progress are made.

    Returns the progress (512 a range, 1 an address space visited or VMA skipped), | SCAN_* of the last range << 32. A range that may be
    collapsed (m.sc[SC_KHUGEPAGED_READY]) is, if it still may, by the next call, which ends with it; the time of the work is the caller's.
    """
    ready = m.sc[SC_KHUGEPAGED_READY]
    m.sc[SC_KHUGEPAGED_READY] = 0
    at = m.sc[SC_KHUGEPAGED_ADDRESS]
    mm = m.sc[SC_KHUGEPAGED_MM]
    if mm < 0 or m.mm[mm * MM_STRIDE + MM_USERS] == 0:
        mm = _next_mm(m, 0 if mm < 0 else m.mm[mm * MM_STRIDE + MM_KHUGEPAGED])
        if mm < 0:
            m.sc[SC_KHUGEPAGED_MM] = -1
            return pages
        m.sc[SC_KHUGEPAGED_MM] = mm
        m.sc[SC_KHUGEPAGED_ADDRESS] = 0
        ready = 0
    progress = 0 if ready else 1
    result = SCAN_FAIL
    address = m.sc[SC_KHUGEPAGED_ADDRESS]
    vma = vma_index_find(m, mm, address)
    while vma >= 0:
        row = vma * VMA_STRIDE
        shared = m.vma[row + VMA_INODE] >= 0
        first = _first_eligible_shmem(m, vma, 0) if shared else _first_eligible(m, vma)
        end = m.vma[row + VMA_END] >> 21 << 21
        if first >= 0 and shared == 0 and thp_fault_orders(m, mm, vma, first, WRITE) & (1 << HPAGE_PMD_ORDER) == 0:
            first = -1
        if first < 0 or address > end:
            progress += 1
            vma = vma_index_find(m, mm, m.vma[row + VMA_END])
            continue
        address = max(address, first << 12)
        while address < end:
            collapses = ready and address == at
            if shared:
                result = collapse_shmem_range(m, mm, vma, address >> 12, max_ptes_none, max_ptes_swap, gfp, 0 if collapses else -1)
            elif collapses:
                result = collapse_pmd(m, mm, vma, address >> 12, max_ptes_none, max_ptes_swap, max_ptes_shared, 1, gfp)
            else:
                result = collapse_scan_ptes(m, mm, address >> 12, max_ptes_none, max_ptes_swap, max_ptes_shared, 1)
            if result == SCAN_SUCCEED and not collapses:
                m.sc[SC_KHUGEPAGED_ADDRESS] = address
                m.sc[SC_KHUGEPAGED_READY] = 1
                return progress | (result << 32)
            released = shared or collapses
            if result == SCAN_SUCCEED:
                m.sc[SC_KHUGEPAGED_COLLAPSED] += 1
            address += HPAGE_PMD_NR << 12
            m.sc[SC_KHUGEPAGED_ADDRESS] = address
            progress += HPAGE_PMD_NR
            if released or progress >= pages:
                return progress | (result << 32)
        vma = vma_index_find(m, mm, m.vma[row + VMA_END])
    # all of it was looked at
    following = _next_mm(m, m.mm[mm * MM_STRIDE + MM_KHUGEPAGED])
    m.sc[SC_KHUGEPAGED_MM] = following
    m.sc[SC_KHUGEPAGED_ADDRESS] = 0
    if following < 0:
        m.sc[SC_KHUGEPAGED_FULL_SCANS] += 1
    return progress | (result << 32)


@kernel
def collapse_shmem_range(m, mm, vma, vpn, max_ptes_none, max_ptes_swap, gfp, map_it):
    """hpage_collapse_scan_file() and what follows for the 2 MiB at vpn of a VMA over a swap-backed file. map_it: 1 MADV_COLLAPSE maps it too,
    -1 only the scan."""
    row = vma * VMA_STRIDE
    pmd = walk_pmd(m, mm, vpn)
    if pmd >= 0 and m.pt[pmd] & PTE_HUGE:
        return SCAN_PMD_MAPPED
    inode = m.vma[row + VMA_INODE]
    first = vpn - (m.vma[row + VMA_START] >> 12) + m.vma[row + VMA_PGOFF]
    result = scan_file(m, inode, first, max_ptes_none, max_ptes_swap)
    if result == SCAN_SUCCEED and map_it >= 0:
        result = collapse_file(m, inode, first, gfp)
    if map_it > 0 and result in (SCAN_SUCCEED, SCAN_PMD_MAPPED):
        pmd = walk_pmd(m, mm, vpn)
        if pmd >= 0 and m.pt[pmd]:
            zap_range(m, mm, vma, vpn, vpn + HPAGE_PMD_NR)
            free_table(m, mm, m.pt[pmd] >> PTE_SHIFT, 1)
            m.pt[pmd] = 0
        return SCAN_SUCCEED if do_set_pmd(m, mm, vma, vpn, filemap_get_page(m, inode, first), READ) == 0 else SCAN_FAIL
    return result


@leaf
def _collapse_errno(result):
    if result == SCAN_ALLOC_HUGE_PAGE_FAIL:
        return -ENOMEM
    return -EAGAIN if result == SCAN_PAGE_COUNT else -EINVAL


@kernel
def madvise_collapse(m, mm, vma, start, end):
    """MADV_COLLAPSE of [start, end) within one VMA: 0 if every whole 2 MiB range of it is huge now, else what the last failure stands for."""
    shared = m.vma[vma * VMA_STRIDE + VMA_INODE] >= 0
    if (_first_eligible_shmem(m, vma, 1) if shared else _first_eligible(m, vma)) < 0:
        return -EINVAL
    drain_all(m)
    done = 0
    failure = SCAN_FAIL
    address = (start + (1 << 21) - 1) >> 21 << 21
    while address < end >> 21 << 21:
        if shared:
            result = collapse_shmem_range(m, mm, vma, address >> 12, NO_LIMIT, NO_LIMIT, GFP_TRANSHUGE, 1)
        else:
            result = collapse_pmd(m, mm, vma, address >> 12, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0, GFP_TRANSHUGE)
        if result == SCAN_SUCCEED or result == SCAN_PMD_MAPPED:
            done += 1
        else:
            failure = result
            if result not in (SCAN_PMD_NULL, SCAN_PAGE_RO, SCAN_PAGE_COUNT):
                break
        address += HPAGE_PMD_NR << 12
    # ranges behind a failure that ends the walk count as not done
    wanted = max(0, (end >> 21) - ((start + (1 << 21) - 1) >> 21))
    return 0 if done == wanted else _collapse_errno(failure)
