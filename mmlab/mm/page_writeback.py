"""How much memory may be dirty, the pauses of tasks that dirty it faster than the disk writes, and the books of pages under write-back.

Models: mm/page-writeback.c global_dirtyable_memory(), domain_dirty_limits(), balance_dirty_pages(), wb_position_ratio(), wb_max_pause(),
wb_min_pause(), wb_update_bandwidth(), wb_update_dirty_ratelimit(), domain_update_dirty_limit(), __folio_start_writeback(),
__folio_end_writeback(), mdtc_calc_avail(); mm/memcontrol.c mem_cgroup_wb_stats(). One disk, so its share of the limits is all of them. Left out:
bandwidths of their own for cgroups, strictlimit, the per-CPU rate limit, the reserve of real-time tasks.
"""

from typing import Any

from mmlab.kernels.dirty import inode_wb, mod_memcg_pages
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import STATS_FIRST_NS
from mmlab.kernels.ops import reclaimer_folio_rotate
from mmlab.kernels.zones import page_node
from mmlab.mm.memcg_stat import mem_cgroup_flush_stats
from mmlab.model.const import HZ, LRU_ACTIVE_FILE, LRU_INACTIVE_FILE, NEVER_NS, PAGE_SHIFT
from mmlab.model.page import (
    PG_RECLAIM, PG_SWAPBACKED, PG_WRITEBACK, folio_nr_pages, page_clear, page_mapping, page_set, page_test,
    page_test_clear, page_zone,
)
from mmlab.model.rows import (
    INODE_STRIDE, I_NR_WRITEBACK, MC_HIGH, MC_MAX, MC_NR_WRITEBACK, MC_PARENT, MC_SEEN_DIRTY, MC_SEEN_FILE, MC_SEEN_WRITEBACK,
    MC_USAGE, MC_WB_DIRTY, MEMCG_MAX, MEMCG_STRIDE, SC_NEXT_EVENT_NS, SC_NOW_NS, SC_NR_CPUS, T_MEMCG, SC_NR_NODES,
    SC_NR_ZONES, SC_TASK, SC_TOTALRESERVE, TASK_STRIDE, T_DIRTY_PAUSED_NS, T_NR_DIRTIED, T_NR_DIRTIED_PAUSE, WB_AWAKE, WB_BACKGROUND_BYTES,
    WB_BACKGROUND_RATIO, WB_BALANCE, WB_BALANCED_RATELIMIT, WB_BANDWIDTH, WB_AVG_BANDWIDTH, WB_BW_DIRTIED, WB_BW_NS, WB_BW_WRITTEN,
    WB_CLOCK_NS, WB_DIRTY_BYTES, WB_DIRTY_LIMIT, WB_DIRTY_RATIO, WB_EXPIRE_NS, WB_INTERVAL_NS, WB_IO_NEXT_NS, WB_NEXT_NS, WB_RATELIMIT,
    WB_STATS_NS, WB_TIMER_NS, WB_WORK, ZONE_STRIDE, Z_BOOT_LRU, Z_FREE, Z_LRU, Z_WRITE_PENDING,
)
from mmlab.model.vmstat import V_NR_DIRTIED, V_NR_DIRTY, V_NR_WRITEBACK, V_NR_WRITTEN, VMSTAT_STRIDE, mod_node_state

PAGE_SIZE = 1 << PAGE_SHIFT
JIFFY_NS = 1_000_000_000 // HZ
BANDWIDTH_INTERVAL_NS = 200_000_000
MAX_PAUSE = HZ // 5  # jiffies
DIRTY_POLL_THRESH = 128 >> (PAGE_SHIFT - 10)  # pages
INIT_BW = 100 << (20 - PAGE_SHIFT)  # pages a second: 100 MiB/s
RATIO_SHIFT = 10  # of position ratios: 1 << 10 is 1
HZ_ROUNDED = 256  # HZ as a power of two
BW_PERIOD = 1024  # jiffies, a power of two above three seconds
BW_PERIOD_SHIFT = 10


def init_writeback(machine: Any) -> None:
    """What boot sets of m.wb: nothing is dirty, nothing on its way."""
    wb = machine.wb
    wb[WB_DIRTY_RATIO], wb[WB_BACKGROUND_RATIO] = 20, 10
    wb[WB_INTERVAL_NS], wb[WB_EXPIRE_NS] = 5_000_000_000, 30_000_000_000
    wb[WB_STATS_NS] = STATS_FIRST_NS
    wb[[WB_NEXT_NS, WB_TIMER_NS, WB_IO_NEXT_NS]] = NEVER_NS
    wb[[WB_RATELIMIT, WB_BALANCED_RATELIMIT, WB_BANDWIDTH, WB_AVG_BANDWIDTH]] = INIT_BW


