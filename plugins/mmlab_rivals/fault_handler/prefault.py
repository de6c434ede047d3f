"""Linux's demand paging that maps more than was asked for: a first write to anonymous memory brings the other pages of its window as well.

Fewer faults for programs that use what they map, and memory that nobody needs for those that do not. The window is aligned, ends with the VMA and
the page table, and counts as untouched: its pages are not young, and zeroes. Nothing is prefaulted while every zone is below its high watermark.
Models: nothing in Linux but MAP_POPULATE, by which a program asks for it; the eager paging of Alam et al., "Do-It-Yourself Virtual Memory
Translation", ISCA 2017, on a smaller scale. Left out: one batch of allocations for a window (each page is allocated by itself). O(pages) a fault.
"""

import attrs
from attrs.validators import ge, le

from mmlab.kernels.jit import kernel
from mmlab.kernels.pte import walk_pte
from mmlab.kernels.services import vma_alloc_zeroed_movable_folio
from mmlab.kernels.zones import memory_is_short
from mmlab.model.const import VM_FAULT_ERROR, VM_FAULT_RETRY, WRITE
from mmlab.model.rows import (
    PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, SC_WANTS_ACCESS, VMA_END, VMA_FLAGS, VMA_INODE, VMA_START, VMA_STRIDE, WANTS_SUBPAGES,
)
from mmlab.policies import FaultHandler
from mmlab_linux.fault_handler import linux
from mmlab_linux.fault_handler.linux import copy_page_range, map_new_anon


@attrs.frozen
class Params:
    """pages: of a window, a power of two."""

    pages: int = attrs.field(default=16, validator=[ge(1), le(512)])

    def __attrs_post_init__(self) -> None:
        if self.pages & (self.pages - 1):
            raise ValueError(f"pages: must be a power of two, got {self.pages}")


@kernel
def do_prefault(m, st, mm, vma, vpn):
    """Map the empty entries of the window around vpn, whose table exists; pages mapped."""
    row = vma * VMA_STRIDE
    first = max(vpn // st.pages[0] * st.pages[0], m.vma[row + VMA_START] >> 12)
    end = min(vpn // st.pages[0] * st.pages[0] + st.pages[0], m.vma[row + VMA_END] >> 12)
    mapped = 0
    for at in range(first, end):
        slot = walk_pte(m, mm, at)
        if slot < 0 or memory_is_short(m, 0):
            return mapped
        if m.pt[slot]:
            continue
        pfn = vma_alloc_zeroed_movable_folio(m, mm, vma, at)
        if pfn < 0:
            return mapped
        map_new_anon(m, mm, vma, at, slot, pfn, m.vma[row + VMA_FLAGS])
        m.pt[slot] &= ~(PTE_ACCESSED | PTE_DIRTY)
        if m.sc[SC_WANTS_ACCESS] & WANTS_SUBPAGES:
            m.subpage[pfn] = 0
        mapped += 1
    return mapped


@kernel
def handle_mm_fault(m, st, mm, vma, vpn, access):
    """Linux's, and the rest of the window where a first write made a page."""
    slot = walk_pte(m, mm, vpn)
    first_touch = access == WRITE and m.vma[vma * VMA_STRIDE + VMA_INODE] < 0 and (slot < 0 or m.pt[slot] == 0)
    result = linux.handle_mm_fault(m, st, mm, vma, vpn, access)
    if first_touch and result & (VM_FAULT_ERROR | VM_FAULT_RETRY) == 0:
        slot = walk_pte(m, mm, vpn)
        if slot >= 0 and m.pt[slot] & PTE_PRESENT:
            do_prefault(m, st, mm, vma, vpn)
    return result


PREFAULT = FaultHandler(
    name="prefault",
    summary="demand paging that maps a window of anonymous pages at the first write",
    models="nothing in Linux but MAP_POPULATE: eager paging of a window",
    left_out="batches of allocations",
    level="L1",
    params=Params,
    handle_mm_fault=handle_mm_fault,
    copy_page_range=copy_page_range,
)
