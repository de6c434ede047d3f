"""kcompactd, a thread a node: compacts for a block that an allocation missed, and when memory has become too fragmented.

It is woken by kswapd (reclaim made room, but not in blocks) and by requests that cannot compact by themselves; every half second it looks at
the node's fragmentation score. m.node[N_KCOMPACTD_*] is what it keeps, m.sc[SC_KCOMPACTD_NS] when it is needed next.
Models: mm/compaction.c wakeup_kcompactd(), kcompactd_node_suitable(), kcompactd_do_work(), kcompactd(), should_proactive_compact_node().
A proactive run shares the CPU, by time slices of m.sc[SC_KSWAPD_SLICE_NS], or has one of its own.
Left out: preemption of a run for a block that was missed, and while what was taken of a pageblock moves. Cost: O(pages of the node) a run.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import page_allocator_can_alloc, page_allocator_drain, reclaimer_drain
from mmlab.kernels.runnable import wanted_by_others
from mmlab.kernels.services import kcompactd_run
from mmlab.kernels.zones import in_reach, wmark_pages, zone_watermark_order0
from mmlab.mm.compaction_block import MIGRATE_SYNC_LIGHT
from mmlab.mm.compaction import (
    WHOLE_MEMORY, begin_run, compact_zone, compaction_defer_reset, compaction_deferred, compaction_suitable, continue_run, defer_compaction,
    describe_run, end_run, fragmentation_score_node, fragmentation_score_wmark, put_run_off, take_run_up,
)
from mmlab.model.const import COMPACT_COMPLETE, COMPACT_CONTINUE, COMPACT_PARTIAL_SKIPPED, COMPACT_SUCCESS, NEVER_NS
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.rows import (
    CC_FREE_SCANNED, CC_MIGRATE_SCANNED, CC_PROACTIVE, CC_UNTIL_NS, NODE_STRIDE, N_KCOMPACTD_AWAKE, N_KCOMPACTD_IDX, N_KCOMPACTD_NEXT_NS,
    N_KCOMPACTD_ORDER, N_KCOMPACTD_SCORE, N_KCOMPACTD_ZONE, N_KSWAPD_AWAKE, SC_KCOMPACTD_NS, SC_KSWAPD_SLICE_NS, SC_NEXT_EVENT_NS, SC_NOW_NS,
    SC_NR_CPUS, SC_NR_NODES, SC_NR_ZONES, SC_PROACTIVENESS, ZONE_STRIDE, Z_INDEX, Z_NODE,
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
def compact_node_proactively(m, node, until_ns):
    """Zone after zone, each until its score is low enough; goes on where m.node[N_KCOMPACTD_ZONE] says. Returns 1 if time is up before the end."""
    base = node * NODE_STRIDE
    first = m.node[base + N_KCOMPACTD_ZONE] - 1
    if first < 0:
        m.node[base + N_KCOMPACTD_SCORE] = fragmentation_score_node(m, node)
        for cpu in range(m.sc[SC_NR_CPUS]):
            reclaimer_drain(m, cpu)
    for zone in range(max(0, first), m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] != node:
            continue
        if zone == first:
            take_run_up(m, node)
        else:
            describe_run(m, zone, WHOLE_MEMORY, MIGRATE_SYNC_LIGHT, 0, 1, 0)
            m.cc[CC_PROACTIVE] = 1
            begin_run(m)
        m.cc[CC_UNTIL_NS] = until_ns
        if continue_run(m) == COMPACT_CONTINUE:
            m.node[base + N_KCOMPACTD_ZONE] = zone + 1
            put_run_off(m, node)
            return 1
        end_run(m)
        count_daemon(m)
    m.node[base + N_KCOMPACTD_ZONE] = 0
    return 0


@kernel
def do_kcompactd_run(m, node, until_ns):
    """Service kcompactd_run."""
    if until_ns:
        return compact_node_proactively(m, node, until_ns)
    kcompactd_do_work(m, node)
    return 0


@kernel
def proactive_turn(m, node):
    """A node's kcompactd begins a proactive run or goes on with it: on one CPU a slice, else on a CPU of its own as far as the clock is."""
    base, now = node * NODE_STRIDE, m.sc[SC_NOW_NS]
    if m.sc[SC_NR_CPUS] == 1:
        goes_on = kcompactd_run(m, node, now + m.sc[SC_KSWAPD_SLICE_NS])
        wait = m.sc[SC_KSWAPD_SLICE_NS] if wanted_by_others(m) else 0
    else:
        if m.node[base + N_KCOMPACTD_ZONE]:
            m.sc[SC_NOW_NS] = m.node[base + N_KCOMPACTD_NEXT_NS]
        goes_on = kcompactd_run(m, node, now + 1)
        wait = 0
    if goes_on == 0:
        progress = fragmentation_score_node(m, node) < m.node[base + N_KCOMPACTD_SCORE]
        wait = CHECK_INTERVAL_NS if progress else CHECK_INTERVAL_NS << NO_PROGRESS_SHIFT
    m.node[base + N_KCOMPACTD_NEXT_NS] = m.sc[SC_NOW_NS] + wait
    return 0


@kernel
def kcompactd(m):
    """What the threads of all nodes have to do now. Returns ns until one of them is needed again."""
    upcoming = NEVER_NS
    for node in range(m.sc[SC_NR_NODES]):
        base, now = node * NODE_STRIDE, m.sc[SC_NOW_NS]
        due = m.node[base + N_KCOMPACTD_NEXT_NS]
        if m.node[base + N_KCOMPACTD_ZONE]:
            if now >= due:
                proactive_turn(m, node)
        # what made no sense when it was asked for is tried when the thread wakes by itself
        elif m.node[base + N_KCOMPACTD_AWAKE] or (m.node[base + N_KCOMPACTD_ORDER] > 0 and due != PROACTIVE_TRIGGER and m.sc[SC_NOW_NS] >= due):
            m.node[base + N_KCOMPACTD_AWAKE] = 0
            kcompactd_run(m, node, 0)
            m.node[base + N_KCOMPACTD_NEXT_NS] = m.sc[SC_NOW_NS] + CHECK_INTERVAL_NS
        elif m.sc[SC_NOW_NS] >= due:
            if should_proactive_compact_node(m, node):
                proactive_turn(m, node)
            else:
                m.node[base + N_KCOMPACTD_NEXT_NS] = now + CHECK_INTERVAL_NS
        if m.sc[SC_PROACTIVENESS] == 0 and m.node[base + N_KCOMPACTD_ZONE] == 0:
            m.node[base + N_KCOMPACTD_NEXT_NS] = NEVER_NS
        if m.sc[SC_NR_CPUS] > 1:
            m.sc[SC_NOW_NS] = now  # it worked on another CPU
        upcoming = min(upcoming, m.node[base + N_KCOMPACTD_NEXT_NS])
    return max(0, upcoming - m.sc[SC_NOW_NS])
