"""Reclaim as the core sees it: passes over nodes and cgroups, and direct reclaim. Which page is a victim is the reclaimer's business.

Models: mm/vmscan.c try_to_free_pages(), try_to_free_mem_cgroup_pages(), do_try_to_free_pages(), shrink_node(), shrink_node_memcgs(),
reclaim_throttle(); mm/memcontrol.c mem_cgroup_calculate_protection().
Left out: throttling of direct reclaim by free memory, recursive protection (a mount option).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import split_queue
from mmlab.kernels.likely import unlikely
from mmlab.kernels.memcg import memcg_is_descendant, nr_lruvecs
from mmlab.kernels.memory_tiers import can_demote
from mmlab.kernels.ops import reclaimer_end_reclaim, reclaimer_nr_lru_pages, reclaimer_prepare_scan, reclaimer_shrink_node
from mmlab.kernels.services import shrink_slab, shrink_slab_memcg, wakeup_flusher_threads, wb_step, writeback_timers
from mmlab.kernels.trace import trace_event
from mmlab.kernels.zones import request_zone, zonelist_of
from mmlab.mm.lru_gen import driver_polls
from mmlab.mm.page_counter import memcg_memory_event
from mmlab.mm.page_io import NEVER_NS, blk_flush_plug, swap_io_next_ns, swap_io_poll
from mmlab.mm.psi import psi_memstall_enter, psi_memstall_leave
from mmlab.mm.reclaim_fault import blame_reclaimer
from mmlab.mm.swap import lru_add_drain
from mmlab.mm.xarray import shadow_list
from mmlab.model.const import (
    DEF_PRIORITY, HZ, LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, NOTE_LOW_SKIPPED, NOTE_SKIPPED_DEACTIVATE,
    NOTE_TRIM_MODE, NOTE_TRIM_MODE_FAILED, SCAN_FORCE_DEACTIVATE, SCAN_KSWAPD, SCAN_LOW_RECLAIM, SCAN_MAY_SWAP, SCAN_MAY_UNMAP,
    SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT, SCAN_RESUME, SWAP_CLUSTER_MAX,
)
from mmlab.model.gfp import ZONE_MOVABLE
from mmlab.model.rows import (
    EVENT_DIRECT_RECLAIM_BEGIN, EVENT_DIRECT_RECLAIM_END, EVENT_MEMCG_RECLAIM_BEGIN, EVENT_MEMCG_RECLAIM_END, MC_ELOW, MC_EMIN,
    MC_EVENT_LOW, MC_MIN, MC_PARENT, MC_USAGE, MEMCG_STRIDE, NODE_STRIDE, N_KSWAPD_FAILURES, N_PASS_MEMCG, RECLAIM_NOTHING,
    SC_INODE_TOP, SC_IN_RECLAIM, SC_KSWAPD_SLICE_NS, SC_NODE, SC_NOW_NS, SC_NR_FREED, SC_NR_MEMCGS, SC_NR_NODES, SC_NR_RECLAIMED,
    SC_NR_SCANNED, SC_NR_SWAP_FREE, SC_NR_ZONES, SC_POLL_NS, SC_PROACTIVE, SC_PROTECTION, SC_RECLAIM_MEMCG, SC_RECLAIM_NOTES,
    SC_SCAN_PRIORITY, SC_SHRINK_MEMCG, SC_YIELDED, SHR_NR, TRACE_ORDER, WB_AWAKE, WB_IO_NEXT_NS, WB_SC_CONGESTED, WB_SC_DIRTY, WB_SC_TAKEN,
    WB_SC_UNQUEUED_DIRTY, ZONELIST_STRIDE, ZONE_STRIDE, ZSW_SHRINKER, Z_INDEX, Z_MANAGED, Z_NODE, Z_WRITE_PENDING,
)
from mmlab.model.vmstat import V_ALLOCSTALL_DMA, V_NR_SLAB_RECLAIMABLE

MAX_RECLAIM_RETRIES = 16
JIFFY_NS = 1_000_000_000 // HZ


@leaf
def node_reclaimable_pages(m, node):
    """File pages, and anonymous ones while there is swap or a slower node to put them in."""
    pages = 0
    lruvec = node
    while lruvec < nr_lruvecs(m):
        pages += reclaimer_nr_lru_pages(m, lruvec, LRU_INACTIVE_FILE) + reclaimer_nr_lru_pages(m, lruvec, LRU_ACTIVE_FILE)
        if m.sc[SC_NR_SWAP_FREE] > 0 or can_demote(m, node, 0):
            pages += reclaimer_nr_lru_pages(m, lruvec, LRU_INACTIVE_ANON) + reclaimer_nr_lru_pages(m, lruvec, LRU_ACTIVE_ANON)
        lruvec += m.sc[SC_NR_NODES]
    return pages


@leaf
def zone_reclaimable_pages(m, zone):
    """What reclaim could free in a zone, from its node's lists in proportion to what the zone manages (exact on a node with one large zone)."""
    base = zone * ZONE_STRIDE
    node = m.zone[base + Z_NODE]
    managed = 0
    for other in range(m.sc[SC_NR_ZONES]):
        if m.zone[other * ZONE_STRIDE + Z_NODE] == node:
            managed += m.zone[other * ZONE_STRIDE + Z_MANAGED]
    return node_reclaimable_pages(m, node) * m.zone[base + Z_MANAGED] // max(1, managed)


