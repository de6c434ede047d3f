"""Files for the simulation: inodes, open files, read(), write(), fsync(), truncate, drop_caches, fadvise. Numbers of both begin at 1.

Models: mm/filemap.c filemap_read(), generic_perform_write(); fs/sync.c vfs_fsync(); mm/truncate.c truncate_setsize(); fs/drop_caches.c;
mm/fadvise.c generic_fadvise(). Left out: journals and metadata, holes on the disk, O_DIRECT. What is
written without fsync(): mm/fs_writeback.py. The disk's blocks have 1 KiB, as ext4 makes them on small disks: it matters for a partly written last page only.
"""

from mmlab.kernels.dirty import folio_mark_dirty
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_drain, reclaimer_folio_accessed
from mmlab.kernels.page_class import set_page_class
from mmlab.kernels.services import inode_put, run_due_work, shmem_get_page, zap_range
from mmlab.mm.dcache import d_free, d_open, dput, es_insert, evict, iget
from mmlab.mm.ext4_meta import ext4_dirty_inode, ext4_lookup
from mmlab.mm.filemap import invalidate_pages, read_page, size_pages, truncate_pages
from mmlab.mm.fs_writeback import evict_inode, file_write_and_wait
from mmlab.mm.objcg import alloc_object, free_object
from mmlab.mm.buffer import invalidate_bh_lrus
from mmlab.mm.page_cache import create_empty_buffers, filemap_add, filemap_get_page, is_shmem
from mmlab.mm.readahead import count_read, force_page_cache_ra, page_cache_async_ra, page_cache_sync_ra
from mmlab.mm.shared_policy import set_shared_policy
from mmlab.mm.shmem_huge import shmem_alloc_huge
from mmlab.mm.xarray import xa_load, xa_next
from mmlab.model.const import EINVAL, ENOMEM, HPAGE_PMD_NR, PAGEVEC_SIZE, PAGE_SHIFT, PAGE_SIZE
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_WRITE
from mmlab.model.page import PG_DIRTY, PG_IDLE, PG_READAHEAD, PG_UPTODATE, add_refs, page_clear, page_folio, page_set, page_test
from mmlab.model.rows import (
    CACHE_FILP, CLASS_ZERO, COST_COPY_PAGE, COST_SYSCALL, FF_RANDOM, FF_SEQUENTIAL, FILE_STRIDE, F_FLAGS, F_INODE, F_NEXT_FREE, F_OBJ,
    F_PREV_POS, F_RA_PAGES, F_USERS, INODE_STRIDE, I_COMMITTED, I_DENTRY, I_FLAGS, I_INO, I_MAP_FIRST, I_NEXT_FREE, I_NLINK, I_OBJ,
    IF_ANON_SHMEM, IF_MNT, IF_SHMEM, I_SHMEM_INO, I_SIZE_BYTES, SC_COMMITTED_AS, SC_FILE_FREE, SC_FILE_TOP, SC_INODE_FREE, SC_INODE_TOP,
    SC_CPU, SC_NEXT_EVENT_NS, SC_NOW_NS, SC_NR_CPUS, SC_READAHEAD_PAGES, SC_SHMEM_HUGE, SC_SHMEM_INO_BATCHES, SC_TMPFS_HUGE, SC_TMPFS_INOS,
    SC_WRITE_CLASS, VMA_END, VMA_FLAGS, VMA_MAP_NEXT, VMA_MM, VMA_PGOFF, VMA_START, VMA_STRIDE, VM_SHARED,
)
from mmlab.model.vmstat import V_DROP_PAGECACHE

BLOCK_SIZE = 1024
SHMEM_INO_BATCH = 1024  # numbers of nameless memory that a CPU takes at once
MAX_PAGES = 1 << 40  # more than any file has
DROP_BATCH = 1024  # pages of a file that drop_caches goes through between looks at what is due
FADV_NORMAL, FADV_RANDOM, FADV_SEQUENTIAL, FADV_WILLNEED, FADV_DONTNEED, FADV_NOREUSE = 0, 1, 2, 3, 4, 5


