"""What a task holds before its first operation: VMAs and pages laid out from a record, without faults.

Models: fs/binfmt_elf.c load_elf_binary() only in its result.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.page_class import set_page_class
from mmlab.kernels.pte import add_rmap, folio_add_new_anon_rmap
from mmlab.kernels.services import anon_vma_prepare, filemap_get_page, pte_alloc, vma_alloc_zeroed_movable_folio
from mmlab.mm.page_cache import filemap_add, is_shmem
from mmlab.mm.vma import vm_area_alloc, vm_stat_account, vma_link
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.page import PG_DIRTY, PG_UPTODATE, add_refs, page_set
from mmlab.model.rows import (
    CLASS_DATA, FILE_STRIDE, F_INODE, MM_HIWATER_VM, MM_STRIDE, MM_TOTAL_VM, PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, PTE_SHIFT, PTE_WRITE,
    SC_COMMITTED_AS, VMA_END, VMA_FILE, VMA_FLAGS, VMA_INODE, VMA_NAME, VMA_PGOFF, VMA_START, VMA_STRIDE, VM_ACCOUNT, VM_WRITE,
)


@kernel
def image_vma(m, mm, start, end, flags, pgoff, file, name):
    """One VMA of an image: its row, or -ENOMEM."""
    vma = vm_area_alloc(m, mm)
    if vma < 0:
        return -ENOMEM
    row = vma * VMA_STRIDE
    m.vma[row + VMA_START], m.vma[row + VMA_END], m.vma[row + VMA_FLAGS], m.vma[row + VMA_PGOFF] = start, end, flags, pgoff
    m.vma[row + VMA_FILE], m.vma[row + VMA_NAME] = file, name
    m.vma[row + VMA_INODE] = m.file[file * FILE_STRIDE + F_INODE] if file >= 0 else -1
    if vma_link(m, vma) < 0:
        return -ENOMEM
    pages = (end - start) >> 12
    vm_stat_account(m, mm, flags, pages)
    m.mm[mm * MM_STRIDE + MM_HIWATER_VM] = m.mm[mm * MM_STRIDE + MM_TOTAL_VM]
    if flags & VM_ACCOUNT:
        m.sc[SC_COMMITTED_AS] += pages
    return vma


@kernel
def image_anon_pages(m, mm, vma, vpn, count):
    """Anonymous pages of an image, written once. Returns count, or -ENOMEM."""
    if anon_vma_prepare(m, vma) < 0:
        return -ENOMEM
    writable = PTE_WRITE if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_WRITE else 0
    for at in range(vpn, vpn + count):
        slot = pte_alloc(m, mm, at)
        if slot < 0:
            return -ENOMEM
        pfn = vma_alloc_zeroed_movable_folio(m, mm, vma, at)
        if pfn < 0:
            return -ENOMEM
        folio_add_new_anon_rmap(m, mm, pfn)
        m.pt[slot] = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | writable
    return count


@kernel
def image_cache_pages(m, inode, count, pinned):
    """Fill a program file's page cache; pages of tmpfs have no other place, so they are dirty. pinned: 1 for pages of the kernel itself, which
    nothing takes out of it. Returns count, or -ENOMEM."""
    flags = PG_UPTODATE | (PG_DIRTY if is_shmem(m, inode) else 0)
    for index in range(count):
        pfn = filemap_add(m, inode, index, GFP_HIGHUSER_MOVABLE, -1)
        if pfn < 0:
            return -ENOMEM
        page_set(m, pfn, flags)
        set_page_class(m, pfn, CLASS_DATA)
        add_refs(m, pfn, pinned)
    return count


@kernel
def image_file_pages(m, mm, vma, vpn, count):
    """Map cached pages of an image's file VMA where nothing is mapped. Returns how many."""
    mapped = 0
    row = vma * VMA_STRIDE
    for at in range(vpn, vpn + count):
        slot = pte_alloc(m, mm, at)
        pfn = filemap_get_page(m, m.vma[row + VMA_INODE], at - (m.vma[row + VMA_START] >> 12) + m.vma[row + VMA_PGOFF])
        if slot >= 0 and pfn >= 0 and m.pt[slot] == 0:
            add_rmap(m, mm, pfn)
            m.pt[slot] = (pfn << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED
            mapped += 1
    return mapped
