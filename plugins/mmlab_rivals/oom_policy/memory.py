"""What killers in user space read in /proc/meminfo, /proc/zoneinfo and /proc/PID, in pages."""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import nr_free_pages
from mmlab.mm.page_writeback import global_node_page_state
from mmlab.model.const import LRU_ACTIVE_FILE, LRU_INACTIVE_FILE
from mmlab.model.rows import (
    MM_RSS_ANON, MM_RSS_FILE, MM_RSS_SHMEM, MM_STRIDE, MM_SWAPENTS, SC_NR_SWAP_FREE, SC_NR_SWAP_SLOTS, SC_NR_TASKS, SC_NR_ZONES,
    SC_TOTALRESERVE, TASK_STRIDE, TF_KILLED, T_ALIVE, T_FLAGS, T_MM, ZONE_STRIDE, Z_LRU, Z_WATERMARK_BOOST, Z_WMARK_LOW,
)
from mmlab.model.vmstat import V_NR_KERNEL_MISC_RECLAIMABLE, V_NR_SLAB_RECLAIMABLE


@kernel
def mem_available(m):
    """MemAvailable: what could be had without swapping. Models: mm/show_mem.c si_mem_available()."""
    cache = low = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        low += m.zone[base + Z_WMARK_LOW] + m.zone[base + Z_WATERMARK_BOOST]
        cache += m.zone[base + Z_LRU + LRU_ACTIVE_FILE] + m.zone[base + Z_LRU + LRU_INACTIVE_FILE]
    slab = global_node_page_state(m, V_NR_SLAB_RECLAIMABLE) + global_node_page_state(m, V_NR_KERNEL_MISC_RECLAIMABLE)
    available = nr_free_pages(m) - m.sc[SC_TOTALRESERVE] + cache - min(cache // 2, low) + slab - min(slab // 2, low)
    return max(0, available)


@kernel
def somebody_dies(m):
    """1 while a task that was killed still has its memory: a daemon waits for that."""
    for task in range(m.sc[SC_NR_TASKS]):
        row = task * TASK_STRIDE
        if m.task[row + T_ALIVE] and m.task[row + T_FLAGS] & TF_KILLED:
            return 1
    return 0


@leaf
def swap_total(m):
    """SwapTotal: the first slot is its header."""
    return max(0, m.sc[SC_NR_SWAP_SLOTS] - 1)


@leaf
def swap_free(m):
    """SwapFree."""
    return m.sc[SC_NR_SWAP_FREE] if m.sc[SC_NR_SWAP_SLOTS] else 0


@leaf
def task_rss(m, task):
    """VmRSS of a task with an address space."""
    mm = m.task[task * TASK_STRIDE + T_MM] * MM_STRIDE
    return m.mm[mm + MM_RSS_ANON] + m.mm[mm + MM_RSS_FILE] + m.mm[mm + MM_RSS_SHMEM]


@leaf
def task_swap(m, task):
    """VmSwap of a task with an address space."""
    return m.mm[m.task[task * TASK_STRIDE + T_MM] * MM_STRIDE + MM_SWAPENTS]