@leaf
def set_protection(m, root, memcg, scan_flags):
    """Effective memory.min and memory.low of a cgroup under reclaim of root; 1 if it may be reclaimed from at all. Parents come before.

    A child's part of its parent's protection is cut down in proportion where the children ask for more than there is. What is left of its
    lists to scan follows from m.sc[SC_PROTECTION] (mmlab.kernels.memcg protected_size()).
    """
    m.sc[SC_PROTECTION] = 0
    if memcg == root:
        return 1
    base = memcg * MEMCG_STRIDE
    parent = m.memcg[base + MC_PARENT]
    usage = m.memcg[base + MC_USAGE]
    for which in range(2):
        mine = min(usage, m.memcg[base + MC_MIN + which])
        if parent != root:
            whole = m.memcg[parent * MEMCG_STRIDE + MC_EMIN + which]
            asked = 0
            for sibling in range(1, m.sc[SC_NR_MEMCGS]):
                row = sibling * MEMCG_STRIDE
                if m.memcg[row + MC_PARENT] == parent:
                    asked += min(m.memcg[row + MC_USAGE], m.memcg[row + MC_MIN + which])
            if asked > whole:
                mine = mine * whole // asked
        else:
            mine = m.memcg[base + MC_MIN + which]
        m.memcg[base + MC_EMIN + which] = mine
    low = m.memcg[base + MC_ELOW]
    if usage <= m.memcg[base + MC_EMIN]:
        return 0
    m.sc[SC_PROTECTION] = m.memcg[base + MC_EMIN]
    if usage <= low:
        if scan_flags & SCAN_LOW_RECLAIM == 0:
            m.sc[SC_RECLAIM_NOTES] |= NOTE_LOW_SKIPPED
            return 0
        memcg_memory_event(m, memcg, MC_EVENT_LOW)
    elif scan_flags & SCAN_LOW_RECLAIM == 0 and low > m.memcg[base + MC_EMIN]:
        m.sc[SC_PROTECTION] = low
        m.sc[SC_RECLAIM_NOTES] |= NOTE_LOW_SKIPPED
    return 1


@leaf
def css_next_descendant_pre(m, memcg, at):
    """The first of a cgroup and its descendants from number `at` on, or m.sc[SC_NR_MEMCGS] (1 without cgroups) if there is none.
    Left out: that a child made after its uncle comes before him."""
    nr_memcgs = max(1, m.sc[SC_NR_MEMCGS])
    while at < nr_memcgs and not memcg_is_descendant(m, at, memcg):
        at += 1
    return at


