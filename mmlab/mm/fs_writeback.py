"""The flusher: a thread that writes dirty files when too much is dirty, when they have been dirty for long, or when reclaim asks; and fsync().

It takes dirty inodes oldest first, a chunk of each in turn, and goes on in each where it stopped last. wb_step() does a part of that, so that
tasks run in between; what it is at lies in m.wb. Models: fs/fs-writeback.c wb_workfn(), wb_do_writeback(), wb_check_old_data_flush(),
wb_check_background_flush(), wb_over_bg_thresh(), wb_check_start_all(), wb_writeback(), queue_io(), writeback_sb_inodes(), requeue_inode(),
writeback_chunk_size(); fs/ext4/inode.c ext4_writepages(); mm/page-writeback.c folio_clear_dirty_for_io(). Left out: metadata, sync(2),
several disks; a cgroup's files are written for its sake by the one flusher, and never change their cgroup.
"""

from mmlab.kernels.dirty import folio_clear_dirty, inode_wb, io_list_add, io_list_del, set_writeback_timer
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import rmap_walk
from mmlab.mm.blk_mq import blk_complete, folio_wait_writeback, submit_write, wait_for_disk
from mmlab.mm.dcache import inode_add_lru
from mmlab.mm.ext4_meta import ext4_map_blocks
from mmlab.mm.page_cache import filemap_get_page
from mmlab.mm.page_writeback import (
    NEVER_NS, background_threshold, dirty_threshold, folio_start_writeback, global_node_page_state, memcg_background_threshold,
    memcg_dirty_threshold, wakeup_flusher, wb_update_bandwidth,
)
from mmlab.mm.xarray import xa_next
from mmlab.model.const import RMAP_MKCLEAN
from mmlab.model.page import PG_DIRTY, PG_WRITEBACK, page_mapcount, page_test
from mmlab.model.rows import (
    COST_WRITEPAGE, DISK_FILES, INODE_STRIDE, IO_DIRTY, IO_MORE, IO_NONE, IO_QUEUED, IO_SYNC, I_BLOCKS, I_DIRTIED_NS, I_DIRTY_END,
    I_DIRTY_FIRST, I_INO, I_IO_LIST, I_IO_NEXT, MC_NR_DIRTY, MC_SEEN_DIRTY, MC_WB_DIRTY, MEMCG_STRIDE, SC_NR_MEMCGS, WB_MEMCG, I_NR_DIRTY,
    I_NR_WRITEBACK, I_WRITEBACK_INDEX, SC_NOW_NS, WB_AVG_BANDWIDTH, WB_AWAKE, WB_CHUNK, WB_CYCLED, WB_DIRTY_LIMIT, WB_END, WB_EXPIRE_NS,
    WB_INDEX, WB_INODE, WB_INTERVAL_NS, WB_LAST_OLD_FLUSH_NS, WB_LISTS, WB_NEXT_NS, WB_NR_PAGES, WB_IO_NEXT_NS, WB_PROGRESS,
    WB_ROUND_NS, WB_START_ALL, WB_TIMER_NS, WB_WORK,
)
from mmlab.model.vmstat import V_NR_DIRTY

WORK_NONE, WORK_BACKGROUND, WORK_KUPDATE, WORK_ALL = 0, 1, 2, 3
WORK_STUCK = 4  # background work that could write nothing: the flusher sleeps until somebody wakes it
LONG_MAX = 1 << 62
MIN_WRITEBACK_PAGES = 4096 >> 2  # 4 MiB
DIRTY_SCOPE = 8
ROUND_NS = 100_000_000  # a round over inodes ends after that long, to see whether there is still something to do
STEP_PAGES = 32  # pages that a step looks at
FILE_SECTORS_SHIFT = 32  # a file's place on its disk: inode number, then page index


