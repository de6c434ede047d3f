"""What a reclaimer counts: pages looked at and pages reclaimed, with the simulated time they take.

Models: the pgscan_*, pgsteal_* counters of mm/vmscan.c shrink_inactive_list().
"""

from mmlab.kernels.jit import leaf
from mmlab.model.const import SCAN_KSWAPD
from mmlab.model.rows import COST_RECLAIM_PAGE, COST_SCAN_PAGE, SC_NOW_NS
from mmlab.model.vmstat import (
    V_PGSCAN_ANON, V_PGSCAN_DIRECT, V_PGSCAN_FILE, V_PGSCAN_KSWAPD, V_PGSTEAL_ANON, V_PGSTEAL_DIRECT, V_PGSTEAL_FILE, V_PGSTEAL_KSWAPD,
)


@leaf
def count_scan(m, scan_flags, is_file, nr_scanned):
    """nr_scanned pages of one kind were looked at."""
    m.vmstat[V_PGSCAN_KSWAPD if scan_flags & SCAN_KSWAPD else V_PGSCAN_DIRECT] += nr_scanned
    m.vmstat[V_PGSCAN_FILE if is_file else V_PGSCAN_ANON] += nr_scanned
    m.sc[SC_NOW_NS] += nr_scanned * m.cost[COST_SCAN_PAGE]


@leaf
def count_steal(m, scan_flags, is_file, nr_reclaimed):
    """nr_reclaimed pages of one kind were freed."""
    m.vmstat[V_PGSTEAL_KSWAPD if scan_flags & SCAN_KSWAPD else V_PGSTEAL_DIRECT] += nr_reclaimed
    m.vmstat[V_PGSTEAL_FILE if is_file else V_PGSTEAL_ANON] += nr_reclaimed
    m.sc[SC_NOW_NS] += nr_reclaimed * m.cost[COST_RECLAIM_PAGE]