@kernel
def shrink_node_memcgs(m, node, memcg, nr_to_reclaim, scan_flags, full):
    """One pass over the node's lruvecs of a cgroup and its descendants: pages reclaimed. Unless full, a pass that got enough stops, and the next one
    goes on behind it, or from the beginning if nothing is left there. kswapd, preempted (m.sc[SC_YIELDED]), goes on with SCAN_RESUME."""
    nr_memcgs = max(1, m.sc[SC_NR_MEMCGS])
    iterator = memcg * m.sc[SC_NR_NODES] + node
    at = css_next_descendant_pre(m, memcg, 0 if full else m.reclaim_iter[iterator])
    if at == nr_memcgs:
        at = css_next_descendant_pre(m, memcg, 0)
    resumed = m.node[node * NODE_STRIDE + N_PASS_MEMCG] - 1 if scan_flags & SCAN_RESUME else -1
    if resumed >= 0:
        at = resumed
    flags = scan_flags
    reclaimed = 0
    m.sc[SC_YIELDED] = 0
    while at < nr_memcgs:
        enough = 0
        if at == resumed or set_protection(m, memcg, at, scan_flags):
            m.sc[SC_SHRINK_MEMCG] = at
            freed = m.sc[SC_NR_FREED]
            got = reclaimer_shrink_node(m, at * m.sc[SC_NR_NODES] + node, m.sc[SC_SCAN_PRIORITY], nr_to_reclaim, flags)
            if unlikely(got > 0 and m.sc[SC_NR_FREED] == freed and flags & SCAN_RESUME == 0):
                blame_reclaimer(m, RECLAIM_NOTHING, got)
                got = 0
            if (m.memcg[shadow_list(at) + SHR_NR] or m.memcg[split_queue(at) + SHR_NR] or m.zswap[ZSW_SHRINKER]) and m.sc[SC_YIELDED] == 0:
                shrink_slab_memcg(m, at, m.sc[SC_SCAN_PRIORITY])
            if at == 0 and m.sc[SC_INODE_TOP] > 0 and m.sc[SC_YIELDED] == 0:
                pages = m.vmstat[V_NR_SLAB_RECLAIMABLE]
                shrink_slab(m, m.sc[SC_SCAN_PRIORITY])
                got += pages - m.vmstat[V_NR_SLAB_RECLAIMABLE]
            reclaimed += got
            m.sc[SC_NR_RECLAIMED] += got
            if m.sc[SC_YIELDED]:
                m.node[node * NODE_STRIDE + N_PASS_MEMCG] = at + 1
                break
            blk_flush_plug(m)
            enough = full == 0 and m.sc[SC_NR_RECLAIMED] >= nr_to_reclaim
        flags &= ~SCAN_RESUME
        if enough:
            break
        at = css_next_descendant_pre(m, memcg, at + 1)
    if full == 0:
        m.reclaim_iter[iterator] = at + 1 if at < nr_memcgs else 0
    m.sc[SC_PROTECTION] = 0
    m.sc[SC_SHRINK_MEMCG] = 0
    return reclaimed


@leaf
def let_flusher_run(m, ns):
    """Time passes, for so long at most, in which the flusher and the disk work; it ends when neither has anything to do."""
    end = m.sc[SC_NOW_NS] + ns
    while m.sc[SC_NOW_NS] < end:
        if wb_step(m) == 0:
            if m.wb[WB_IO_NEXT_NS] > end:
                break
            m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], m.wb[WB_IO_NEXT_NS])
        writeback_timers(m)


@leaf
def reclaim_throttle(m):
    """Reclaim waits a tick for what is being written: VMSCAN_THROTTLE_CONGESTED, _NOPROGRESS."""
    end = m.sc[SC_NOW_NS] + JIFFY_NS
    let_flusher_run(m, JIFFY_NS)
    m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], end)


