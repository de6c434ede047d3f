"""Marking a page of a file dirty, with the books that go with it: counters, what the task has dirtied, the list of dirty inodes.

Lists of dirty inodes are linked through the inodes' rows (I_IO_NEXT, I_IO_PREV), oldest first; their ends are in m.wb (WB_LISTS).
Models: mm/page-writeback.c folio_account_dirtied(), folio_account_cleaned(); fs/fs-writeback.c __mark_inode_dirty(). Cost: O(1).
"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.zones import page_node
from mmlab.model.page import NO_MAPPING, PG_DIRTY, PG_SWAPBACKED, page_clear, page_index, page_mapping, page_memcg, page_set, page_test, page_zone
from mmlab.model.rows import (
    IF_WB_SHIFT, INODE_STRIDE, IO_DIRTY, IO_NONE, IO_SYNC, I_DIRTIED_NS, I_DIRTY_END, I_DIRTY_FIRST, I_FLAGS, I_IO_LIST, I_IO_NEXT,
    I_IO_PREV, I_NR_DIRTY, MC_NR_DIRTY, MC_PARENT, MC_WB_DIRTY, MEMCG_STRIDE, SC_NEXT_EVENT_NS, SC_NOW_NS, SC_TASK, TASK_STRIDE,
    T_NR_DIRTIED, T_NR_DIRTIED_PAUSE, WB_BALANCE, WB_INTERVAL_NS, WB_LISTS, WB_NEXT_NS, WB_TIMER_NS, ZONE_STRIDE, Z_WRITE_PENDING,
)
from mmlab.model.vmstat import V_NR_DIRTIED, V_NR_DIRTY, mod_node_state


@leaf
def io_list_add(m, inode, io_list):
    """Put an inode, which is on none, at the end of a list of dirty inodes (IO_*)."""
    row = inode * INODE_STRIDE
    ends = WB_LISTS + 2 * io_list
    last = m.wb[ends + 1]
    m.inode[row + I_IO_LIST] = io_list
    m.inode[row + I_IO_NEXT] = 0
    m.inode[row + I_IO_PREV] = last
    if last:
        m.inode[last * INODE_STRIDE + I_IO_NEXT] = inode
    else:
        m.wb[ends] = inode
    m.wb[ends + 1] = inode


@leaf
def io_list_del(m, inode):
    """Take an inode off the list of dirty inodes that it is on, if any."""
    row = inode * INODE_STRIDE
    ends = WB_LISTS + 2 * m.inode[row + I_IO_LIST]
    on_list = m.inode[row + I_IO_LIST] != IO_NONE and m.inode[row + I_IO_LIST] != IO_SYNC
    m.inode[row + I_IO_LIST] = IO_NONE
    if on_list == 0:
        return
    following = m.inode[row + I_IO_NEXT]
    before = m.inode[row + I_IO_PREV]
    if before:
        m.inode[before * INODE_STRIDE + I_IO_NEXT] = following
    else:
        m.wb[ends] = following
    if following:
        m.inode[following * INODE_STRIDE + I_IO_PREV] = before
    else:
        m.wb[ends + 1] = before


@leaf
def set_writeback_timer(m, when_ns):
    """The flusher is to look again at that time, or earlier."""
    if when_ns < m.wb[WB_TIMER_NS]:
        m.wb[WB_TIMER_NS] = when_ns
        m.wb[WB_NEXT_NS] = min(m.wb[WB_NEXT_NS], when_ns)
        m.sc[SC_NEXT_EVENT_NS] = min(m.sc[SC_NEXT_EVENT_NS], when_ns)


@leaf
def inode_wb(m, inode):
    """The cgroup that writes an inode back (inode_to_wb()); 0: the root, or nobody yet."""
    return max(0, (m.inode[inode * INODE_STRIDE + I_FLAGS] >> IF_WB_SHIFT) - 1)


@leaf
def mark_inode_dirty(m, inode, index, memcg):
    """A page of the inode at this index became dirty: the inode is among the dirty ones from its first dirty page on, and belongs to the
    cgroup of the first page ever."""
    row = inode * INODE_STRIDE
    if m.inode[row + I_FLAGS] >> IF_WB_SHIFT == 0:
        m.inode[row + I_FLAGS] += 1 + memcg << IF_WB_SHIFT
    m.memcg[inode_wb(m, inode) * MEMCG_STRIDE + MC_WB_DIRTY] += 1
    if m.inode[row + I_NR_DIRTY] == 0:
        m.inode[row + I_DIRTY_FIRST] = index
        m.inode[row + I_DIRTY_END] = index + 1
    m.inode[row + I_NR_DIRTY] += 1
    m.inode[row + I_DIRTY_FIRST] = min(m.inode[row + I_DIRTY_FIRST], index)
    m.inode[row + I_DIRTY_END] = max(m.inode[row + I_DIRTY_END], index + 1)
    if m.inode[row + I_IO_LIST] == IO_NONE:
        m.inode[row + I_DIRTIED_NS] = m.sc[SC_NOW_NS]
        io_list_add(m, inode, IO_DIRTY)
        if m.wb[WB_INTERVAL_NS] > 0:
            set_writeback_timer(m, m.sc[SC_NOW_NS] + m.wb[WB_INTERVAL_NS])


@leaf
def mod_memcg_pages(m, pfn, item, n):
    """A page becomes, or is no longer, one of those that its cgroup and the ones above count (MC_NR_DIRTY, MC_NR_WRITEBACK)."""
    memcg = page_memcg(m, pfn)
    while memcg > 0:
        m.memcg[memcg * MEMCG_STRIDE + item] += n
        memcg = m.memcg[memcg * MEMCG_STRIDE + MC_PARENT]


@leaf
def folio_mark_dirty(m, pfn):
    """The page differs from what the disk has. Only pages of files on a disk are counted; swap-backed ones are dirty by nature."""
    if page_test(m, pfn, PG_DIRTY):
        return
    page_set(m, pfn, PG_DIRTY)
    if page_test(m, pfn, PG_SWAPBACKED):
        return
    mod_node_state(m, page_node(m, pfn), V_NR_DIRTY, 1)
    m.zone[page_zone(m, pfn) * ZONE_STRIDE + Z_WRITE_PENDING] += 1
    m.vmstat[V_NR_DIRTIED] += 1
    mod_memcg_pages(m, pfn, MC_NR_DIRTY, 1)
    if page_mapping(m, pfn) != NO_MAPPING:
        mark_inode_dirty(m, page_mapping(m, pfn), page_index(m, pfn), page_memcg(m, pfn))
    task = m.sc[SC_TASK]
    if task >= 0:
        row = task * TASK_STRIDE
        m.task[row + T_NR_DIRTIED] += 1
        if m.task[row + T_NR_DIRTIED] >= m.task[row + T_NR_DIRTIED_PAUSE]:
            m.wb[WB_BALANCE] = 1


@leaf
def folio_clear_dirty(m, pfn):
    """A dirty page of a file on a disk is about to be written, or thrown away: it counts as dirty no more."""
    page_clear(m, pfn, PG_DIRTY)
    mod_node_state(m, page_node(m, pfn), V_NR_DIRTY, -1)
    mod_memcg_pages(m, pfn, MC_NR_DIRTY, -1)
    m.inode[page_mapping(m, pfn) * INODE_STRIDE + I_NR_DIRTY] -= 1
    m.memcg[inode_wb(m, page_mapping(m, pfn)) * MEMCG_STRIDE + MC_WB_DIRTY] -= 1


@leaf
def folio_account_cleaned(m, pfn):
    """A dirty page of a file on a disk is thrown away."""
    folio_clear_dirty(m, pfn)
    m.zone[page_zone(m, pfn) * ZONE_STRIDE + Z_WRITE_PENDING] -= 1
