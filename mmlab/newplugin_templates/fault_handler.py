"""my_policy: each touched page gets memory at once, also for reads, and fork copies all of it: no zero page, no sharing between tasks."""

from mmlab.kernels.dirty import folio_mark_dirty
from mmlab.kernels.jit import kernel
from mmlab.kernels.pte import add_rmap, remove_rmap, swap_duplicate, walk_pte
from mmlab.kernels.services import (
    anon_vma_prepare, filemap_fault, folio_add_lru, folio_put, pte_alloc, swap_in, vma_alloc_zeroed_movable_folio,
)
from mmlab.model.const import ENOMEM, VM_FAULT_OOM, VM_FAULT_SIGBUS, WRITE
from mmlab.model.page import PG_ANON, PG_SWAPBACKED, add_refs, page_mapcount, page_test
from mmlab.model.rows import (
    MM_STRIDE, MM_SWAPENTS, PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, PTE_SWAP, PTE_SWAP_EXCLUSIVE,
    PTE_WRITE, VM_SHARED, VM_WIPEONFORK, VM_WRITE, VMA_ANON_VMA, VMA_END, VMA_FLAGS, VMA_INODE, VMA_START, VMA_STRIDE,
)
from mmlab.policies import FaultHandler


@kernel
def map_new_page(m, mm, vma, vpn, slot, old):
    """Put an anonymous page into m.pt[slot], in place of page `old` (-1: of nothing). VM_FAULT_* bits."""
    row = vma * VMA_STRIDE
    if m.vma[row + VMA_ANON_VMA] < 0 and anon_vma_prepare(m, vma) < 0:
        return VM_FAULT_OOM
    if old >= 0:
        add_refs(m, old, 1)  # the allocation may reclaim pages: not this one
    pfn = vma_alloc_zeroed_movable_folio(m, mm, vma, vpn)
    if pfn >= 0:
        if old >= 0 and m.pt[slot] & PTE_PRESENT:
            m.pt[slot] = 0
            remove_rmap(m, mm, old)
        add_rmap(m, mm, pfn)
        folio_add_lru(m, pfn)
        write = PTE_WRITE if m.vma[row + VMA_FLAGS] & VM_WRITE else 0
        m.pt[slot] = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | write
    if old >= 0:
        folio_put(m, old)
    return 0 if pfn >= 0 else VM_FAULT_OOM


@kernel
def map_file_page(m, mm, vma, vpn, access, slot):
    """A page of a file: shared with the page cache, or a copy of it for a private write."""
    found = filemap_fault(m, mm, vma, vpn, access)
    if found < 0:
        return VM_FAULT_SIGBUS if -found & VM_FAULT_SIGBUS else VM_FAULT_OOM
    pfn = found & ((1 << 40) - 1)
    shared = m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_SHARED
    if access == WRITE and shared == 0:
        add_refs(m, pfn, 1)
        result = map_new_page(m, mm, vma, vpn, slot, -1)
        folio_put(m, pfn)
        return result | (found >> 40)
    add_rmap(m, mm, pfn)
    m.pt[slot] = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED
    if access == WRITE:
        folio_mark_dirty(m, pfn)
        m.pt[slot] |= PTE_WRITE | PTE_DIRTY
    return found >> 40


@kernel
def handle_mm_fault(m, st, mm, vma, vpn, access):
    slot = pte_alloc(m, mm, vpn)
    if slot < 0:
        return VM_FAULT_OOM
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    entry = m.pt[slot]
    if entry == 0:
        if m.vma[vma * VMA_STRIDE + VMA_INODE] < 0:
            return map_new_page(m, mm, vma, vpn, slot, -1)
        return map_file_page(m, mm, vma, vpn, access, slot)
    if entry & PTE_SWAP:
        return swap_in(m, mm, vma, vpn, entry, access)
    if entry & PTE_PROTNONE:
        entry = (entry & ~PTE_PROTNONE) | PTE_PRESENT
        m.pt[slot] = entry
    if access != WRITE or entry & PTE_WRITE:
        m.pt[slot] = entry | PTE_ACCESSED | (PTE_DIRTY if access == WRITE else 0)
        return 0
    pfn = -1 if entry & PTE_SPECIAL else entry >> PTE_SHIFT
    own = pfn >= 0 and page_test(m, pfn, PG_ANON) != 0 and page_mapcount(m, pfn) == 1
    if own or flags & VM_SHARED:
        if page_test(m, pfn, PG_SWAPBACKED) == 0:
            folio_mark_dirty(m, pfn)
        m.pt[slot] = entry | PTE_WRITE | PTE_DIRTY | PTE_ACCESSED
        return 0
    return map_new_page(m, mm, vma, vpn, slot, pfn)


@kernel
def copy_page_range(m, st, dst_mm, src_mm, dst_vma, src_vma):
    row = src_vma * VMA_STRIDE
    if m.vma[row + VMA_ANON_VMA] < 0 or m.vma[row + VMA_FLAGS] & (VM_SHARED | VM_WIPEONFORK):
        return 0
    for vpn in range(m.vma[row + VMA_START] >> 12, m.vma[row + VMA_END] >> 12):
        src = walk_pte(m, src_mm, vpn)
        entry = m.pt[src] if src >= 0 else 0
        if entry & PTE_SWAP == 0 and (entry & PTE_PRESENT == 0 or entry & PTE_SPECIAL or page_test(m, entry >> PTE_SHIFT, PG_ANON) == 0):
            continue  # nothing there, or the child can find it in the file
        dst = pte_alloc(m, dst_mm, vpn)
        if dst < 0:
            return -ENOMEM
        if entry & PTE_SWAP:
            swap_duplicate(m, entry)
            m.mm[dst_mm * MM_STRIDE + MM_SWAPENTS] += 1
            m.pt[src] = m.pt[dst] = entry & ~PTE_SWAP_EXCLUSIVE
        elif map_new_page(m, dst_mm, dst_vma, vpn, dst, -1) != 0:
            return -ENOMEM
    return 0


POLICY = FaultHandler(
    name="my_policy",
    summary="memory at first touch, copied whole at fork",
    handle_mm_fault=handle_mm_fault,
    copy_page_range=copy_page_range,
)