@leaf
def mostly_written(m):
    """skip_throttle_noprogress(): 1 if no more than half of what reclaim could free is dirty or under write-back."""
    pending = 0
    reclaimable = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        pending += m.zone[zone * ZONE_STRIDE + Z_WRITE_PENDING]
        reclaimable += zone_reclaimable_pages(m, zone)
    return 1 if 2 * pending <= reclaimable else 0


@kernel
def shrink_node(m, node, memcg, priority, nr_to_reclaim, scan_flags, full):
    """One pass of the reclaimer over a node for the root (memcg 0) or a cgroup, with its simulated time: pages reclaimed."""
    was = m.sc[SC_IN_RECLAIM]
    m.sc[SC_IN_RECLAIM] = 1
    m.sc[SC_RECLAIM_MEMCG] = memcg
    m.sc[SC_SCAN_PRIORITY] = priority
    if m.wb[WB_AWAKE] or m.sc[SC_NOW_NS] >= m.wb[WB_IO_NEXT_NS]:
        let_flusher_run(m, m.sc[SC_KSWAPD_SLICE_NS])  # woken by the last pass, it does not wait for the end of this run
    swap_io_poll(m)
    if unlikely(m.sc[SC_NOW_NS] >= m.sc[SC_POLL_NS]):
        driver_polls(m)
    scanned = m.sc[SC_NR_SCANNED]
    if scan_flags & SCAN_RESUME == 0:
        m.wb[WB_SC_TAKEN] = m.wb[WB_SC_DIRTY] = m.wb[WB_SC_UNQUEUED_DIRTY] = m.wb[WB_SC_CONGESTED] = 0
        lru_add_drain(m)
        reclaimer_prepare_scan(m, memcg * m.sc[SC_NR_NODES] + node, priority, nr_to_reclaim, scan_flags)
    reclaimed = shrink_node_memcgs(m, node, memcg, nr_to_reclaim, scan_flags, full)
    if reclaimed > 0:
        m.node[node * NODE_STRIDE + N_KSWAPD_FAILURES] = 0
    elif m.sc[SC_RECLAIM_NOTES] & NOTE_TRIM_MODE:
        m.sc[SC_RECLAIM_NOTES] |= NOTE_TRIM_MODE_FAILED
    if reclaimed == 0 and m.wb[WB_SC_TAKEN] == 0 and m.sc[SC_NR_SCANNED] > scanned and m.sc[SC_YIELDED] == 0:
        wakeup_flusher_threads(m)  # a policy that does not say what it met
    if scan_flags & SCAN_KSWAPD == 0 and m.wb[WB_SC_DIRTY] and m.wb[WB_SC_DIRTY] == m.wb[WB_SC_CONGESTED]:
        reclaim_throttle(m)
    m.sc[SC_RECLAIM_MEMCG] = 0
    m.sc[SC_IN_RECLAIM] = was
    return reclaimed


@leaf
def wait_for_swap_io(m):
    """A pass that got nothing waits a tick at most for what is being written to swap.

    Linux does this at priority 1 (VMSCAN_THROTTLE_NOPROGRESS), and not in a cgroup's own reclaim. Here that waits after each pass: on small
    lists passes take so little time that all 16 tries would be over before a disk has answered.
    """
    if swap_io_next_ns(m) < NEVER_NS:
        m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], min(m.sc[SC_NOW_NS] + JIFFY_NS, swap_io_next_ns(m)))