@leaf
def global_node_page_state(m, item):
    """A counter of all nodes."""
    pages = 0
    for node in range(m.sc[SC_NR_NODES]):
        pages += m.vmstat[node * VMSTAT_STRIDE + item]
    return pages


@leaf
def global_dirtyable_memory(m):
    """Pages that may hold dirty data: free ones beyond the reserves, and the file lists."""
    free = 0
    cached = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        free += m.zone[base + Z_FREE]
        for lru in range(LRU_INACTIVE_FILE, LRU_ACTIVE_FILE + 1):
            cached += m.zone[base + Z_LRU + lru] + m.zone[base + Z_BOOT_LRU + lru]
    return free - min(free, m.sc[SC_TOTALRESERVE]) + cached + 1


@leaf
def _limit(m, bytes_field, ratio_field, available):
    size = m.wb[bytes_field]
    if size:
        return (size + PAGE_SIZE - 1) >> PAGE_SHIFT
    return m.wb[ratio_field] * PAGE_SIZE // 100 * available >> PAGE_SHIFT


@leaf
def dirty_threshold(m):
    """Dirty pages at which writers have to wait (nr_dirty_threshold)."""
    return _limit(m, WB_DIRTY_BYTES, WB_DIRTY_RATIO, global_dirtyable_memory(m))


@leaf
def background_threshold(m, threshold):
    """Dirty pages from which on the flusher writes, given dirty_threshold()."""
    background = _limit(m, WB_BACKGROUND_BYTES, WB_BACKGROUND_RATIO, global_dirtyable_memory(m))
    return background if background < threshold else threshold // 2


@leaf
def memcg_headroom(m, memcg):
    """Pages that a cgroup may still be charged for before it, or one above it, is at its limit."""
    headroom = MEMCG_MAX
    while memcg > 0:
        row = memcg * MEMCG_STRIDE
        ceiling = min(m.memcg[row + MC_MAX], m.memcg[row + MC_HIGH])
        headroom = min(headroom, ceiling - min(ceiling, m.memcg[row + MC_USAGE]))
        memcg = m.memcg[row + MC_PARENT]
    return headroom


@kernel
def memcg_dirtyable_memory(m, memcg):
    """Pages of a cgroup that may hold dirty data: its files', and what it may still take of what is clean or free elsewhere."""
    pages = m.memcg[memcg * MEMCG_STRIDE + MC_SEEN_FILE]
    everywhere = global_dirtyable_memory(m)
    dirty = global_node_page_state(m, V_NR_DIRTY)
    clean = pages - min(pages, m.memcg[memcg * MEMCG_STRIDE + MC_SEEN_DIRTY])
    global_clean = everywhere - min(everywhere, dirty)
    return pages + min(memcg_headroom(m, memcg), global_clean - min(global_clean, clean))