@leaf
def shmem_reserve_inode(m, flags):
    """The number of a new object of shared memory: files of the tmpfs by turns, nameless memory from a batch that its CPU took; 1 is the root's.

    Models: mm/shmem.c shmem_reserve_inode(); the boot CPU took the first batch for the root."""
    if flags & IF_ANON_SHMEM == 0:
        m.sc[SC_TMPFS_INOS] += flags & IF_MNT != 0
        return 1 + m.sc[SC_TMPFS_INOS]
    cpu = m.sc[SC_CPU]
    ino = m.shmem_ino[cpu]
    if ino == 0 and cpu == 0:
        ino = 2
    elif ino % SHMEM_INO_BATCH == 0:
        m.sc[SC_SHMEM_INO_BATCHES] += 1
        ino = m.sc[SC_SHMEM_INO_BATCHES] * SHMEM_INO_BATCH
    m.shmem_ino[cpu] = ino + 1
    return ino


@kernel
def inode_create(m, size_bytes, flags):
    """A file of this size with nothing cached; flags: IF_SHMEM, IF_NORESERVE. I_NLINK counts its name and each open. Its number, or -ENOMEM."""
    inode = m.sc[SC_INODE_FREE]
    if inode:
        m.sc[SC_INODE_FREE] = m.inode[inode * INODE_STRIDE + I_NEXT_FREE]
    else:
        m.sc[SC_INODE_TOP] += 1
        inode = m.sc[SC_INODE_TOP]
    row = inode * INODE_STRIDE
    for field in range(row, row + INODE_STRIDE):
        m.inode[field] = 0
    m.inode[row + I_FLAGS] = flags
    if flags & IF_SHMEM:
        m.inode[row + I_SHMEM_INO] = shmem_reserve_inode(m, flags)
    if iget(m, inode) < 0:
        m.inode[row + I_NEXT_FREE] = m.sc[SC_INODE_FREE]
        m.sc[SC_INODE_FREE] = inode
        return -ENOMEM
    m.inode[row + I_SIZE_BYTES] = size_bytes
    m.inode[row + I_MAP_FIRST] = -1
    m.inode[row + I_NLINK] = 1
    return inode


@kernel
def do_inode_put(m, inode):
    """Drop a reference (unlink, a close); with the last one the file and its pages go. Returns references left."""
    row = inode * INODE_STRIDE
    m.inode[row + I_NLINK] -= 1
    if m.inode[row + I_NLINK] == 0:
        truncate_pages(m, inode, 0, MAX_PAGES)
        set_shared_policy(m, inode, 0, MAX_PAGES, 0)
        evict_inode(m, inode)
        d_free(m, inode)
        m.sc[SC_COMMITTED_AS] -= m.inode[row + I_COMMITTED]
        evict(m, inode)
        m.inode[row + I_NEXT_FREE] = m.sc[SC_INODE_FREE]
        m.sc[SC_INODE_FREE] = inode
    return m.inode[row + I_NLINK]


@kernel
def file_open(m, inode):
    """An open file with one user and fresh read-ahead state: its number, or -ENOMEM."""
    row = inode * INODE_STRIDE
    if m.inode[row + I_INO] and m.inode[row + I_DENTRY] == 0:
        ext4_lookup(m, inode, m.inode[row + I_OBJ])
    if d_open(m, inode) < 0:
        return -ENOMEM
    obj = alloc_object(m, CACHE_FILP)
    if obj < 0:
        dput(m, inode)
        return -ENOMEM
    file = m.sc[SC_FILE_FREE]
    if file:
        m.sc[SC_FILE_FREE] = m.file[file * FILE_STRIDE + F_NEXT_FREE]
    else:
        m.sc[SC_FILE_TOP] += 1
        file = m.sc[SC_FILE_TOP]
    row = file * FILE_STRIDE
    for field in range(row, row + FILE_STRIDE):
        m.file[field] = 0
    m.file[row + F_INODE] = inode
    m.file[row + F_RA_PAGES] = m.sc[SC_READAHEAD_PAGES]
    m.file[row + F_PREV_POS] = -1
    m.file[row + F_USERS] = 1
    m.file[row + F_OBJ] = obj
    m.inode[inode * INODE_STRIDE + I_NLINK] += 1
    return file