@kernel
def do_try_to_free_pages(m, memcg, first, highest, nr_to_reclaim, scan_flags):
    """Passes of rising pressure until enough is reclaimed: pages reclaimed. If all that gets nothing, the same again with what was spared
    before: all cgroups in each pass, then active pages, then cgroups below memory.low. first: where the zonelist begins in m.zonelist."""
    flags = scan_flags
    full = 0
    m.sc[SC_RECLAIM_NOTES] = 0
    while True:
        m.sc[SC_NR_RECLAIMED] = 0
        priority = DEF_PRIORITY
        last = -1
        while priority >= 0:
            at = first
            last = -1
            m.sc[SC_NR_SCANNED] = 0
            while m.zonelist[at] >= 0:
                base = m.zonelist[at] * ZONE_STRIDE
                at += 1
                if m.zone[base + Z_INDEX] <= highest and m.zone[base + Z_NODE] != last:
                    last = m.zone[base + Z_NODE]
                    shrink_node(m, last, memcg, priority, nr_to_reclaim, flags, full)
            if m.sc[SC_NR_RECLAIMED] >= nr_to_reclaim:
                break
            if m.sc[SC_NR_RECLAIMED] == 0 and (memcg or priority == 1):
                wait_for_swap_io(m)
            if priority == 1 and m.sc[SC_NR_RECLAIMED] == 0 and mostly_written(m) == 0:
                reclaim_throttle(m)
            priority -= 1
        for node in range(m.sc[SC_NR_NODES]):
            reclaimer_end_reclaim(m, memcg * m.sc[SC_NR_NODES] + node)
        if m.sc[SC_NR_RECLAIMED] > 0:
            return m.sc[SC_NR_RECLAIMED]
        if full == 0 and m.sc[SC_NR_MEMCGS] > 1:
            full = 1
        elif m.sc[SC_RECLAIM_NOTES] & NOTE_SKIPPED_DEACTIVATE and flags & SCAN_FORCE_DEACTIVATE == 0:
            flags |= SCAN_FORCE_DEACTIVATE
        elif m.sc[SC_RECLAIM_NOTES] & NOTE_LOW_SKIPPED and flags & SCAN_LOW_RECLAIM == 0:
            flags = (flags | SCAN_LOW_RECLAIM) & ~SCAN_FORCE_DEACTIVATE
            m.sc[SC_RECLAIM_NOTES] = 0
        else:
            return 0


@kernel
def try_to_free_pages(m, gfp, order, node):
    """Direct reclaim of at least 32 pages from the zonelist's nodes: pages reclaimed, 0 when nothing could be."""
    highest = request_zone(m, gfp)
    m.vmstat[V_ALLOCSTALL_DMA + highest] += 1
    flags = SCAN_MAY_SWAP | SCAN_MAY_WRITEPAGE | SCAN_MAY_UNMAP | (highest << SCAN_RECLAIM_IDX_SHIFT)
    first = zonelist_of(node, gfp)
    psi_memstall_enter(m)
    m.trace[TRACE_ORDER] = order
    trace_event(m, EVENT_DIRECT_RECLAIM_BEGIN, order, gfp, 0, 0, 0)
    reclaimed = do_try_to_free_pages(m, 0, first, highest, SWAP_CLUSTER_MAX, flags)
    trace_event(m, EVENT_DIRECT_RECLAIM_END, reclaimed, 0, 0, 0, 0)
    psi_memstall_leave(m)
    return reclaimed


@kernel
def try_to_free_mem_cgroup_pages(m, memcg, nr_pages, may_swap, proactive):
    """Reclaim of at least 32 pages from a cgroup and its descendants on all nodes: pages reclaimed. proactive: memory.reclaim asks."""
    flags = SCAN_MAY_WRITEPAGE | SCAN_MAY_UNMAP | (ZONE_MOVABLE << SCAN_RECLAIM_IDX_SHIFT)
    if may_swap:
        flags |= SCAN_MAY_SWAP
    first = max(0, m.sc[SC_NODE]) * ZONELIST_STRIDE
    m.sc[SC_PROACTIVE] = proactive
    m.trace[TRACE_ORDER] = 0
    trace_event(m, EVENT_MEMCG_RECLAIM_BEGIN, 0, 0, 0, 0, 0)
    reclaimed = do_try_to_free_pages(m, memcg, first, ZONE_MOVABLE, max(nr_pages, SWAP_CLUSTER_MAX), flags)
    m.sc[SC_PROACTIVE] = 0
    trace_event(m, EVENT_MEMCG_RECLAIM_END, reclaimed, 0, 0, 0, 0)
    return reclaimed
