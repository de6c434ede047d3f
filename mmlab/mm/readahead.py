"""Read-ahead of the page cache: how large a window is read, where its mark lies, and the reading of a window.

The state lives in the open file (F_RA_*, F_PREV_POS, F_MMAP_MISS). Models: mm/readahead.c page_cache_ra_unbounded(), do_page_cache_ra(),
force_page_cache_ra(), get_init_ra_size(), get_next_ra_size(), page_cache_sync_ra(), page_cache_async_ra(); mm/filemap.c
do_sync_mmap_readahead(), do_async_mmap_readahead(). Left out: large folios, congestion, VM_HUGEPAGE files. Pages are uptodate as soon as
they are read; who waits pays the device's latency and transfer, an asynchronous window costs its transfer alone.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.pte import lru_gen_use_mm
from mmlab.mm.dcache import es_insert
from mmlab.mm.page_cache import filemap_add, filemap_get_page, lock_page, next_miss, prev_miss, unlock_page
from mmlab.mm.psi import psi_memstall_enter, psi_memstall_leave
from mmlab.model.const import PAGE_SHIFT
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_NORETRY, GFP_NOWARN
from mmlab.model.page import PG_READAHEAD, PG_WORKINGSET, page_clear, page_set, page_test
from mmlab.model.rows import (
    COST_DEVICE_READ, COST_DEVICE_READ_PAGE, FF_RANDOM, FILE_STRIDE, F_FLAGS, F_INODE, F_MMAP_MISS, F_PREV_POS, F_RA_ASYNC_SIZE, F_RA_PAGES,
    F_RA_SIZE, F_RA_START, INODE_STRIDE, I_SIZE_BYTES, SC_NOW_NS, VM_RAND_READ, VM_SEQ_READ,
)
from mmlab.model.vmstat import V_PGPGIN

IO_PAGES = 320  # largest request of the device (max_sectors_kb 1280): a request larger than the window may use it
FORCE_CHUNK = 512  # pages that force_page_cache_ra() reads at a time
MMAP_LOTSAMISS = 100  # mapped reads stop reading around after so many more misses than hits
READAHEAD_GFP = GFP_HIGHUSER_MOVABLE | GFP_NORETRY | GFP_NOWARN


@leaf
def count_read(m, nr_pages, wait):
    """nr_pages came from the device; wait: somebody waited for the first of them."""
    if nr_pages > 0:
        m.vmstat[V_PGPGIN] += nr_pages * 4
        m.sc[SC_NOW_NS] += nr_pages * m.cost[COST_DEVICE_READ_PAGE] + (m.cost[COST_DEVICE_READ] if wait else 0)
        if wait:
            lru_gen_use_mm(m)


@kernel
def do_page_cache_ra(m, inode, index, nr_to_read, lookahead_size, wait):
    """Read those of nr_to_read pages from index on that are not cached, up to the end of the file. Returns how many were read.

    The page lookahead_size before the end of the window gets the mark, if it is new. Without memory the rest is left.
    """
    size = m.inode[inode * INODE_STRIDE + I_SIZE_BYTES]
    if size == 0 or index > (size - 1) >> PAGE_SHIFT:
        return 0
    end = min(index + nr_to_read, ((size - 1) >> PAGE_SHIFT) + 1)
    mark = end - lookahead_size if lookahead_size > 0 else -1
    read = 0
    for at in range(index, end):
        if filemap_get_page(m, inode, at) >= 0:
            continue
        pfn = filemap_add(m, inode, at, READAHEAD_GFP, -1)
        if pfn < 0:
            break
        lock_page(m, pfn)
        if at == mark:
            page_set(m, pfn, PG_READAHEAD)
        read += 1
    if read > 0:
        for at in range(index, end):
            pfn = filemap_get_page(m, inode, at)
            if pfn >= 0:
                unlock_page(m, pfn)
        es_insert(m, inode)
    wanted = filemap_get_page(m, inode, index) if wait and read > 0 else -1
    thrashing = wanted >= 0 and page_test(m, wanted, PG_WORKINGSET) != 0  # its wait is a stall
    if thrashing:
        psi_memstall_enter(m)
    count_read(m, read, wait)
    if thrashing:
        psi_memstall_leave(m)
    return read


@kernel
def force_page_cache_ra(m, file, index, nr_to_read):
    """Read what was asked for and no more, at most one request of the device: RANDOM files and WILLNEED. Returns pages read."""
    left = min(nr_to_read, max(IO_PAGES, m.file[file * FILE_STRIDE + F_RA_PAGES]))
    at = index
    read = 0
    while left > 0:
        chunk = min(left, FORCE_CHUNK)
        read += do_page_cache_ra(m, m.file[file * FILE_STRIDE + F_INODE], at, chunk, 0, 1)
        at += chunk
        left -= chunk
    return read


@leaf
def get_init_ra_size(nr_pages, max_pages):
    """The first window for a request of nr_pages."""
    size = 1
    while size < nr_pages:
        size <<= 1
    if size <= max_pages // 32:
        return size * 4
    if size <= max_pages // 4:
        return size * 2
    return max_pages


@leaf
def get_next_ra_size(size, max_pages):
    """The window after one of this size."""
    if size < max_pages // 16:
        return 4 * size
    if size <= max_pages // 2:
        return 2 * size
    return max_pages


@leaf
def _max_pages(m, file, req):
    pages = m.file[file * FILE_STRIDE + F_RA_PAGES]
    return min(req, IO_PAGES) if req > pages and IO_PAGES > pages else pages


@leaf
def _set_window(m, file, start, size, async_size):
    row = file * FILE_STRIDE
    m.file[row + F_RA_START] = start
    m.file[row + F_RA_SIZE] = size
    m.file[row + F_RA_ASYNC_SIZE] = async_size


@kernel
def _read_window(m, file, wait):
    row = file * FILE_STRIDE
    inode = m.file[row + F_INODE]
    return do_page_cache_ra(m, inode, m.file[row + F_RA_START], m.file[row + F_RA_SIZE], m.file[row + F_RA_ASYNC_SIZE], wait)


@kernel
def page_cache_sync_ra(m, file, index, req):
    """A miss at index by a request of req pages: decide on a window and read it. Returns pages read."""
    row = file * FILE_STRIDE
    inode = m.file[row + F_INODE]
    if m.file[row + F_RA_PAGES] == 0:
        return force_page_cache_ra(m, file, index, 1)
    if m.file[row + F_FLAGS] & FF_RANDOM:
        return force_page_cache_ra(m, file, index, req)
    max_pages = _max_pages(m, file, req)
    prev = m.file[row + F_PREV_POS] >> PAGE_SHIFT
    if index == 0 or req > max_pages or (prev >= 0 and index >= prev and index - prev <= 1):
        size = get_init_ra_size(req, max_pages)
        _set_window(m, file, index, size, size - req if size > req else size >> 1)
        return _read_window(m, file, 1)
    miss = prev_miss(m, inode, index - 1, max_pages)
    run = index - miss - 1
    if run <= req:
        return do_page_cache_ra(m, inode, index, req, 0, 1)
    if miss < 0:
        run *= 2  # cached from the start of the file on
    _set_window(m, file, index, min(run + req, max_pages), 1)
    return _read_window(m, file, 1)


@kernel
def page_cache_async_ra(m, file, index, pfn, req):
    """The marked page at index was reached, req pages are still wanted: read the next window. Returns pages read."""
    row = file * FILE_STRIDE
    if m.file[row + F_RA_PAGES] == 0:
        return 0
    page_clear(m, pfn, PG_READAHEAD)
    max_pages = _max_pages(m, file, req)
    start = m.file[row + F_RA_START] + m.file[row + F_RA_SIZE]
    if index == start - m.file[row + F_RA_ASYNC_SIZE]:
        size = get_next_ra_size(m.file[row + F_RA_SIZE], max_pages)
    else:
        start = next_miss(m, m.file[row + F_INODE], index + 1, max_pages)
        if start - index > max_pages:
            return 0
        size = get_next_ra_size(start - index + req, max_pages)
    _set_window(m, file, start, size, size)
    return _read_window(m, file, 0)


@kernel
def do_sync_mmap_readahead(m, file, index, vm_flags):
    """A fault missed the cache: read around it, or a window for a sequential VMA, or nothing. Returns pages read."""
    row = file * FILE_STRIDE
    ra_pages = m.file[row + F_RA_PAGES]
    if vm_flags & VM_RAND_READ or ra_pages == 0:
        return 0
    if vm_flags & VM_SEQ_READ:
        return page_cache_sync_ra(m, file, index, ra_pages)
    if m.file[row + F_MMAP_MISS] < MMAP_LOTSAMISS * 10:
        m.file[row + F_MMAP_MISS] += 1
    if m.file[row + F_MMAP_MISS] > MMAP_LOTSAMISS:
        return 0
    _set_window(m, file, max(0, index - ra_pages // 2), ra_pages, ra_pages // 4)
    return _read_window(m, file, 1)


@kernel
def do_async_mmap_readahead(m, file, index, pfn, vm_flags):
    """A fault found its page in the cache: one miss is forgiven, and a mark read on. Returns pages read."""
    row = file * FILE_STRIDE
    if vm_flags & VM_RAND_READ or m.file[row + F_RA_PAGES] == 0:
        return 0
    if m.file[row + F_MMAP_MISS] > 0:
        m.file[row + F_MMAP_MISS] -= 1
    if page_test(m, pfn, PG_READAHEAD) == 0:
        return 0
    return page_cache_async_ra(m, file, index, pfn, m.file[row + F_RA_PAGES])
