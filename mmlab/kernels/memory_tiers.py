"""Memory tiers as reclaim and promotion see them. Models: mm/memory-tiers.c next_demotion_node(), node_is_toptier(); mm/vmscan.c can_demote()."""

from mmlab.kernels.jit import leaf
from mmlab.kernels.zones import wmark_pages, zone_watermark_order0
from mmlab.model.const import SCAN_PROACTIVE
from mmlab.model.rows import (
    N_DEMOTION_TARGETS, N_TOPTIER, NODE_STRIDE, SC_DEMOTION_ENABLED, SC_NOW_NS, SC_NR_ZONES, Z_NODE, ZONE_STRIDE,
)

TICK_NS = 4_000_000


@leaf
def jiffies_ms(m):
    """Milliseconds as the kernel's tick counts them."""
    return m.sc[SC_NOW_NS] // TICK_NS * 4


@leaf
def node_is_toptier(m, node):
    """1 for a node whose memory is as fast as that of CPUs, or faster."""
    return m.node[node * NODE_STRIDE + N_TOPTIER]


@leaf
def can_demote(m, node, scan_flags):
    """1 if reclaim moves a node's pages to a slower one instead of freeing them; MADV_PAGEOUT and its kin never do."""
    if m.sc[SC_DEMOTION_ENABLED] == 0 or scan_flags & SCAN_PROACTIVE:
        return 0
    return 1 if m.node[node * NODE_STRIDE + N_DEMOTION_TARGETS] else 0


@leaf
def node_has_room(m, node, which, extra, highest):
    """1 if some zone of the node is so many pages above a watermark."""
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node and zone_watermark_order0(m, zone, 0, wmark_pages(m, zone, which) + extra, highest, 0):
            return 1
    return 0
