"""The page behind a fault in a file map, and pages that leave the cache because somebody asked for it.

Models: mm/filemap.c filemap_fault(); mm/shmem.c shmem_fault(); mm/truncate.c truncate_inode_pages_range(), invalidate_mapping_pages();
mm/swap.c deactivate_file_folio().
filemap_get_page(), filemap_add() and filemap_remove() come from mmlab.mm.page_cache; this module exports them too.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import count_memcg_event_mm
from mmlab.kernels.ops import reclaimer_folio_deactivate_file
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import folio_put, rmap_walk, shmem_get_page, xa_store
from mmlab.mm.blk_mq import folio_wait_writeback
from mmlab.mm.huge_memory import split_folio, split_huge_pmds_of
from mmlab.mm.page_cache import filemap_add, filemap_get_page, filemap_remove, is_shmem
from mmlab.mm.readahead import count_read, do_async_mmap_readahead, do_sync_mmap_readahead
from mmlab.mm.shmem import shmem_acct_blocks, shmem_free_swap
from mmlab.mm.shmem_huge import shmem_alloc_huge, shmem_remove_huge
from mmlab.mm.xarray import XA_PAGE, entry_is, xa_load, xa_next
from mmlab.model.const import HPAGE_PMD_NR, PAGE_SHIFT, PAGE_SIZE, RMAP_UNMAP, VM_FAULT_MAJOR, VM_FAULT_OOM, VM_FAULT_SIGBUS
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.page import (
    PG_DIRTY, PG_HEAD, PG_LOCKED, PG_TAIL, PG_UPTODATE, PG_WRITEBACK, add_refs, page_folio, page_index, page_mapcount, page_refs, page_set,
    page_test,
)
from mmlab.model.rows import (
    COST_ZAP_PTE, INODE_STRIDE, I_SIZE_BYTES, SC_NOW_NS, SC_SHMEM_HUGE, SC_SHMEM_MOUNT_HUGE, SC_TMPFS_HUGE, VMA_FILE, VMA_FLAGS, VMA_INODE,
    VMA_PGOFF, VMA_START, VMA_STRIDE,
)
from mmlab.model.vmstat import V_PGMAJFAULT

__all__ = [
    "filemap_add", "filemap_fault", "filemap_get_page", "filemap_remove", "invalidate_pages", "read_page", "size_pages", "truncate_pages",
]


@leaf
def size_pages(m, inode):
    """Pages of the file, a partial last one included."""
    return (m.inode[inode * INODE_STRIDE + I_SIZE_BYTES] + PAGE_SIZE - 1) >> PAGE_SHIFT


@kernel
def read_page(m, inode, index):
    """Read one page that is not cached, without read-ahead: its pfn, or -ENOMEM."""
    pfn = filemap_add(m, inode, index, GFP_HIGHUSER_MOVABLE, -1)
    if pfn >= 0:
        count_read(m, 1, 1)
    return pfn


@kernel
def filemap_fault(m, mm, vma, vpn, access):
    """Service: the page behind virtual page vpn of a file map: pfn, | VM_FAULT_MAJOR << 40 if it had to be read; or -VM_FAULT_SIGBUS, _OOM.

    Dirtying and mapping it is the fault handler's; so is the second fault-around after a read of it or of what follows.
    """
    row = vma * VMA_STRIDE
    inode = m.vma[row + VMA_INODE]
    index = vpn - (m.vma[row + VMA_START] >> PAGE_SHIFT) + m.vma[row + VMA_PGOFF]
    if index >= size_pages(m, inode):
        return -VM_FAULT_SIGBUS
    if is_shmem(m, inode):
        # where the PMD was empty, a huge page was tried already
        if m.sc[SC_SHMEM_MOUNT_HUGE] or m.sc[SC_SHMEM_HUGE] or m.sc[SC_TMPFS_HUGE]:
            pmd = walk_pmd(m, mm, vpn)
            if pmd >= 0 and m.pt[pmd] and xa_load(m, inode, index) == 0:
                head = shmem_alloc_huge(m, mm, inode, index, vma, vpn, 0)
                if head >= 0:
                    return head + (index & (HPAGE_PMD_NR - 1))
        found = shmem_get_page(m, inode, index)
        return found if found >= 0 else -VM_FAULT_OOM
    file = m.vma[row + VMA_FILE]
    pfn = filemap_get_page(m, inode, index)
    if pfn >= 0:
        if file >= 0:
            add_refs(m, pfn, 1)
            do_async_mmap_readahead(m, file, index, pfn, m.vma[row + VMA_FLAGS])
            add_refs(m, pfn, -1)
        page_set(m, pfn, PG_UPTODATE)  # what write() left of the last page is zeroed now
        return pfn
    m.vmstat[V_PGMAJFAULT] += 1
    count_memcg_event_mm(m, V_PGMAJFAULT)
    if file >= 0:
        do_sync_mmap_readahead(m, file, index, m.vma[row + VMA_FLAGS])
        pfn = filemap_get_page(m, inode, index)
    if pfn < 0:
        pfn = read_page(m, inode, index)
        if pfn < 0:
            return -VM_FAULT_OOM
    return pfn | (VM_FAULT_MAJOR << 40)


@leaf
def _drop(m, pfn):
    """Out of the cache without a shadow, and free unless something still holds the page; it takes the time of unmapping one."""
    m.sc[SC_NOW_NS] += m.cost[COST_ZAP_PTE]
    add_refs(m, pfn, 1)
    filemap_remove(m, pfn, -1)
    folio_put(m, pfn)


@kernel
def truncate_pages(m, inode, start, end):
    """Drop everything of the file in [start, end): pages, mapped or dirty as they may be, shadows, swap slots. Returns pages dropped."""
    dropped = 0
    index = xa_next(m, inode, start)
    while index >= 0 and index < end:
        entry = xa_load(m, inode, index)
        if entry_is(entry, XA_PAGE) and page_test(m, entry >> 2, PG_HEAD | PG_TAIL):
            head = page_folio(m, entry >> 2)
            split_huge_pmds_of(m, head)
            if index == page_index(m, head) and index + HPAGE_PMD_NR <= end:
                rmap_walk(m, head, RMAP_UNMAP)
                shmem_remove_huge(m, head)
                dropped += HPAGE_PMD_NR
            elif split_folio(m, head) == 0:
                index += 1  # something holds it: its part stays
        elif entry_is(entry, XA_PAGE):
            if page_mapcount(m, entry >> 2):
                rmap_walk(m, entry >> 2, RMAP_UNMAP)
            folio_wait_writeback(m, entry >> 2)
            _drop(m, entry >> 2)
            shmem_acct_blocks(m, inode, -1)
            dropped += 1
        elif is_shmem(m, inode):
            shmem_free_swap(m, inode, index)
        else:
            xa_store(m, inode, index, 0)
        index = xa_next(m, inode, index)
    return dropped


@kernel
def invalidate_pages(m, inode, start, end):
    """Drop the pages in [start, end) that nobody would miss (clean, unmapped, unlocked) and the shadows. Returns pages dropped.

    Others age at once: they are deactivated, and reclaimed first when their write-back ends. Pages of tmpfs are never clean.
    """
    dropped = 0
    shmem = is_shmem(m, inode)
    index = xa_next(m, inode, start)
    while index >= 0 and index < end:
        entry = xa_load(m, inode, index)
        if entry_is(entry, XA_PAGE) == 0:
            if shmem == 0:
                xa_store(m, inode, index, 0)
        elif page_mapcount(m, entry >> 2) == 0:
            if shmem or page_refs(m, entry >> 2) > 1 or page_test(m, entry >> 2, PG_DIRTY | PG_WRITEBACK | PG_LOCKED):
                if page_test(m, entry >> 2, PG_TAIL) == 0:
                    reclaimer_folio_deactivate_file(m, entry >> 2)
            else:
                _drop(m, entry >> 2)
                dropped += 1
        index = xa_next(m, inode, index + 1)
    return dropped
