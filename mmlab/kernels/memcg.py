"""Memory cgroups as a reclaimer sees them: whose lruvec a page is on, who is whose parent, how much swap a cgroup may still take.

A lruvec is a node's share of a cgroup: number memcg * nr_nodes + node, so the root's lruvecs have the nodes' numbers.
Models: include/linux/memcontrol.h folio_lruvec(), mem_cgroup_lruvec(), parent_mem_cgroup(); mm/memcontrol.c
mem_cgroup_get_nr_swap_pages(), count_memcg_events(); mm/vmscan.c get_scan_count() (protection).
"""

from mmlab.kernels.jit import leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.zones import page_node
from mmlab.model.const import SWAP_CLUSTER_MAX
from mmlab.model.page import page_memcg
from mmlab.model.rows import (
    MC_PARENT, MC_SWAP_MAX, MC_SWAP_USAGE, MC_USAGE, MEMCG_STRIDE, SC_NR_MEMCGS, SC_NR_NODES, SC_NR_SWAP_FREE, SC_PROTECTION,
    SC_SHRINK_MEMCG, SC_TASK, TASK_STRIDE, T_MEMCG,
)
from mmlab.model.vmstat import VMSTAT_STRIDE

#: Statistics are refreshed after 2.5, 4.5, 6.5 s of uptime (measured). When a run begins depends on the host, at 2.5 to 3.9 s here: it is taken
#: to be 3.45 s, within what recorded runs allow. In cyclic scans no shadow was lost, as they are if 1.2 s and more pass before the first
#: refresh; under pressure that begins 0.87 s after the script, active pages were still deactivated by the sizes that lists had at boot.
STATS_FIRST_NS = 1_050_000_000
STATS_PERIOD_NS = 2_016_000_000  # 500 jiffies, which the timer wheel makes 504


@leaf
def next_stats_refresh(now_ns):
    """When statistics of cgroups are refreshed next, in simulated ns."""
    if now_ns < STATS_FIRST_NS:
        return STATS_FIRST_NS
    return now_ns + STATS_PERIOD_NS - (now_ns - STATS_FIRST_NS) % STATS_PERIOD_NS


@leaf
def page_lruvec(m, pfn):
    """The lruvec that the page belongs to."""
    if m.sc[SC_NR_MEMCGS] <= 1:
        return page_node(m, pfn)
    return page_memcg(m, pfn) * m.sc[SC_NR_NODES] + page_node(m, pfn)


@leaf
def lruvec_node(m, lruvec):
    """The lruvec's node."""
    return lruvec % m.sc[SC_NR_NODES]


@leaf
def lruvec_memcg(m, lruvec):
    """The lruvec's cgroup."""
    return lruvec // m.sc[SC_NR_NODES]


@leaf
def nr_lruvecs(m):
    """Lruvecs of all cgroups there are."""
    return max(1, m.sc[SC_NR_MEMCGS]) * m.sc[SC_NR_NODES]


@leaf
def parent_lruvec(m, lruvec):
    """The same node's lruvec of the parent cgroup; -1 above the root."""
    if m.sc[SC_NR_MEMCGS] <= 1:
        return -1
    parent = m.memcg[lruvec // m.sc[SC_NR_NODES] * MEMCG_STRIDE + MC_PARENT]
    return parent * m.sc[SC_NR_NODES] + lruvec % m.sc[SC_NR_NODES] if parent >= 0 else -1


@leaf
def memcg_is_descendant(m, memcg, root):
    """1 if memcg is root or below it."""
    at = memcg
    while at > root:  # parents have lower numbers
        at = m.memcg[at * MEMCG_STRIDE + MC_PARENT]
    return 1 if at == root else 0


@leaf
def memcg_swap_pages(m, memcg):
    """Pages that the cgroup may still put into swap."""
    left = m.sc[SC_NR_SWAP_FREE]
    at = memcg
    while at > 0:
        base = at * MEMCG_STRIDE
        left = min(left, m.memcg[base + MC_SWAP_MAX] - m.memcg[base + MC_SWAP_USAGE])
        at = m.memcg[base + MC_PARENT]
    return left


@leaf
def protected_size(m, size):
    """What may be scanned of a list of this size: less what memory.min and memory.low keep of the cgroup that is being shrunk."""
    protection = m.sc[SC_PROTECTION]
    if protection == 0:
        return size
    usage = max(m.memcg[m.sc[SC_SHRINK_MEMCG] * MEMCG_STRIDE + MC_USAGE], protection)
    return max(size - size * protection // (usage + 1), SWAP_CLUSTER_MAX)


@leaf
def count_memcg_event_mm(m, item):
    """An event of the running task: its cgroup's count (the machine's is the caller's)."""
    if unlikely(m.sc[SC_NR_MEMCGS] > 1) and m.sc[SC_TASK] >= 0:
        m.memcg_stat[m.task[m.sc[SC_TASK] * TASK_STRIDE + T_MEMCG] * VMSTAT_STRIDE + item] += 1


@leaf
def count_folio_events(m, pfn, item, n):
    """n events of a page: the machine's and its cgroup's."""
    m.vmstat[item] += n
    if m.sc[SC_NR_MEMCGS] > 1:
        m.memcg_stat[page_memcg(m, pfn) * VMSTAT_STRIDE + item] += n