@kernel
def file_close(m, file):
    """One user less; the last one frees the open file and its reference to the inode. Returns users left."""
    row = file * FILE_STRIDE
    m.file[row + F_USERS] -= 1
    if m.file[row + F_USERS] == 0:
        free_object(m, CACHE_FILP, m.file[row + F_OBJ])
        dput(m, m.file[row + F_INODE])
        inode_put(m, m.file[row + F_INODE])
        m.file[row + F_NEXT_FREE] = m.sc[SC_FILE_FREE]
        m.sc[SC_FILE_FREE] = file
    return m.file[row + F_USERS]


@leaf
def _batch(m, inode, index, last_index):
    """How many cached pages a read takes at once from index on: up to 31, and none beyond one that is marked or not uptodate."""
    nr = 1
    pfn = filemap_get_page(m, inode, index)
    while nr < PAGEVEC_SIZE and index + nr < last_index and page_test(m, pfn, PG_READAHEAD) == 0 and page_test(m, pfn, PG_UPTODATE):
        pfn = filemap_get_page(m, inode, index + nr)
        if pfn < 0:
            break
        nr += 1
    return nr


@kernel
def _readahead_in_read(m, file, index, nr, last_index):
    """The last page of the batch carries the mark: read on, holding the batch's pages meanwhile."""
    inode = m.file[file * FILE_STRIDE + F_INODE]
    for at in range(index, index + nr):
        add_refs(m, filemap_get_page(m, inode, at), 1)
    last = index + nr - 1
    page_cache_async_ra(m, file, last, filemap_get_page(m, inode, last), last_index - last)
    for at in range(index, index + nr):
        add_refs(m, filemap_get_page(m, inode, at), -1)
    return 0


@kernel
def file_read(m, file, offset_bytes, length_bytes):
    """One read() call: bytes read (0 at the end of the file), or -ENOMEM. Read-ahead knows that all of the call's pages are wanted."""
    inode = m.file[file * FILE_STRIDE + F_INODE]
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    end = min(offset_bytes + length_bytes, m.inode[inode * INODE_STRIDE + I_SIZE_BYTES])
    if is_shmem(m, inode):
        return _shmem_read(m, inode, offset_bytes, end)
    last_index = (offset_bytes + length_bytes + PAGE_SIZE - 1) >> PAGE_SHIFT
    last_pos = m.file[file * FILE_STRIDE + F_PREV_POS]
    pos = offset_bytes
    failed = 0
    while pos < end:
        index = pos >> PAGE_SHIFT
        if filemap_get_page(m, inode, index) < 0:
            page_cache_sync_ra(m, file, index, last_index - index)
            if filemap_get_page(m, inode, index) < 0 and read_page(m, inode, index) < 0:
                failed = 1
                break
        nr = _batch(m, inode, index, last_index)
        if page_test(m, filemap_get_page(m, inode, index + nr - 1), PG_READAHEAD):
            _readahead_in_read(m, file, index, nr, last_index)
        for at in range(index, index + nr):
            if at != (last_pos - 1) >> PAGE_SHIFT:  # going on within a page is no new access of it
                reclaimer_folio_accessed(m, filemap_get_page(m, inode, at))
        m.sc[SC_NOW_NS] += nr * m.cost[COST_COPY_PAGE]
        pos = min((index + nr) << PAGE_SHIFT, end)
        last_pos = pos
    m.file[file * FILE_STRIDE + F_PREV_POS] = last_pos
    return -ENOMEM if failed and pos == offset_bytes else max(0, pos - offset_bytes)


@kernel
def _shmem_read(m, inode, offset_bytes, end):
    """read() of a tmpfs file: holes read as zeroes and stay holes; what lies in swap comes back."""
    pos = offset_bytes
    while pos < end:
        index = pos >> PAGE_SHIFT
        if xa_next(m, inode, index) == index:
            found = shmem_get_page(m, inode, index)
            if found < 0:
                return pos - offset_bytes if pos > offset_bytes else -ENOMEM
            if pos & (PAGE_SIZE - 1) == 0:
                reclaimer_folio_accessed(m, page_folio(m, found & (MAX_PAGES - 1)))
        m.sc[SC_NOW_NS] += m.cost[COST_COPY_PAGE]
        pos = min((index + 1) << PAGE_SHIFT, end)
    return max(0, pos - offset_bytes)


