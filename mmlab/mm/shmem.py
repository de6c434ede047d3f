"""Swap-backed files (tmpfs, shared anonymous memory): pages made on first touch, and their way to swap and back.

Models: mm/shmem.c shmem_get_folio_gfp(), shmem_swapin_folio(), shmem_writepage(), shmem_free_swap(). In a shmem inode's tree a value entry
is a swap slot (the shadow lies in the swap cache). Left out: size limits of the mount, huge pages, the per-inode block counts.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import count_memcg_event_mm
from mmlab.kernels.services import folio_put, xa_store
from mmlab.mm.page_cache import count_cached, filemap_add
from mmlab.mm.page_io import folio_wait_writeback
from mmlab.mm.shared_policy import shmem_zonelist
from mmlab.mm.swap_slots import swap_dup, swap_free
from mmlab.mm.swap_state import add_to_swap, delete_from_swap_cache, swap_cache_get, swapin_readahead
from mmlab.mm.xarray import XA_PAGE, XA_VALUE, entry_is, xa_load, xa_next
from mmlab.model.const import ENOMEM, VM_FAULT_MAJOR
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.page import (
    KIND_SHMEM, NO_MAPPING, PG_DIRTY, PG_WRITEBACK, add_refs, page_index, page_mapcount, page_mapping, page_refs, page_set, page_test,
    set_page_index, set_page_kind, set_page_mapping,
)
from mmlab.model.rows import (
    COST_SWAP_CACHE_HIT, COST_ZERO_PAGE, I_COMMITTED, I_FLAGS, IF_NORESERVE, INODE_STRIDE, SC_COMMITTED_AS, SC_NOW_NS,
)
from mmlab.model.vmstat import V_PGMAJFAULT


@leaf
def shmem_acct_blocks(m, inode, pages):
    """Charge (or, negative, give back) the commit of pages of an inode that was not charged for its whole size."""
    row = inode * INODE_STRIDE
    if m.inode[row + I_FLAGS] & IF_NORESERVE:
        m.inode[row + I_COMMITTED] += pages
        m.sc[SC_COMMITTED_AS] += pages


@kernel
def shmem_get_page(m, inode, index):
    """The page at an index, zeroed or swapped in if need be: pfn | VM_FAULT_MAJOR << 40 if it was read, or -ENOMEM."""
    entry = xa_load(m, inode, index)
    if entry_is(entry, XA_PAGE):
        return entry >> 2
    if entry == 0:
        pfn = filemap_add(m, inode, index, GFP_HIGHUSER_MOVABLE, shmem_zonelist(m, inode, index, 0))
        if pfn >= 0:
            shmem_acct_blocks(m, inode, 1)
            m.sc[SC_NOW_NS] += m.cost[COST_ZERO_PAGE]
        return pfn
    slot = entry >> 2
    major = 0
    if swap_cache_get(m, slot) < 0:
        m.vmstat[V_PGMAJFAULT] += 1
        count_memcg_event_mm(m, V_PGMAJFAULT)
        major = VM_FAULT_MAJOR << 40
    else:
        m.sc[SC_NOW_NS] += m.cost[COST_SWAP_CACHE_HIT]
    pfn = swapin_readahead(m, slot, -1, -1, 0)
    if pfn < 0:
        return -ENOMEM
    folio_wait_writeback(m, pfn)
    add_refs(m, pfn, 1)
    xa_store(m, inode, index, (pfn << 2) | XA_PAGE)
    set_page_mapping(m, pfn, inode)
    set_page_index(m, pfn, index)
    set_page_kind(m, pfn, KIND_SHMEM)
    page_set(m, pfn, PG_DIRTY)
    delete_from_swap_cache(m, pfn, -1)
    swap_free(m, slot)
    count_cached(m, pfn, inode, 1)
    return pfn | major


@kernel
def shmem_writepage(m, pfn):
    """Move an unmapped page of a shmem inode to the swap cache, dirty; the inode keeps the slot: the slot, or -1 when swap is full."""
    inode = page_mapping(m, pfn)
    index = page_index(m, pfn)
    slot = add_to_swap(m, pfn)
    if slot < 0:
        return -1
    swap_dup(m, slot)
    xa_store(m, inode, index, (slot << 2) | XA_VALUE)
    count_cached(m, pfn, inode, -1)
    set_page_mapping(m, pfn, NO_MAPPING)
    add_refs(m, pfn, -1)
    return slot


@kernel
def shmem_free_swap(m, inode, index):
    """The inode drops the swap slot at an index, and a page in the swap cache that nobody else uses."""
    slot = xa_load(m, inode, index) >> 2
    xa_store(m, inode, index, 0)
    shmem_acct_blocks(m, inode, -1)
    left = swap_free(m, slot)
    pfn = swap_cache_get(m, slot)
    if left == 0 and pfn >= 0 and page_mapcount(m, pfn) == 0 and page_refs(m, pfn) == 1 and page_test(m, pfn, PG_WRITEBACK) == 0:
        add_refs(m, pfn, 1)
        delete_from_swap_cache(m, pfn, -1)
        folio_put(m, pfn)
    return 0


@kernel
def shmem_partial_swap_usage(m, inode, start, end):
    """Pages of the inode in [start, end) that lie in swap."""
    swapped = 0
    index = xa_next(m, inode, start)
    while index >= 0 and index < end:
        if entry_is(xa_load(m, inode, index), XA_VALUE):
            swapped += 1
        index = xa_next(m, inode, index + 1)
    return swapped
