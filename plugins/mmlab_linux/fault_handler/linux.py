"""Linux demand paging: zero page, anonymous pages, copy-on-write, swap-in, file maps with fault-around.

Models: mm/memory.c __handle_mm_fault(), do_anonymous_page(), do_read_fault(), do_cow_fault(), do_shared_fault(), do_wp_page(),
wp_can_reuse_anon_folio(), do_fault_around(), copy_page_range(). Left out: NUMA hinting faults of huge pages, userfaultfd.
Cost: O(1) a fault, O(window) with fault-around, O(pages) for fork.
"""

from mmlab.kernels.dirty import folio_mark_dirty
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.pte import add_rmap, folio_add_new_anon_rmap, pte_offset, remove_rmap, swap_duplicate, walk_pmd, walk_pte
from mmlab.kernels.services import (
    anon_vma_prepare, copy_huge_pmd, do_anonymous_folio, do_huge_pmd_anonymous_page, do_huge_pmd_shmem_fault, do_huge_pmd_wp_page,
    do_numa_page, filemap_fault, filemap_get_page, folio_add_lru, folio_free_swap, folio_put, munlock_folio, pte_alloc, swap_in,
    vma_alloc_zeroed_movable_folio,
)
from mmlab.model.const import ENOMEM, VM_FAULT_OOM, VM_FAULT_SIGBUS, WRITE
from mmlab.model.page import (
    PG_ANON, PG_ANON_EXCLUSIVE, PG_HEAD, PG_READAHEAD, PG_SWAPBACKED, PG_SWAPCACHE, PG_TAIL, PG_UPTODATE, add_refs, page_clear, page_folio,
    page_mapcount, page_order, page_refs, page_set, page_test,
)
from mmlab.model.rows import (
    COST_COPY_PAGE, COST_FORK_PTE, COST_ZERO_PAGE, F_MMAP_MISS, FILE_STRIDE, I_FLAGS, IF_ANON_SHMEM, INODE_STRIDE, MM_STRIDE, MM_SWAPENTS,
    PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, PTE_SWAP, PTE_SWAP_EXCLUSIVE, PTE_WRITE,
    SC_FAULT_AROUND, SC_MTHP_ORDERS, SC_NOW_NS, SC_ZERO_PFN, VM_LOCKED, VM_PFNMAP, VM_SHARED, VM_WIPEONFORK, VM_WRITE, VMA_ANON_VMA,
    VMA_END, VMA_FILE, VMA_FLAGS, VMA_INODE, VMA_PGOFF, VMA_START, VMA_STRIDE, SC_WANTS_ACCESS, WANTS_SUBPAGES, SUBPAGE_WRITTEN,
)
from mmlab.policies import FaultHandler


@leaf
def map_new_anon(m, mm, vma, vpn, slot, pfn, flags):
    """A fresh anonymous page goes into an empty entry, writable where the VMA is."""
    folio_add_new_anon_rmap(m, mm, pfn)
    folio_add_lru(m, pfn)
    m.pt[slot] = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | (PTE_WRITE if flags & VM_WRITE else 0)


@leaf
def do_anonymous_page(m, mm, vma, vpn, slot, access, flags):
    """First touch of anonymous memory: the zero page for a read, a zeroed page for a write. slot: the empty entry, -1 without a table."""
    if unlikely(slot < 0):
        slot = pte_alloc(m, mm, vpn)
        if slot < 0:
            return VM_FAULT_OOM
    if access != WRITE:
        m.pt[slot] = (m.sc[SC_ZERO_PFN] << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED | PTE_SPECIAL
        return 0
    if unlikely(m.sc[SC_MTHP_ORDERS]):
        result = do_anonymous_folio(m, mm, vma, vpn)
        if result >= 0:
            return result
    if unlikely(m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] < 0) and anon_vma_prepare(m, vma) < 0:
        return VM_FAULT_OOM
    pfn = vma_alloc_zeroed_movable_folio(m, mm, vma, vpn)
    if unlikely(pfn < 0):
        return VM_FAULT_OOM
    map_new_anon(m, mm, vma, vpn, slot, pfn, flags)
    return 0


@leaf
def _reuse(m, slot, entry):
    m.pt[slot] = entry | PTE_WRITE | PTE_DIRTY | PTE_ACCESSED
    return 0


