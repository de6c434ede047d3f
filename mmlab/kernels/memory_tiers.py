"""Memory tiers as reclaim and promotion see them. Models: mm/memory-tiers.c next_demotion_node(), node_is_toptier(); mm/vmscan.c can_demote()."""

from mmlab.kernels.jit import leaf
from mmlab.model.const import SCAN_PROACTIVE
from mmlab.model.rows import N_DEMOTION_TARGETS, N_TOPTIER, NODE_STRIDE, SC_DEMOTION_ENABLED


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
