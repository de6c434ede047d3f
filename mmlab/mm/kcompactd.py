"""kcompactd, a thread a node: compacts for a block that an allocation missed, and when memory has become too fragmented.

It is woken by kswapd (reclaim made room, but not in blocks) and by requests that cannot compact by themselves; every half second it looks at
the node's fragmentation score. m.node[N_KCOMPACTD_*] is what it keeps, m.sc[SC_KCOMPACTD_NS] when it is needed next.
Models: mm/compaction.c wakeup_kcompactd(), kcompactd_node_suitable(), kcompactd_do_work(), kcompactd(), should_proactive_compact_node().
Left out: preemption within a run over a node. Cost: O(pages of the node) a run.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import page_allocator_can_alloc, page_allocator_drain
from mmlab.kernels.services import kcompactd_run
from mmlab.kernels.zones import in_reach, wmark_pages, zone_watermark_order0
from mmlab.mm.compaction_block import MIGRATE_SYNC_LIGHT
from mmlab.mm.compaction import (
    compact_node, compact_zone, compaction_defer_reset, compaction_deferred, compaction_suitable, defer_compaction, describe_run,
    fragmentation_score_node, fragmentation_score_wmark,
)
from mmlab.model.const import COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED, COMPACT_SUCCESS, NEVER_NS
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.rows import (
    CC_FREE_SCANNED, CC_MIGRATE_SCANNED, N_KCOMPACTD_AWAKE, N_KCOMPACTD_IDX, N_KCOMPACTD_NEXT_NS, N_KCOMPACTD_ORDER, N_KSWAPD_AWAKE,
    NODE_STRIDE, SC_KCOMPACTD_NS, SC_NEXT_EVENT_NS, SC_NOW_NS, SC_NR_CPUS, SC_NR_NODES, SC_NR_ZONES, SC_PROACTIVENESS, Z_INDEX, ZONE_STRIDE,
)
from mmlab.model.vmstat import V_COMPACT_DAEMON_FREE_SCANNED, V_COMPACT_DAEMON_MIGRATE_SCANNED, V_COMPACT_DAEMON_WAKE

CHECK_INTERVAL_NS = 500_000_000
PROACTIVE_TRIGGER = 0  # m.node[N_KCOMPACTD_NEXT_NS]: look at the score at once
NO_PROGRESS_SHIFT = 6  # a proactive run that did not help puts the next look off by so many doublings


@leaf
def compaction_suit_allocation_order(m, zone, order, highest):
    """1 if the zone lacks a block of the order, and compaction has the room to make one."""
    if zone_watermark_order0(m, zone, order, wmark_pages(m, zone, 0), highest, 0) and page_allocator_can_alloc(m, zone, order, 0):
        return 0
    return compaction_suitable(m, zone, order, highest)


@kernel
def do_wakeup_kcompactd(m, node, order, highest):
    """Service wakeup_kcompactd: ask for a block of the order in zones up to `highest`; the thread runs if that makes sense. Returns 0."""
    if order == 0:
        return 0
    base = node * NODE_STRIDE
    m.node[base + N_KCOMPACTD_ORDER] = max(m.node[base + N_KCOMPACTD_ORDER], order)
    m.node[base + N_KCOMPACTD_IDX] = min(m.node[base + N_KCOMPACTD_IDX], highest)
    for zone in range(m.sc[SC_NR_ZONES]):
        if in_reach(m, zone, node, m.node[base + N_KCOMPACTD_IDX]):
            if compaction_suit_allocation_order(m, zone, m.node[base + N_KCOMPACTD_ORDER], m.node[base + N_KCOMPACTD_IDX]):
                m.node[base + N_KCOMPACTD_AWAKE] = 1
                m.sc[SC_KCOMPACTD_NS] = m.sc[SC_NEXT_EVENT_NS] = 0
                return 0
    return 0


@kernel
def kcompactd_do_work(m, node):
    """Compact the node's zones one after the other for the largest order that was asked for; failures are put off as those of others are."""
    base = node * NODE_STRIDE
    order, highest = m.node[base + N_KCOMPACTD_ORDER], m.node[base + N_KCOMPACTD_IDX]
    m.vmstat[V_COMPACT_DAEMON_WAKE] += 1
    for zone in range(m.sc[SC_NR_ZONES]):
        if in_reach(m, zone, node, highest) == 0 or compaction_deferred(m, zone, order):
            continue
        if compaction_suit_allocation_order(m, zone, order, m.zone[zone * ZONE_STRIDE + Z_INDEX]) == 0:
            continue
        describe_run(m, zone, order, MIGRATE_SYNC_LIGHT, 0, 0, 0)
        result = compact_zone(m)
        if result == COMPACT_SUCCESS:
            compaction_defer_reset(m, zone, order, 0)
        elif result == COMPACT_PARTIAL_SKIPPED or result == COMPACT_COMPLETE:
            for cpu in range(m.sc[SC_NR_CPUS]):
                page_allocator_drain(m, zone, cpu)
            defer_compaction(m, zone, order)
        count_daemon(m)
    if m.node[base + N_KCOMPACTD_ORDER] <= order:
        m.node[base + N_KCOMPACTD_ORDER] = 0
    if m.node[base + N_KCOMPACTD_IDX] >= highest:
        m.node[base + N_KCOMPACTD_IDX] = ZONE_MOVABLE
    return 0