@kernel
def _write_page(m, inode, index, begin, end, write_end):
    """The cached page that a write of bytes [begin, end) of the file, and more up to write_end, goes to, dirty: its pfn, or -ENOMEM."""
    if is_shmem(m, inode):
        found = -1
        if (m.sc[SC_TMPFS_HUGE] or m.sc[SC_SHMEM_HUGE]) and xa_load(m, inode, index) == 0:
            found = shmem_alloc_huge(m, -1, inode, index, -1, -1, write_end)
        found = shmem_get_page(m, inode, index) if found < 0 else found + (index & (HPAGE_PMD_NR - 1))
        if found < 0:
            return -ENOMEM
        page_set(m, page_folio(m, found & (MAX_PAGES - 1)), PG_DIRTY)
        reclaimer_folio_accessed(m, page_folio(m, found & (MAX_PAGES - 1)))
        return found & (MAX_PAGES - 1)
    first = index << PAGE_SHIFT
    old_end = min(m.inode[inode * INODE_STRIDE + I_SIZE_BYTES], first + PAGE_SIZE)
    rest = first + PAGE_SIZE - end
    pfn = filemap_get_page(m, inode, index)
    if pfn < 0:
        pfn = filemap_add(m, inode, index, GFP_HIGHUSER_MOVABLE | GFP_WRITE, -1)
        if pfn < 0:
            return -ENOMEM
        if old_end > first and (begin > first or end < old_end):
            count_read(m, 1, 1)  # what the write leaves of the page has to be read
        elif rest >= BLOCK_SIZE:
            page_clear(m, pfn, PG_UPTODATE)  # blocks past the end are not filled yet
    elif rest < BLOCK_SIZE:
        page_set(m, pfn, PG_UPTODATE)
    if m.inode[inode * INODE_STRIDE + I_INO]:
        create_empty_buffers(m, pfn)
    folio_mark_dirty(m, pfn)
    page_clear(m, pfn, PG_IDLE)  # all that a write does to the page's age, other than on tmpfs
    return pfn


@kernel
def file_write(m, file, offset_bytes, length_bytes):
    """One write() call: its pages are cached and dirty, the file grows if need be. Bytes written, or -ENOMEM if there are none."""
    inode = m.file[file * FILE_STRIDE + F_INODE]
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    end = offset_bytes + length_bytes
    pos = offset_bytes
    if is_shmem(m, inode) == 0:
        es_insert(m, inode)
        if m.inode[inode * INODE_STRIDE + I_INO]:
            ext4_dirty_inode(m, inode)
    while pos < end:
        index = pos >> PAGE_SHIFT
        stop = min((index + 1) << PAGE_SHIFT, end)
        pfn = _write_page(m, inode, index, pos, stop, end)
        if pfn < 0:
            return pos - offset_bytes if pos > offset_bytes else -ENOMEM
        if m.sc[SC_WRITE_CLASS] != CLASS_ZERO:
            set_page_class(m, page_folio(m, pfn), m.sc[SC_WRITE_CLASS])
        m.sc[SC_NOW_NS] += m.cost[COST_COPY_PAGE]
        pos = stop
        m.inode[inode * INODE_STRIDE + I_SIZE_BYTES] = max(m.inode[inode * INODE_STRIDE + I_SIZE_BYTES], pos)
    return length_bytes


@kernel
def file_fsync(m, file):
    """Write the dirty pages and wait for the disk; PTEs become read-only, so the next write faults. Returns pages written."""
    inode = m.file[file * FILE_STRIDE + F_INODE]
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    if is_shmem(m, inode):
        return 0
    return file_write_and_wait(m, inode)


