"""Pages in the page cache: look-up, adding with refault detection, removing with a shadow; runs of cached pages; locking.

Models: mm/filemap.c filemap_add_folio(), __filemap_remove_folio(), page_cache_next_miss(), page_cache_prev_miss();
fs/buffer.c create_empty_buffers(), try_to_free_buffers(). A page in the cache has
one reference for it, and if a file system has written it, its buffer head in its private word (in units of 8 bytes). Left out: large folios,
more than one block a page, the reference that buffers hold.
"""

from mmlab.kernels.dirty import folio_account_cleaned
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_folio_added
from mmlab.kernels.page_class import new_page_class
from mmlab.kernels.services import alloc_pages, free_pages, kmem_cache_alloc, kmem_cache_free, xa_store
from mmlab.kernels.zones import page_node
from mmlab.mm.dcache import inode_add_lru
from mmlab.mm.page_counter import current_memcg, mem_cgroup_charge
from mmlab.mm.workingset import workingset_refault
from mmlab.mm.xarray import XA_PAGE, XA_VALUE, entry_is, xa_load
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_NOFS, GFP_WRITE
from mmlab.model.page import (
    KIND_FILE, KIND_SHMEM, NO_MAPPING, PG_DIRTY, PG_LOCKED, PG_READAHEAD, PG_SWAPBACKED, PG_UPTODATE, add_refs, page_clear, page_index,
    page_mapping, page_private, page_set, page_test, page_test_clear, set_page_index, set_page_kind, set_page_mapping, set_page_private,
)
from mmlab.model.rows import CACHE_BUFFER_HEAD, CLASS_ZERO, IF_SHMEM, INODE_STRIDE, I_FLAGS, I_NRPAGES, SC_WRITE_CLASS
from mmlab.model.vmstat import V_NR_FILE_PAGES, V_NR_SHMEM, mod_node_state

OBJ_SHIFT = 3  # objects are aligned
MAX_PRIVATE = (1 << 32) - 1


@leaf
def is_shmem(m, inode):
    """Nonzero if the inode is swap-backed (tmpfs, shared anonymous memory)."""
    return m.inode[inode * INODE_STRIDE + I_FLAGS] & IF_SHMEM


@leaf
def lock_page(m, pfn):
    """Keep reclaim off a page: PG_LOCKED and one reference."""
    page_set(m, pfn, PG_LOCKED)
    add_refs(m, pfn, 1)


@leaf
def unlock_page(m, pfn):
    """Undo lock_page(), if the page is locked. Its cache still holds it."""
    if page_test_clear(m, pfn, PG_LOCKED):
        add_refs(m, pfn, -1)


@kernel
def filemap_get_page(m, inode, index):
    """The cached page of a file at a page index, or -1."""
    entry = xa_load(m, inode, index)
    return entry >> 2 if entry_is(entry, XA_PAGE) else -1


@leaf
def count_cached(m, pfn, inode, delta):
    """A page comes into (1) or leaves (-1) the cache of a file."""
    node = page_node(m, pfn)
    mod_node_state(m, node, V_NR_FILE_PAGES, delta)
    if is_shmem(m, inode):
        mod_node_state(m, node, V_NR_SHMEM, delta)


@kernel
def filemap_add(m, inode, index, gfp, zonelist):
    """A new, uptodate page in the cache, on the reclaimer's lists: its pfn, or -ENOMEM. GFP_WRITE: to be overwritten, so no refault.

    The index must hold no page, and in a shmem inode no swap slot. zonelist: where from; -1: by the task's policy.
    """
    pfn = alloc_pages(m, gfp, 0, zonelist)
    if pfn < 0:
        return -ENOMEM
    if mem_cgroup_charge(m, pfn, current_memcg(m), gfp, 1) < 0:
        free_pages(m, pfn, 0)
        return -ENOMEM
    old = xa_load(m, inode, index)
    if xa_store(m, inode, index, (pfn << 2) | XA_PAGE) < 0:
        free_pages(m, pfn, 0)
        return -ENOMEM
    add_refs(m, pfn, 1)
    set_page_mapping(m, pfn, inode)
    set_page_index(m, pfn, index)
    set_page_private(m, pfn, 0)
    if is_shmem(m, inode):
        page_set(m, pfn, PG_UPTODATE | PG_SWAPBACKED)
        new_page_class(m, pfn, CLASS_ZERO)
        set_page_kind(m, pfn, KIND_SHMEM)
    else:
        page_set(m, pfn, PG_UPTODATE)
        new_page_class(m, pfn, m.sc[SC_WRITE_CLASS])
        set_page_kind(m, pfn, KIND_FILE)
    count_cached(m, pfn, inode, 1)
    if entry_is(old, XA_VALUE) and gfp & GFP_WRITE == 0:
        workingset_refault(m, pfn, old >> 2, 1)
    reclaimer_folio_added(m, pfn)
    return pfn


@kernel
def create_empty_buffers(m, pfn):
    """The file system is about to write the page's block: it gets a buffer head, unless it has one. Returns 0, or -ENOMEM.

    The private word reaches 32 GiB; a buffer head that lies higher is not kept.
    """
    if page_private(m, pfn) == 0:
        obj = kmem_cache_alloc(m, CACHE_BUFFER_HEAD, GFP_NOFS)
        if obj < 0:
            return -ENOMEM
        if obj >> OBJ_SHIFT > MAX_PRIVATE:
            kmem_cache_free(m, obj)
        else:
            set_page_private(m, pfn, obj >> OBJ_SHIFT)
    return 0


@kernel
def filemap_remove(m, pfn, shadow):
    """Take a page out of its file's cache and drop the cache's reference; a shadow >= 0 stays in its place.

    Returns the page's counts that are left; at 0 the caller frees the page.
    """
    inode = page_mapping(m, pfn)
    keep = shadow >= 0 and is_shmem(m, inode) == 0
    xa_store(m, inode, page_index(m, pfn), (shadow << 2) | XA_VALUE if keep else 0)
    count_cached(m, pfn, inode, -1)
    if is_shmem(m, inode) == 0:
        if page_test(m, pfn, PG_DIRTY):
            folio_account_cleaned(m, pfn)
        if page_private(m, pfn):
            kmem_cache_free(m, page_private(m, pfn) << OBJ_SHIFT)
            set_page_private(m, pfn, 0)
    if m.inode[inode * INODE_STRIDE + I_NRPAGES] == 0:
        inode_add_lru(m, inode)
    page_clear(m, pfn, PG_READAHEAD)
    set_page_mapping(m, pfn, NO_MAPPING)
    return add_refs(m, pfn, -1)


@kernel
def next_miss(m, inode, index, max_scan):
    """The first index >= index without a cached page; after max_scan cached ones, index + max_scan."""
    for at in range(index, index + max_scan):
        if filemap_get_page(m, inode, at) < 0:
            return at
    return index + max_scan


@kernel
def prev_miss(m, inode, index, max_scan):
    """The last index <= index without a cached page, -1 before the file; after max_scan cached ones, the lowest of those."""
    at = index
    for _ in range(max_scan):
        if at < 0 or filemap_get_page(m, inode, at) < 0:
            return at
        at -= 1
    return at + 1