@kernel
def write_folio(m, inode, index, pfn):
    """Send a dirty page to the disk: its PTEs become read-only, so that the next write to it faults."""
    if m.inode[inode * INODE_STRIDE + I_INO] and index >= m.inode[inode * INODE_STRIDE + I_BLOCKS]:
        ext4_map_blocks(m, inode, index)
    if page_mapcount(m, pfn):
        rmap_walk(m, pfn, RMAP_MKCLEAN)
    folio_clear_dirty(m, pfn)
    folio_start_writeback(m, pfn)
    m.inode[inode * INODE_STRIDE + I_NR_WRITEBACK] += 1
    m.memcg[inode_wb(m, inode) * MEMCG_STRIDE + MC_WB_DIRTY] += 1
    m.sc[SC_NOW_NS] += m.cost[COST_WRITEPAGE]
    return submit_write(m, DISK_FILES, pfn, (inode << FILE_SECTORS_SHIFT) + index)


@kernel
def file_write_and_wait(m, inode):
    """fsync(): write the file's dirty pages and wait for them, and for those that are on their way. Returns pages written."""
    row = inode * INODE_STRIDE
    written = 0
    index = xa_next(m, inode, m.inode[row + I_DIRTY_FIRST])
    while index >= 0 and m.inode[row + I_NR_DIRTY] > 0:
        pfn = filemap_get_page(m, inode, index)
        if pfn >= 0 and page_test(m, pfn, PG_DIRTY):
            folio_wait_writeback(m, pfn)
            write_folio(m, inode, index, pfn)
            written += 1
        index = xa_next(m, inode, index + 1)
    while m.inode[row + I_NR_WRITEBACK] > 0:
        wait_for_disk(m)
    if m.wb[WB_INODE] != inode:
        io_list_del(m, inode)
        inode_add_lru(m, inode)
    return written


@kernel
def over_background_threshold(m, memcg):
    """wb_over_bg_thresh(): 1 if more is dirty, of a cgroup's files or (0) in all, than the background threshold allows."""
    if memcg:
        background = memcg_background_threshold(m, memcg, memcg_dirty_threshold(m, memcg))
        return 1 if m.memcg[memcg * MEMCG_STRIDE + MC_SEEN_DIRTY] > background else 0
    return 1 if global_node_page_state(m, V_NR_DIRTY) > background_threshold(m, dirty_threshold(m)) else 0


@kernel
def inode_of_memcg(m, io_list, memcg):
    """The first inode on a list of dirty ones that belongs to a cgroup (0: to any), or 0."""
    inode = m.wb[WB_LISTS + 2 * io_list]
    while inode and memcg and inode_wb(m, inode) != memcg:
        inode = m.inode[inode * INODE_STRIDE + I_IO_NEXT]
    return inode


@kernel
def who_is_over_background(m):
    """0 if the machine is over its background threshold, else the first cgroup that is over its own, or -1."""
    if over_background_threshold(m, 0):
        return 0
    for memcg in range(1, m.sc[SC_NR_MEMCGS]):
        if m.memcg[memcg * MEMCG_STRIDE + MC_NR_DIRTY] and over_background_threshold(m, memcg):
            for io_list in range(IO_DIRTY, IO_SYNC):
                if inode_of_memcg(m, io_list, memcg):
                    return memcg
    return -1


@leaf
def _begin_work(m, kind, nr_pages):
    m.wb[WB_WORK] = kind
    m.wb[WB_MEMCG] = 0
    m.wb[WB_NR_PAGES] = nr_pages
    m.wb[WB_ROUND_NS] = m.sc[SC_NOW_NS]
    m.wb[WB_PROGRESS] = 1


@leaf
def next_work(m):
    """wb_do_writeback(): what there is to do, now in m.wb[WB_WORK] (WORK_*); WORK_NONE: nothing."""
    now = m.sc[SC_NOW_NS]
    dirty = global_node_page_state(m, V_NR_DIRTY)
    if m.wb[WB_START_ALL]:
        m.wb[WB_START_ALL] = 0
        _begin_work(m, WORK_ALL, dirty)
    elif m.wb[WB_INTERVAL_NS] > 0 and now >= m.wb[WB_LAST_OLD_FLUSH_NS] + m.wb[WB_INTERVAL_NS] and dirty > 0:
        m.wb[WB_LAST_OLD_FLUSH_NS] = now
        _begin_work(m, WORK_KUPDATE, dirty)
    else:
        memcg = who_is_over_background(m)
        if memcg >= 0:
            _begin_work(m, WORK_BACKGROUND, LONG_MAX)
            m.wb[WB_MEMCG] = memcg
    return m.wb[WB_WORK]


