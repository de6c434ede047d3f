"""Linux's demand paging with a fork that copies: the child gets pages of its own at once, so neither side ever faults for a copy.

What fork() was before copy-on-write (Bach, "The Design of the UNIX Operating System", 1986, chapter 7). It costs a copy of all private anonymous
memory, which a child that calls exec() throws away. Models: mm/memory.c copy_page_range() followed by wp_page_copy() of every page. Left out:
pages in swap stay shared, as Linux shares their slots; huge pages are copied as small ones. O(pages) a fork.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import split_huge_pmd
from mmlab.model.const import ENOMEM, VM_FAULT_OOM
from mmlab.model.page import PG_ANON, PG_ANON_EXCLUSIVE, PG_HEAD, PG_TAIL, page_mapcount, page_refs, page_set, page_test
from mmlab.model.rows import (
    PTE_ACCESSED, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_WRITE, VM_SHARED, VM_WRITE, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE,
)
from mmlab.policies import FaultHandler
from mmlab_linux.fault_handler import linux
from mmlab_linux.fault_handler.linux import handle_mm_fault, wp_page_copy


@kernel
def take_back(m, mm, vpn, pfn, flags):
    """The parent's page is nobody else's again: its entry is writable without a fault."""
    pmd = walk_pmd(m, mm, vpn)
    slot = (m.pt[pmd] >> PTE_SHIFT) * 512 + (vpn & 511) if pmd >= 0 and m.pt[pmd] and m.pt[pmd] & PTE_HUGE == 0 else -1
    if slot < 0 or m.pt[slot] & PTE_PRESENT == 0 or m.pt[slot] >> PTE_SHIFT != pfn or page_test(m, pfn, PG_HEAD | PG_TAIL):
        return 0
    if page_mapcount(m, pfn) == 1 and page_refs(m, pfn) == 0:
        page_set(m, pfn, PG_ANON_EXCLUSIVE)
        m.pt[slot] |= PTE_WRITE if flags & VM_WRITE else 0
    return 0


@kernel
def copy_page_range(m, st, dst_mm, src_mm, dst_vma, src_vma):
    """Share as Linux does, then give the child a copy of each private anonymous page."""
    row = dst_vma * VMA_STRIDE
    flags = m.vma[row + VMA_FLAGS]
    result = linux.copy_page_range(m, st, dst_mm, src_mm, dst_vma, src_vma)
    if result < 0 or flags & VM_SHARED:
        return result
    vpn = m.vma[row + VMA_START] >> 12
    end = m.vma[row + VMA_END] >> 12
    while vpn < end:
        pmd = walk_pmd(m, dst_mm, vpn)
        if pmd < 0 or m.pt[pmd] == 0 or (m.pt[pmd] & PTE_HUGE and m.pt[pmd] & PTE_SPECIAL):
            vpn = (vpn >> 9) + 1 << 9
            continue
        if m.pt[pmd] & PTE_HUGE:
            split_huge_pmd(m, dst_mm, pmd)
        slot = (m.pt[pmd] >> PTE_SHIFT) * 512 + (vpn & 511)
        entry = m.pt[slot]
        if entry & PTE_PRESENT and entry & PTE_SPECIAL == 0 and page_test(m, entry >> PTE_SHIFT, PG_ANON):
            if wp_page_copy(m, dst_mm, dst_vma, vpn, slot, entry) == VM_FAULT_OOM:
                return -ENOMEM
            m.pt[slot] &= ~PTE_ACCESSED
            take_back(m, src_mm, vpn, entry >> PTE_SHIFT, flags)
        vpn += 1
    return 0


EAGER_COPY = FaultHandler(
    name="eager_copy",
    summary="demand paging whose fork copies memory at once",
    models="fork() before copy-on-write",
    left_out="pages in swap and huge pages as such",
    level="L1",
    handle_mm_fault=handle_mm_fault,
    copy_page_range=copy_page_range,
)