@leaf
def count_daemon(m):
    """What the run just over scanned, as kcompactd's."""
    m.vmstat[V_COMPACT_DAEMON_MIGRATE_SCANNED] += m.cc[CC_MIGRATE_SCANNED]
    m.vmstat[V_COMPACT_DAEMON_FREE_SCANNED] += m.cc[CC_FREE_SCANNED]


@leaf
def should_proactive_compact_node(m, node):
    """1 if the node's score is above the mark, and kswapd sleeps."""
    if m.sc[SC_PROACTIVENESS] == 0 or m.node[node * NODE_STRIDE + N_KSWAPD_AWAKE]:
        return 0
    return 1 if fragmentation_score_node(m, node) > fragmentation_score_wmark(m, 0) else 0


@kernel
def do_kcompactd_run(m, node, proactive):
    """Service kcompactd_run."""
    score = fragmentation_score_node(m, node)
    if proactive:
        compact_node(m, node, 1)
    else:
        kcompactd_do_work(m, node)
    return 1 if fragmentation_score_node(m, node) < score else 0


@kernel
def kcompactd(m):
    """What the threads of all nodes have to do now. Returns ns until one of them is needed again."""
    upcoming = NEVER_NS
    for node in range(m.sc[SC_NR_NODES]):
        base = node * NODE_STRIDE
        wait = CHECK_INTERVAL_NS
        due = m.node[base + N_KCOMPACTD_NEXT_NS]
        # what made no sense when it was asked for is tried when the thread wakes by itself
        if m.node[base + N_KCOMPACTD_AWAKE] or (m.node[base + N_KCOMPACTD_ORDER] > 0 and due != PROACTIVE_TRIGGER and m.sc[SC_NOW_NS] >= due):
            m.node[base + N_KCOMPACTD_AWAKE] = 0
            kcompactd_run(m, node, 0)
            m.node[base + N_KCOMPACTD_NEXT_NS] = m.sc[SC_NOW_NS] + wait
        elif m.sc[SC_NOW_NS] >= due:
            if should_proactive_compact_node(m, node) and kcompactd_run(m, node, 1) == 0:
                wait <<= NO_PROGRESS_SHIFT
            m.node[base + N_KCOMPACTD_NEXT_NS] = m.sc[SC_NOW_NS] + wait
        if m.sc[SC_PROACTIVENESS] == 0:
            m.node[base + N_KCOMPACTD_NEXT_NS] = NEVER_NS
        upcoming = min(upcoming, m.node[base + N_KCOMPACTD_NEXT_NS] - m.sc[SC_NOW_NS])
    return upcoming