@leaf
def note_copied(m, pfn, old):
    """A page that was copied holds more than zeroes, whether or not it is written now; as much as the old one does."""
    m.page_class[pfn] = m.page_class[page_folio(m, old)]
    if unlikely(m.sc[SC_WANTS_ACCESS] & WANTS_SUBPAGES):
        m.subpage[pfn] |= SUBPAGE_WRITTEN


@kernel
def wp_page_copy(m, mm, vma, vpn, slot, entry):
    """Give the writer a page of its own: zeroed after the zero page, else a copy; the old page loses this mapping."""
    if m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] < 0 and anon_vma_prepare(m, vma) < 0:
        return VM_FAULT_OOM
    old = -1 if entry & PTE_SPECIAL else entry >> PTE_SHIFT
    if old >= 0:
        add_refs(m, page_folio(m, old), 1)  # reclaim within the allocation must not take it
    pfn = vma_alloc_zeroed_movable_folio(m, mm, vma, vpn)
    if pfn < 0:
        if old >= 0:
            folio_put(m, page_folio(m, old))
        return VM_FAULT_OOM
    if old >= 0:
        m.sc[SC_NOW_NS] += m.cost[COST_COPY_PAGE] - m.cost[COST_ZERO_PAGE]
        note_copied(m, pfn, old)
        if m.pt[slot] & PTE_PRESENT:
            m.pt[slot] = 0
            remove_rmap(m, mm, old)
            if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED:
                munlock_folio(m, page_folio(m, old))
        folio_put(m, page_folio(m, old))
    map_new_anon(m, mm, vma, vpn, slot, pfn, m.vma[vma * VMA_STRIDE + VMA_FLAGS])
    return 0


@kernel
def do_wp_page(m, mm, vma, vpn, slot, entry, flags):
    """A write to a present, write-protected entry: reuse the page if nobody else has it, else copy; shared maps just become writable."""
    if entry & PTE_SPECIAL:
        return wp_page_copy(m, mm, vma, vpn, slot, entry)
    pfn = entry >> PTE_SHIFT
    if flags & VM_SHARED:
        folio_mark_dirty(m, page_folio(m, pfn))
        return _reuse(m, slot, entry)
    if page_test(m, pfn, PG_ANON):
        if page_test(m, pfn, PG_ANON_EXCLUSIVE):
            return _reuse(m, slot, entry)
        if page_test(m, pfn, PG_HEAD | PG_TAIL) == 0 and page_mapcount(m, pfn) == 1:
            refs = page_refs(m, pfn)
            if refs == 0 or (refs == 1 and page_test(m, pfn, PG_SWAPCACHE) and folio_free_swap(m, pfn)):
                page_set(m, pfn, PG_ANON_EXCLUSIVE)
                return _reuse(m, slot, entry)
    return wp_page_copy(m, mm, vma, vpn, slot, entry)


@leaf
def _map_file_page(m, mm, pfn, slot, flags, access):
    """A page-cache page goes into an empty entry. Writable at once for a shared write, or where writes are not tracked (tmpfs)."""
    add_rmap(m, mm, pfn)
    entry = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED
    if flags & VM_SHARED and flags & VM_WRITE:
        if access == WRITE:
            folio_mark_dirty(m, page_folio(m, pfn))
            entry |= PTE_WRITE | PTE_DIRTY
        elif page_test(m, pfn, PG_SWAPBACKED):
            entry |= PTE_WRITE
    m.pt[slot] = entry


@leaf
def _map_whole_folio(m, mm, vma, vpn, pfn, slot, flags, access):
    """1 if all of a large folio of shared anonymous memory could be mapped by PTEs: within the VMA and the table, over empty entries."""
    row = vma * VMA_STRIDE
    head = page_folio(m, pfn)
    nr = 1 << page_order(m, head)
    first = vpn - (pfn - head)
    if m.inode[m.vma[row + VMA_INODE] * INODE_STRIDE + I_FLAGS] & IF_ANON_SHMEM == 0 or (vpn & 511) - (pfn - head) < 0:
        return 0
    if first < m.vma[row + VMA_START] >> 12 or first + nr > m.vma[row + VMA_END] >> 12 or first >> 9 != (first + nr - 1) >> 9:
        return 0
    base = slot - (pfn - head)
    for i in range(nr):
        if m.pt[base + i]:
            return 0
    for i in range(nr):
        _map_file_page(m, mm, head + i, base + i, flags, access)
    return 1