@leaf
def queue_io(m, dirtied_before_ns):
    """Make the queue of a round: inodes that had more to write, then those that are dirty since that time or longer."""
    while m.wb[WB_LISTS + 2 * IO_MORE]:
        inode = m.wb[WB_LISTS + 2 * IO_MORE]
        io_list_del(m, inode)
        io_list_add(m, inode, IO_QUEUED)
    inode = m.wb[WB_LISTS + 2 * IO_DIRTY]
    while inode and m.inode[inode * INODE_STRIDE + I_DIRTIED_NS] <= dirtied_before_ns:
        io_list_del(m, inode)
        io_list_add(m, inode, IO_QUEUED)
        inode = m.wb[WB_LISTS + 2 * IO_DIRTY]


@leaf
def writeback_chunk_size(m):
    """Pages written of one inode before the next one has its turn: half a second's worth, in whole 4 MiB."""
    pages = min(m.wb[WB_AVG_BANDWIDTH] // 2, m.wb[WB_DIRTY_LIMIT] // DIRTY_SCOPE, m.wb[WB_NR_PAGES])
    return (pages + MIN_WRITEBACK_PAGES) // MIN_WRITEBACK_PAGES * MIN_WRITEBACK_PAGES


@leaf
def next_inode(m):
    """Take the inode whose turn it is: 0, or 1 if the work is done."""
    if m.wb[WB_NR_PAGES] <= 0:
        return 1
    queued = m.wb[WB_LISTS + 2 * IO_QUEUED]
    if queued == 0 or m.sc[SC_NOW_NS] >= m.wb[WB_ROUND_NS] + ROUND_NS:
        if m.wb[WB_WORK] == WORK_BACKGROUND and over_background_threshold(m, m.wb[WB_MEMCG]) == 0:
            return 1
        m.wb[WB_ROUND_NS] = m.sc[SC_NOW_NS]
    if queued == 0:
        if m.wb[WB_PROGRESS] == 0:
            return 1  # all that is dirty is being written as it was before: nothing to do until that is done
        m.wb[WB_PROGRESS] = 0
    if queued == 0 or m.wb[WB_MEMCG]:
        queue_io(m, m.sc[SC_NOW_NS] - (m.wb[WB_EXPIRE_NS] if m.wb[WB_WORK] == WORK_KUPDATE else 0))
        queued = inode_of_memcg(m, IO_QUEUED, m.wb[WB_MEMCG])
    if queued == 0:
        return 1
    io_list_del(m, queued)
    m.inode[queued * INODE_STRIDE + I_IO_LIST] = IO_SYNC
    start = m.inode[queued * INODE_STRIDE + I_WRITEBACK_INDEX]
    m.wb[WB_INODE] = queued
    m.wb[WB_INDEX] = start
    m.wb[WB_END] = LONG_MAX
    m.wb[WB_CYCLED] = 1 if start == 0 else 0
    m.wb[WB_CHUNK] = writeback_chunk_size(m)
    return 0


@leaf
def requeue_inode(m):
    """The inode's turn is over: it is clean, has more to write in the next round, or became dirty again behind the flusher."""
    inode = m.wb[WB_INODE]
    row = inode * INODE_STRIDE
    m.wb[WB_INODE] = 0
    m.inode[row + I_IO_LIST] = IO_NONE
    if m.inode[row + I_NR_DIRTY] == 0:
        m.wb[WB_PROGRESS] = 1
        inode_add_lru(m, inode)
        return
    if m.wb[WB_CHUNK] <= 0:
        io_list_add(m, inode, IO_MORE)
    else:
        m.inode[row + I_DIRTIED_NS] = m.sc[SC_NOW_NS]
        io_list_add(m, inode, IO_DIRTY)


@kernel
def write_cache_pages(m):
    """Write dirty pages of the flusher's inode from where it is: looks at no more than 32 pages. Returns 1 if the inode's turn is over."""
    inode = m.wb[WB_INODE]
    row = inode * INODE_STRIDE
    for _ in range(STEP_PAGES):
        end = min(m.wb[WB_END], m.inode[row + I_DIRTY_END])
        index = -1
        if m.inode[row + I_NR_DIRTY] > 0:
            index = xa_next(m, inode, max(m.wb[WB_INDEX], m.inode[row + I_DIRTY_FIRST]))
        if index < 0 or index >= end:
            if m.wb[WB_CYCLED] or m.wb[WB_CHUNK] <= 0:
                return 1
            m.wb[WB_CYCLED] = 1
            m.wb[WB_END] = m.inode[row + I_WRITEBACK_INDEX]
            m.wb[WB_INDEX] = 0
            continue
        m.wb[WB_INDEX] = index + 1
        pfn = filemap_get_page(m, inode, index)
        if pfn >= 0 and page_test(m, pfn, PG_DIRTY) and page_test(m, pfn, PG_WRITEBACK) == 0:
            write_folio(m, inode, index, pfn)
            m.wb[WB_CHUNK] -= 1
            m.wb[WB_NR_PAGES] -= 1
            m.wb[WB_PROGRESS] = 1
            if m.wb[WB_CHUNK] <= 0:
                return 1
    return 0


@kernel
def wb_step(m):
    """A part of the flusher's work, with its time. Returns 1 while it is awake."""
    if m.wb[WB_AWAKE] == 0:
        return 0
    stuck = m.wb[WB_WORK] == WORK_STUCK
    if stuck:
        m.wb[WB_WORK] = WORK_NONE
    if m.wb[WB_WORK] == WORK_NONE and ((stuck and m.wb[WB_START_ALL] == 0) or next_work(m) == WORK_NONE):
        m.wb[WB_AWAKE] = 0
        m.wb[WB_TIMER_NS] = NEVER_NS
        m.wb[WB_NEXT_NS] = m.wb[WB_IO_NEXT_NS]
        waiting = m.wb[WB_LISTS + 2 * IO_DIRTY] + m.wb[WB_LISTS + 2 * IO_QUEUED] + m.wb[WB_LISTS + 2 * IO_MORE]
        if m.wb[WB_INTERVAL_NS] > 0 and waiting:
            set_writeback_timer(m, m.sc[SC_NOW_NS] + m.wb[WB_INTERVAL_NS])
        return 0
    if m.wb[WB_INODE] == 0 and next_inode(m):
        m.wb[WB_WORK] = WORK_STUCK if m.wb[WB_WORK] == WORK_BACKGROUND and m.wb[WB_PROGRESS] == 0 else WORK_NONE
        return 1
    if write_cache_pages(m):
        m.inode[m.wb[WB_INODE] * INODE_STRIDE + I_WRITEBACK_INDEX] = m.wb[WB_INDEX]
        requeue_inode(m)
        wb_update_bandwidth(m, 0)
    return 1


@kernel
def writeback_timers(m):
    """What has become due on the clock: writes that are done, and the flusher's look at old data."""
    blk_complete(m)
    if m.wb[WB_TIMER_NS] <= m.sc[SC_NOW_NS]:
        m.wb[WB_TIMER_NS] = NEVER_NS
        wakeup_flusher(m)
    m.wb[WB_NEXT_NS] = min(m.wb[WB_IO_NEXT_NS], m.wb[WB_TIMER_NS])
    return 0


@kernel
def wakeup_flusher_threads(m):
    """Reclaim meets nothing but dirty pages: everything that is dirty is to be written."""
    if global_node_page_state(m, V_NR_DIRTY) > 0:
        m.wb[WB_START_ALL] = 1
        wakeup_flusher(m)
    return 0


@leaf
def evict_inode(m, inode):
    """The inode goes: no list of dirty ones and not the flusher may find it."""
    io_list_del(m, inode)
    if m.wb[WB_INODE] == inode:
        m.wb[WB_INODE] = 0
