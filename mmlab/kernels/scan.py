"""What a reclaimer counts: pages looked at, refilled and reclaimed, with the simulated time they take.

Models: the pgscan_*, pgsteal_*, pgrefill counters of mm/vmscan.c shrink_inactive_list(), shrink_active_list(), folio_check_dirty_writeback(). A cgroup's own reclaim counts
in that cgroup's memory.stat and only by kind (anon, file) in /proc/vmstat.
"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.likely import unlikely
from mmlab.model.const import SCAN_KSWAPD
from mmlab.model.page import PG_DIRTY, PG_RECLAIM, PG_WRITEBACK
from mmlab.model.rows import (
    COST_RECLAIM_PAGE, COST_SCAN_PAGE, SC_NOW_NS, SC_NR_SCANNED, SC_PREEMPT_NS, SC_RECLAIM_MEMCG, SC_SHRINK_MEMCG, WB_SC_CONGESTED,
    WB_SC_DIRTY, WB_SC_TAKEN, WB_SC_UNQUEUED_DIRTY,
)
from mmlab.model.vmstat import (
    VMSTAT_STRIDE, V_PGREFILL, V_PGSCAN_ANON, V_PGSCAN_DIRECT, V_PGSCAN_FILE, V_PGSCAN_KSWAPD, V_PGSTEAL_ANON, V_PGSTEAL_DIRECT,
    V_PGSTEAL_FILE, V_PGSTEAL_KSWAPD,
)


@leaf
def _count(m, item, n):
    m.memcg_stat[m.sc[SC_SHRINK_MEMCG] * VMSTAT_STRIDE + item] += n
    if m.sc[SC_RECLAIM_MEMCG] == 0:
        m.vmstat[item] += n


@leaf
def count_scan(m, scan_flags, is_file, nr_scanned):
    """nr_scanned pages of one kind were looked at."""
    _count(m, V_PGSCAN_KSWAPD if scan_flags & SCAN_KSWAPD else V_PGSCAN_DIRECT, nr_scanned)
    m.vmstat[V_PGSCAN_FILE if is_file else V_PGSCAN_ANON] += nr_scanned
    m.sc[SC_NR_SCANNED] += nr_scanned
    m.sc[SC_NOW_NS] += nr_scanned * m.cost[COST_SCAN_PAGE]


@leaf
def count_steal(m, scan_flags, is_file, nr_reclaimed):
    """nr_reclaimed pages of one kind were freed."""
    _count(m, V_PGSTEAL_KSWAPD if scan_flags & SCAN_KSWAPD else V_PGSTEAL_DIRECT, nr_reclaimed)
    m.vmstat[V_PGSTEAL_FILE if is_file else V_PGSTEAL_ANON] += nr_reclaimed
    m.sc[SC_NOW_NS] += nr_reclaimed * m.cost[COST_RECLAIM_PAGE]


@leaf
def count_dirty(m, flags, nr_pages):
    """Isolated pages of a file, by their flags: how much of what a pass takes waits for its write-back (m.wb[WB_SC_*])."""
    m.wb[WB_SC_TAKEN] += nr_pages
    if flags & (PG_DIRTY | PG_WRITEBACK):
        m.wb[WB_SC_DIRTY] += nr_pages
        if flags & PG_WRITEBACK == 0:
            m.wb[WB_SC_UNQUEUED_DIRTY] += nr_pages
        elif flags & PG_RECLAIM:
            m.wb[WB_SC_CONGESTED] += nr_pages


@leaf
def count_refill(m, nr_scanned):
    """nr_scanned pages of an active list or an old generation were sorted."""
    _count(m, V_PGREFILL, nr_scanned)


@leaf
def need_resched(m):
    """1 if the thread that reclaims has to give the CPU up: it is asked after each page of a batch."""
    return 1 if unlikely(m.sc[SC_NOW_NS] >= m.sc[SC_PREEMPT_NS]) else 0