@kernel
def do_fault_around(m, mm, vma, vpn, flags):
    """Map the cached pages of the window around vpn; 1 if vpn itself is mapped now. The table exists."""
    window = m.sc[SC_FAULT_AROUND]
    row = vma * VMA_STRIDE
    first = max(vpn // window * window, m.vma[row + VMA_START] >> 12, vpn >> 9 << 9)
    last = min(first + window, m.vma[row + VMA_END] >> 12, ((vpn >> 9) + 1) << 9)
    base = walk_pte(m, mm, vpn) - (vpn & 511)
    misses = m.vma[row + VMA_FILE] * FILE_STRIDE + F_MMAP_MISS
    for at in range(first, last):
        slot = base + (at & 511)
        index = at - (m.vma[row + VMA_START] >> 12) + m.vma[row + VMA_PGOFF]
        pfn = filemap_get_page(m, m.vma[row + VMA_INODE], index)
        if pfn >= 0 and page_test(m, pfn, PG_UPTODATE) and page_test(m, pfn, PG_READAHEAD) == 0:
            m.file[misses] = max(0, m.file[misses] - 1)  # what is found in the cache speaks for reading around
            if m.pt[slot] == 0:
                _map_file_page(m, mm, pfn, slot, flags, 0)
    return 1 if m.pt[base + (vpn & 511)] else 0


@kernel
def do_fault(m, mm, vma, vpn, access, flags):
    """First touch of a file map: read (with fault-around), private write (a copy), or shared write."""
    slot = pte_alloc(m, mm, vpn)
    if slot < 0:
        return VM_FAULT_OOM
    if unlikely(flags & VM_PFNMAP):  # [vvar]: its first page exists; those of paravirtual clocks and time namespaces do not
        if vpn != m.vma[vma * VMA_STRIDE + VMA_START] >> 12:
            return VM_FAULT_SIGBUS
        m.pt[slot] = (m.sc[SC_ZERO_PFN] << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED | PTE_SPECIAL
        return 0
    private_write = access == WRITE and flags & VM_SHARED == 0
    around = access != WRITE and m.sc[SC_FAULT_AROUND] > 1
    if around and do_fault_around(m, mm, vma, vpn, flags):
        return 0
    found = filemap_fault(m, mm, vma, vpn, access)
    if found < 0:
        return VM_FAULT_SIGBUS if -found & VM_FAULT_SIGBUS else VM_FAULT_OOM
    major = found >> 40
    pfn = found & ((1 << 40) - 1)
    if private_write:
        entry = (pfn << PTE_SHIFT) | PTE_PRESENT
        add_refs(m, pfn, 1)
        if m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] < 0 and anon_vma_prepare(m, vma) < 0:
            folio_put(m, pfn)
            return VM_FAULT_OOM
        copy = vma_alloc_zeroed_movable_folio(m, mm, vma, vpn)
        folio_put(m, entry >> PTE_SHIFT)
        if copy < 0:
            return VM_FAULT_OOM
        m.sc[SC_NOW_NS] += m.cost[COST_COPY_PAGE] - m.cost[COST_ZERO_PAGE]
        note_copied(m, copy, entry >> PTE_SHIFT)
        map_new_anon(m, mm, vma, vpn, slot, copy, flags)
        return major
    if around and (major or page_test(m, pfn, PG_SWAPBACKED) == 0) and do_fault_around(m, mm, vma, vpn, flags):
        return major  # it dropped its locks to read this page or, at a mark, what follows, and started again
    if page_test(m, pfn, PG_HEAD | PG_TAIL) and _map_whole_folio(m, mm, vma, vpn, pfn, slot, flags, access):
        return major
    _map_file_page(m, mm, pfn, slot, flags, access)
    return major


@kernel
def handle_mm_fault(m, st, mm, vma, vpn, access):
    """The order of __handle_mm_fault(): an empty PMD may take a huge page; else by the entry found."""
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    anonymous = m.vma[vma * VMA_STRIDE + VMA_INODE] < 0
    pmd = walk_pmd(m, mm, vpn)
    entry = m.pt[pmd] if pmd >= 0 else 0
    if unlikely(entry == 0):
        result = do_huge_pmd_anonymous_page(m, mm, vma, vpn, access) if anonymous else do_huge_pmd_shmem_fault(m, mm, vma, vpn, access)
        if result >= 0:
            return result
    elif entry & PTE_HUGE:
        if entry & PTE_PROTNONE:
            do_numa_page(m, mm, vma, vpn, pmd, access)
            entry = m.pt[pmd]
        if access != WRITE or entry & PTE_WRITE:
            m.pt[pmd] = entry | PTE_ACCESSED | (PTE_DIRTY if access == WRITE else 0)
            return 0
        if do_huge_pmd_wp_page(m, mm, pmd) == 0:
            return 0
        entry = m.pt[pmd]
    slot = -1
    if entry:  # a split leaves a table, but for shared memory
        slot = pte_offset(m, pmd, vpn)
        entry = m.pt[slot]
    if entry == 0:
        if anonymous:
            return do_anonymous_page(m, mm, vma, vpn, slot, access, flags)
        return do_fault(m, mm, vma, vpn, access, flags)
    if entry & PTE_SWAP:
        return swap_in(m, mm, vma, vpn, entry, access)
    if entry & PTE_PROTNONE:
        do_numa_page(m, mm, vma, vpn, slot, access)
        entry = m.pt[slot]
    if access == WRITE and entry & PTE_WRITE == 0:
        return do_wp_page(m, mm, vma, vpn, slot, entry, flags)
    m.pt[slot] = entry | PTE_ACCESSED | (PTE_DIRTY if access == WRITE else 0)
    return 0


@kernel
def copy_pte_range(m, dst_mm, src_mm, vpn, end, shared):
    """What the child gets of the pages [vpn, end): the same entries, write-protected on both sides unless the VMA is shared. 0, or -ENOMEM."""
    while vpn < end:
        pmd = walk_pmd(m, src_mm, vpn)
        if pmd < 0:
            vpn = ((vpn >> 18) + 1) << 18
            continue
        stop = min(end, ((vpn >> 9) + 1) << 9)
        if m.pt[pmd] & PTE_HUGE:
            if copy_huge_pmd(m, dst_mm, src_mm, vpn) < 0:
                return -ENOMEM
        elif m.pt[pmd]:
            if pte_alloc(m, dst_mm, vpn) < 0:
                return -ENOMEM
            src = (m.pt[pmd] >> PTE_SHIFT) * 512
            dst = (m.pt[walk_pmd(m, dst_mm, vpn)] >> PTE_SHIFT) * 512
            for at in range(vpn, stop):
                entry = m.pt[src + (at & 511)]
                if entry == 0:
                    continue
                m.sc[SC_NOW_NS] += m.cost[COST_FORK_PTE]
                if entry & PTE_SWAP:
                    swap_duplicate(m, entry)
                    m.mm[dst_mm * MM_STRIDE + MM_SWAPENTS] += 1
                    entry &= ~PTE_SWAP_EXCLUSIVE
                    m.pt[src + (at & 511)] = entry
                    m.pt[dst + (at & 511)] = entry
                    continue
                if entry & PTE_SPECIAL == 0:
                    pfn = entry >> PTE_SHIFT
                    if page_test(m, pfn, PG_ANON):
                        page_clear(m, pfn, PG_ANON_EXCLUSIVE)
                    add_rmap(m, dst_mm, pfn)
                    if shared == 0:
                        entry &= ~PTE_WRITE
                        m.pt[src + (at & 511)] = entry
                m.pt[dst + (at & 511)] = entry & ~PTE_ACCESSED
        vpn = stop
    return 0


@leaf
def needs_copy(m, vma):
    """1 if fork copies entries of the VMA: what has no anon_vma is faulted in again."""
    return 1 if m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] >= 0 and m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_WIPEONFORK == 0 else 0


@kernel
def copy_page_range(m, st, dst_mm, src_mm, dst_vma, src_vma):
    """fork: entries are copied only where the VMA has an anon_vma, write-protected on both sides; the child's start old."""
    row = src_vma * VMA_STRIDE
    if needs_copy(m, src_vma) == 0:
        return 0
    return copy_pte_range(m, dst_mm, src_mm, m.vma[row + VMA_START] >> 12, m.vma[row + VMA_END] >> 12, m.vma[row + VMA_FLAGS] & VM_SHARED)


LINUX_FAULT = FaultHandler(
    name="linux",
    summary="demand paging with zero page, copy-on-write, swap-in and fault-around",
    models="mm/memory.c handle_mm_fault(), copy_page_range()",
    left_out="userfaultfd",
    level="L4",
    handle_mm_fault=handle_mm_fault,
    copy_page_range=copy_page_range,
)