@leaf
def _memcg_limit(m, bytes_field, ratio_field, available):
    """A limit for a cgroup; one in bytes is the share of all dirtyable memory that it is for the machine."""
    ratio = m.wb[ratio_field] * PAGE_SIZE // 100
    if m.wb[bytes_field]:
        everywhere = global_dirtyable_memory(m)
        ratio = min((m.wb[bytes_field] + everywhere - 1) // everywhere, PAGE_SIZE)
    return ratio * available >> PAGE_SHIFT


@kernel
def memcg_dirty_threshold(m, memcg):
    """dirty_threshold() of a cgroup, by its statistics."""
    mem_cgroup_flush_stats(m)
    return _memcg_limit(m, WB_DIRTY_BYTES, WB_DIRTY_RATIO, memcg_dirtyable_memory(m, memcg))


@kernel
def memcg_background_threshold(m, memcg, threshold):
    """background_threshold() of a cgroup, given memcg_dirty_threshold()."""
    background = _memcg_limit(m, WB_BACKGROUND_BYTES, WB_BACKGROUND_RATIO, memcg_dirtyable_memory(m, memcg))
    return background if background < threshold else threshold // 2


@kernel
def set_dirty_limit(m):
    """writeback_set_ratelimit(): the limit starts from the threshold of now."""
    m.wb[WB_DIRTY_LIMIT] = dirty_threshold(m)
    return 0


@leaf
def ilog2(value):
    """Floor of the binary logarithm of a value of at least 1."""
    log = 0
    while value > 1:
        value >>= 1
        log += 1
    return log


@leaf
def wakeup_flusher(m):
    """The flusher runs at the next chance."""
    if m.wb[WB_AWAKE] == 0:
        m.wb[WB_AWAKE] = 1
        m.wb[WB_CLOCK_NS] = max(m.wb[WB_CLOCK_NS], m.sc[SC_NOW_NS])
        m.sc[SC_NEXT_EVENT_NS] = 0


@leaf
def folio_start_writeback(m, pfn):
    """The page is being written: nobody frees it until folio_end_writeback()."""
    page_set(m, pfn, PG_WRITEBACK)
    nr = folio_nr_pages(m, pfn)
    mod_node_state(m, page_node(m, pfn), V_NR_WRITEBACK, nr)
    mod_memcg_pages(m, pfn, MC_NR_WRITEBACK, nr)
    if page_test(m, pfn, PG_SWAPBACKED):  # a file's page counts from its dirtying on
        m.zone[page_zone(m, pfn) * ZONE_STRIDE + Z_WRITE_PENDING] += nr


@kernel
def folio_end_writeback(m, pfn):
    """The write has ended. A page that reclaim waits for becomes the next victim."""
    node = page_node(m, pfn)
    nr = folio_nr_pages(m, pfn)
    rotate = page_test_clear(m, pfn, PG_RECLAIM)
    page_clear(m, pfn, PG_WRITEBACK)
    mod_node_state(m, node, V_NR_WRITEBACK, -nr)
    mod_memcg_pages(m, pfn, MC_NR_WRITEBACK, -nr)
    mod_node_state(m, node, V_NR_WRITTEN, nr)
    m.zone[page_zone(m, pfn) * ZONE_STRIDE + Z_WRITE_PENDING] -= nr
    if page_test(m, pfn, PG_SWAPBACKED) == 0:
        m.inode[page_mapping(m, pfn) * INODE_STRIDE + I_NR_WRITEBACK] -= 1
        m.memcg[inode_wb(m, page_mapping(m, pfn)) * MEMCG_STRIDE + MC_WB_DIRTY] -= 1
    if rotate:
        reclaimer_folio_rotate(m, pfn)
    return 0


@leaf
def _update_write_bandwidth(m, written, elapsed):
    """The disk's bandwidth from what was written in so many jiffies, averaged over three seconds, and its smoother follower."""
    amount = (written - m.wb[WB_BW_WRITTEN]) * HZ
    average, old = m.wb[WB_AVG_BANDWIDTH], m.wb[WB_BANDWIDTH]
    if elapsed > BW_PERIOD:
        bandwidth = average = amount // elapsed
    else:
        bandwidth = amount + old * (BW_PERIOD - elapsed) >> BW_PERIOD_SHIFT
        if average > old >= bandwidth:
            average -= average - old >> 3
        elif average < old <= bandwidth:
            average += old - average >> 3
    m.wb[WB_BANDWIDTH] = bandwidth
    m.wb[WB_AVG_BANDWIDTH] = max(1, average)


@leaf
def _update_dirty_limit(m, threshold, dirty):
    """The limit follows a rising threshold at once and a falling one slowly, and not below what is dirty."""
    limit = m.wb[WB_DIRTY_LIMIT]
    floor = max(threshold, dirty)
    if limit < threshold:
        m.wb[WB_DIRTY_LIMIT] = threshold
    elif limit > floor:
        m.wb[WB_DIRTY_LIMIT] = limit - (limit - floor >> 5)


@leaf
def position_ratio(m, limit, threshold, background, dirty):
    """How much faster (above 1 << 10) or slower than the balanced rate a task may dirty: 2 at the free-run ceiling, 1 half way, 0 at the limit."""
    if dirty >= limit:
        return 0
    setpoint = ((threshold + background) // 2 + limit) // 2
    x = (abs(setpoint - dirty) << RATIO_SHIFT) // ((limit - setpoint) | 1)
    cube = (x * x >> RATIO_SHIFT) * x >> RATIO_SHIFT
    ratio = (1 << RATIO_SHIFT) + (cube if dirty < setpoint else -cube)
    ratio = max(0, min(ratio, 2 << RATIO_SHIFT))
    # the same again for the disk: a line that falls to a quarter within eight seconds' worth of its writes
    span = 8 * m.wb[WB_AVG_BANDWIDTH]
    if dirty < setpoint + span - span // 4:
        ratio = ratio * (setpoint + span - dirty) // (span | 1)
    else:
        ratio //= 4
    half = threshold // 2
    if dirty < half:  # keep the disk busy
        ratio = ratio * half // dirty if dirty > half // 8 else ratio * 8
    return ratio


@leaf
def _update_ratelimit(m, dirtied, elapsed, ratio, dirty, setpoint):
    """The balanced rate: what tasks dirtied, scaled to what the disk wrote; it moves slowly, and not where the next estimate may take it back."""
    rate = m.wb[WB_RATELIMIT]
    dirty_rate = (dirtied - m.wb[WB_BW_DIRTIED]) * HZ // elapsed
    task_rate = (rate * ratio >> RATIO_SHIFT) + 1
    balanced = min(task_rate * m.wb[WB_AVG_BANDWIDTH] // (dirty_rate | 1), m.wb[WB_AVG_BANDWIDTH])
    step = 0
    if dirty < setpoint:
        step = max(0, min(m.wb[WB_BALANCED_RATELIMIT], balanced, task_rate) - rate)
    else:
        step = max(0, rate - max(m.wb[WB_BALANCED_RATELIMIT], balanced, task_rate))
    shift = rate // (2 * step + 1)
    step = ((step >> shift) + 7) // 8 if shift < 64 else 0
    m.wb[WB_RATELIMIT] = max(1, rate + step if rate < balanced else rate - step)
    m.wb[WB_BALANCED_RATELIMIT] = balanced


@kernel
def wb_update_bandwidth(m, throttled):
    """Every 200 ms: the estimates of the disk's bandwidth and, while a task is being throttled, of the rate that balances it. Returns 1 if updated."""
    elapsed = (m.sc[SC_NOW_NS] - m.wb[WB_BW_NS]) // JIFFY_NS
    if m.sc[SC_NOW_NS] - m.wb[WB_BW_NS] < BANDWIDTH_INTERVAL_NS:
        return 0
    threshold = dirty_threshold(m)
    background = background_threshold(m, threshold)
    dirty = global_node_page_state(m, V_NR_DIRTY) + global_node_page_state(m, V_NR_WRITEBACK)
    written = global_node_page_state(m, V_NR_WRITTEN)
    dirtied = global_node_page_state(m, V_NR_DIRTIED)
    _update_dirty_limit(m, threshold, dirty)
    if throttled:
        limit = max(m.wb[WB_DIRTY_LIMIT], threshold)
        ratio = position_ratio(m, limit, threshold, background, dirty)
        setpoint = ((threshold + background) // 2 + limit) // 2
        _update_ratelimit(m, dirtied, elapsed, ratio, dirty, setpoint)
    _update_write_bandwidth(m, written, elapsed)
    m.wb[WB_BW_NS] = m.sc[SC_NOW_NS]
    m.wb[WB_BW_WRITTEN] = written
    m.wb[WB_BW_DIRTIED] = dirtied
    return 1


@leaf
def wb_max_pause(m, dirty):
    """Longest pause in jiffies: the disk must not run dry meanwhile."""
    return min(dirty // (1 + m.wb[WB_AVG_BANDWIDTH] // 32) + 1, MAX_PAUSE)


@leaf
def wb_stat_error(m):
    """Dirty pages that a disk's counter may be off by."""
    return m.sc[SC_NR_CPUS] * 8 * (1 + ilog2(m.sc[SC_NR_CPUS]))


@leaf
def dirty_poll_interval(dirty, threshold):
    """Pages that a task may dirty before it looks again, while it runs free."""
    return 1 << (ilog2(threshold - dirty) >> 1) if threshold > dirty else 1


@kernel
def wb_min_pause(m, task, max_pause, task_rate):
    """Shortest pause in jiffies that is worth its switch; sets how many pages the task may dirty until its next look."""
    rate = m.wb[WB_RATELIMIT]
    pause = max(1, HZ // 100)
    gap = ilog2(max(1, m.wb[WB_AVG_BANDWIDTH])) - ilog2(rate)
    if gap > 0:
        pause += gap * (10 * HZ) // 1024  # many tasks share the disk: pauses grow
    pause = min(pause, 1 + max_pause // 2)
    pages = rate * pause // HZ_ROUNDED
    if pages < DIRTY_POLL_THRESH:
        pause = max_pause
        pages = rate * pause // HZ_ROUNDED
        if pages > DIRTY_POLL_THRESH:
            pages = DIRTY_POLL_THRESH
            pause = HZ * DIRTY_POLL_THRESH // rate
    if HZ * pages // (task_rate + 1) > max_pause:
        pause = max_pause
        pages = task_rate * pause // HZ_ROUNDED
    m.task[task * TASK_STRIDE + T_NR_DIRTIED_PAUSE] = max(1, pages)
    return 1 + pause // 2 if pages >= DIRTY_POLL_THRESH else pause


@kernel
def balance_dirty_pages(m):
    """The running task has dirtied its share (m.wb[WB_BALANCE]): wake the flusher above the background threshold; the ns that the task has to
    sleep, 0 while less than half way between the thresholds is dirty. At the limit WB_BALANCE stays set: it has to look again after its sleep."""
    m.wb[WB_BALANCE] = 0
    task = m.sc[SC_TASK]
    if task < 0:
        return 0
    row = task * TASK_STRIDE
    now = m.sc[SC_NOW_NS]
    threshold = dirty_threshold(m)
    background = background_threshold(m, threshold)
    reclaimable = global_node_page_state(m, V_NR_DIRTY)
    dirty = reclaimable + global_node_page_state(m, V_NR_WRITEBACK)
    throttled = dirty > (threshold + background) // 2
    memcg = m.task[row + T_MEMCG]
    memcg_threshold = memcg_background = memcg_dirty = 0
    if memcg > 0:
        memcg_threshold = memcg_dirty_threshold(m, memcg)
        memcg_background = memcg_background_threshold(m, memcg, memcg_threshold)
        memcg_dirty = m.memcg[memcg * MEMCG_STRIDE + MC_SEEN_DIRTY] + m.memcg[memcg * MEMCG_STRIDE + MC_SEEN_WRITEBACK]
        throttled = throttled or memcg_dirty > (memcg_threshold + memcg_background) // 2
    if (reclaimable > background or throttled) and m.wb[WB_WORK] == 0:
        wakeup_flusher(m)
    if not throttled:
        m.task[row + T_NR_DIRTIED] = 0
        m.task[row + T_NR_DIRTIED_PAUSE] = dirty_poll_interval(dirty, threshold)
        if memcg > 0:
            m.task[row + T_NR_DIRTIED_PAUSE] = min(m.task[row + T_NR_DIRTIED_PAUSE], dirty_poll_interval(memcg_dirty, memcg_threshold))
        m.task[row + T_DIRTY_PAUSED_NS] = now
        return 0
    wb_update_bandwidth(m, 1)
    ratio = position_ratio(m, max(m.wb[WB_DIRTY_LIMIT], threshold), threshold, background, dirty)
    if memcg > 0:  # the stricter of the two
        of_memcg = position_ratio(m, memcg_threshold, memcg_threshold, memcg_background, memcg_dirty)
        if of_memcg < ratio:
            ratio, dirty = of_memcg, m.memcg[memcg * MEMCG_STRIDE + MC_WB_DIRTY]
    task_rate = m.wb[WB_RATELIMIT] * ratio >> RATIO_SHIFT
    max_pause = wb_max_pause(m, dirty)
    min_pause = wb_min_pause(m, task, max_pause, task_rate)
    if task_rate == 0:
        m.wb[WB_BALANCE] = 1 if memcg == 0 or m.memcg[memcg * MEMCG_STRIDE + MC_WB_DIRTY] > wb_stat_error(m) else 0  # not for others' files
        pause = max_pause * JIFFY_NS
    else:
        period = HZ * m.task[row + T_NR_DIRTIED] // task_rate * JIFFY_NS
        pause = period
        if m.task[row + T_DIRTY_PAUSED_NS]:
            pause -= now - m.task[row + T_DIRTY_PAUSED_NS]
        if pause < min_pause * JIFFY_NS:
            # not worth a sleep yet: the time is owed, unless it is the task that was slow
            if pause < -HZ * JIFFY_NS:
                m.task[row + T_DIRTY_PAUSED_NS] = now
                m.task[row + T_NR_DIRTIED] = 0
            elif period:
                m.task[row + T_DIRTY_PAUSED_NS] += period
                m.task[row + T_NR_DIRTIED] = 0
            elif m.task[row + T_NR_DIRTIED_PAUSE] <= m.task[row + T_NR_DIRTIED]:
                m.task[row + T_NR_DIRTIED_PAUSE] += m.task[row + T_NR_DIRTIED]
            return 0
        if pause > max_pause * JIFFY_NS:
            now += min(pause - max_pause * JIFFY_NS, max_pause * JIFFY_NS)
            pause = max_pause * JIFFY_NS
    m.task[row + T_DIRTY_PAUSED_NS] = now + pause
    m.task[row + T_NR_DIRTIED] = 0
    return pause