@kernel
def truncate_inode(m, inode, size_bytes):
    """Set the file's size and drop the pages beyond it, mapped ones and private copies too. Returns pages dropped."""
    if size_bytes < 0:
        return -EINVAL
    m.inode[inode * INODE_STRIDE + I_SIZE_BYTES] = size_bytes
    unmap_mapping_range(m, inode, size_pages(m, inode), MAX_PAGES, 1)
    return truncate_pages(m, inode, size_pages(m, inode), MAX_PAGES)


@kernel
def unmap_mapping_range(m, inode, start, end, even_cows):
    """Zap what every VMA of the file maps of pages [start, end); private VMAs, with their copies, only if even_cows."""
    vma = m.inode[inode * INODE_STRIDE + I_MAP_FIRST]
    while vma >= 0:
        row = vma * VMA_STRIDE
        first = m.vma[row + VMA_START] >> PAGE_SHIFT
        pgoff = m.vma[row + VMA_PGOFF]
        low = max(first, first + start - pgoff)
        high = min(m.vma[row + VMA_END] >> PAGE_SHIFT, first + end - pgoff)
        if low < high and (even_cows or m.vma[row + VMA_FLAGS] & VM_SHARED):
            zap_range(m, m.vma[row + VMA_MM], vma, low, high)
        vma = m.vma[row + VMA_MAP_NEXT]
    return 0


@kernel
def drop_caches(m):
    """vm.drop_caches = 1: drop every clean, unmapped page of files on a disk; unmapped ones of tmpfs, always dirty, age. Returns pages dropped."""
    m.vmstat[V_DROP_PAGECACHE] += 1
    for cpu in range(m.sc[SC_NR_CPUS]):
        reclaimer_drain(m, cpu)
    invalidate_bh_lrus(m)
    dropped = 0
    for inode in range(1, m.sc[SC_INODE_TOP] + 1):
        if m.inode[inode * INODE_STRIDE + I_NLINK] > 0:
            first = xa_next(m, inode, 0)
            while first >= 0:
                dropped += invalidate_pages(m, inode, first, first + DROP_BATCH)
                if m.sc[SC_NOW_NS] >= m.sc[SC_NEXT_EVENT_NS]:
                    run_due_work(m)  # kswapd, for one, ends its pass while there still is something to look at
                first = xa_next(m, inode, first + DROP_BATCH)
    return dropped


@kernel
def fadvise(m, file, offset_bytes, length_bytes, advice):
    """posix_fadvise(); advice FADV_*, length 0: to the end of the file. Returns 0, or -EINVAL."""
    row = file * FILE_STRIDE
    inode = m.file[row + F_INODE]
    if advice < FADV_NORMAL or advice > FADV_NOREUSE or length_bytes < 0:
        return -EINVAL
    if is_shmem(m, inode):
        return 0
    end = offset_bytes + length_bytes if length_bytes else MAX_PAGES << PAGE_SHIFT
    if advice == FADV_NORMAL:
        m.file[row + F_RA_PAGES] = m.sc[SC_READAHEAD_PAGES]
        m.file[row + F_FLAGS] &= ~(FF_RANDOM | FF_SEQUENTIAL)
    elif advice == FADV_RANDOM:
        m.file[row + F_FLAGS] |= FF_RANDOM
    elif advice == FADV_SEQUENTIAL:
        m.file[row + F_RA_PAGES] = 2 * m.sc[SC_READAHEAD_PAGES]
        m.file[row + F_FLAGS] = (m.file[row + F_FLAGS] & ~FF_RANDOM) | FF_SEQUENTIAL
    elif advice == FADV_WILLNEED:
        first = offset_bytes >> PAGE_SHIFT
        force_page_cache_ra(m, file, first, ((end - 1) >> PAGE_SHIFT) - first + 1)
    elif advice == FADV_DONTNEED:  # whole pages only, but the last one of the file
        last = MAX_PAGES if end >= m.inode[inode * INODE_STRIDE + I_SIZE_BYTES] else end >> PAGE_SHIFT
        invalidate_pages(m, inode, (offset_bytes + PAGE_SIZE - 1) >> PAGE_SHIFT, last)
    return 0
