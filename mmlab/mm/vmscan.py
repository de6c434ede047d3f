"""Reclaim as the core sees it: kswapd, direct reclaim, and what happens to one victim. Which page is a victim is the reclaimer's business.

Models: mm/vmscan.c try_to_free_pages(), try_to_free_mem_cgroup_pages(), do_try_to_free_pages(), shrink_node(), shrink_node_memcgs(),
balance_pgdat(), wakeup_kswapd(), kswapd_try_to_sleep(), pgdat_balanced(); mm/memcontrol.c mem_cgroup_calculate_protection().
Left out: throttling of direct reclaim by free memory, what is asked of a kswapd that is awake, recursive protection (a mount option).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memory_tiers import can_demote
from mmlab.kernels.memcg import memcg_is_descendant, nr_lruvecs
from mmlab.kernels.ops import (
    page_allocator_can_alloc, reclaimer_age_node, reclaimer_end_reclaim, reclaimer_eviction_shadow, reclaimer_folio_removed,
    reclaimer_nr_lru_pages, reclaimer_prepare_scan, reclaimer_shrink_node,
)
from mmlab.kernels.large_folio import PG_PARTIALLY_MAPPED, SPLIT_QUEUE, entire_mapcount, nr_pages_mapped, page_pte_mapcount
from mmlab.kernels.services import free_pages, rmap_walk, shrink_slab, wakeup_flusher_threads, wakeup_kcompactd, wb_step, writeback_timers
from mmlab.kernels.zones import page_node, request_zone, wmark_pages, zone_watermark_order0
from mmlab.mm.compaction_scan import reset_isolation_suitable
from mmlab.mm.demotion import demote_folio
from mmlab.mm.huge_memory import free_large_folio, split_folio, split_huge_pmds_of
from mmlab.mm.page_cache import filemap_remove
from mmlab.mm.page_counter import memcg_memory_event
from mmlab.mm.page_io import NEVER_NS, blk_flush_plug, swap_io_next_ns, swap_io_poll, swap_writepage
from mmlab.mm.psi import psi_memstall_enter, psi_memstall_leave
from mmlab.mm.shmem import shmem_writepage
from mmlab.mm.swap import lru_add_drain
from mmlab.mm.swap_state import add_to_swap, delete_from_swap_cache
from mmlab.model.const import (
    DEF_PRIORITY, HPAGE_PMD_ORDER, HZ, LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, NOTE_LOW_SKIPPED,
    NOTE_SKIPPED_DEACTIVATE, NOTE_TRIM_MODE, NOTE_TRIM_MODE_FAILED, NUMA_BALANCING_MEMORY_TIERING, RECLAIM_ACTIVATE, RECLAIM_FREED, RECLAIM_KEEP, RMAP_DIRTY, RMAP_UNMAP,
    SCAN_FORCE_DEACTIVATE, SCAN_KSWAPD, SCAN_LOW_RECLAIM, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_NO_TRIM_MODE,
    SCAN_RECLAIM_IDX_SHIFT, SCAN_RESUME, SWAP_CLUSTER_MAX,
)
from mmlab.model.gfp import GFP_THISNODE, ZONE_MOVABLE
from mmlab.model.page import (
    NO_MAPPING, PG_ANON, PG_DIRTY, PG_HEAD, PG_MLOCKED, PG_RECLAIM, PG_SWAPBACKED, PG_SWAPCACHE, PG_UNEVICTABLE, PG_WRITEBACK, page_clear,
    page_mapcount, page_order, page_refs, page_set, page_test, set_page_counts, set_page_mapping,
)
from mmlab.model.rows import (
    CZ_BLOCKSKIP_FLUSH, CZ_STRIDE, MC_ELOW, MC_EMIN, MC_EVENT_LOW, MC_ITER,
    MC_MIN, MC_PARENT, MC_USAGE, MEMCG_STRIDE, MTHP_STRIDE, MTHP_SWPOUT_FALLBACK, NODE_STRIDE, N_KSWAPD_AWAKE,
    N_KSWAPD_ALLOC_ORDER, N_KSWAPD_BOOST, N_KSWAPD_ORDER, N_KSWAPD_FAILURES, N_KSWAPD_FLAGS, N_KSWAPD_IDX, N_KSWAPD_LIGHT_SLEEP_NS, N_KSWAPD_PRIORITY, N_KSWAPD_RECLAIMED,
    N_KSWAPD_WAKE_NS, N_PASS_MEMCG, N_PASS_NOTES, N_PASS_RECLAIMED, N_PASS_SCANNED, SC_IN_RECLAIM,
    SC_KSWAPD_AWAKE, SC_NEXT_EVENT_NS, SC_NODE, SC_NOW_NS, SC_NR_MEMCGS, SC_NR_NODES, SC_NR_RECLAIMED,
    SC_NR_SCANNED, SC_NR_SWAP_FREE, SC_NR_SWAP_SLOTS, SC_NR_ZONES, SC_NUMA_BALANCING, SC_PROACTIVE, SC_PROTECTION, SC_RECLAIM_MEMCG, SC_RECLAIM_NOTES,
    SC_INODE_TOP, SC_KSWAPD_SLICE_NS, SC_SCAN_PRIORITY, SC_SHRINK_MEMCG, SC_YIELDED, SHR_NR, ZONELIST_STRIDE,
    WB_AWAKE, WB_IO_NEXT_NS, WB_SC_CONGESTED, WB_SC_DIRTY, WB_SC_TAKEN, WB_SC_UNQUEUED_DIRTY, ZONELIST_THISNODE, ZONE_RECLAIM_ACTIVE,
    ZONE_STRIDE, Z_FLAGS, Z_INDEX, Z_MANAGED, Z_NODE, Z_WATERMARK_BOOST, Z_WRITE_PENDING,
)
from mmlab.model.vmstat import (
    V_ALLOCSTALL_DMA, V_KSWAPD_LOW_WMARK_HIT_QUICKLY, V_NR_SLAB_RECLAIMABLE, V_NR_VMSCAN_IMMEDIATE_RECLAIM, V_NR_VMSCAN_WRITE,
    V_PAGEOUTRUN, V_PGLAZYFREED, V_THP_SWPOUT_FALLBACK,
)

MAX_RECLAIM_RETRIES = 16
JIFFY_NS = 1_000_000_000 // HZ
LIGHT_SLEEP_NS = 100_000_000  # kswapd is counted as woken quickly when it had slept for less


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


@kernel
def shrink_node_memcgs(m, node, memcg, nr_to_reclaim, scan_flags, full):
    """One pass over the node's lruvecs of a cgroup and its descendants: pages reclaimed. Unless full, a pass that got enough stops, and
    the next one goes on behind it. kswapd, preempted (m.sc[SC_YIELDED]), goes on with SCAN_RESUME."""
    nr_memcgs = max(1, m.sc[SC_NR_MEMCGS])
    row = memcg * MEMCG_STRIDE + MC_ITER
    at = 0
    if full == 0 and m.memcg[row] > memcg and m.memcg[row] < nr_memcgs:
        at = m.memcg[row]
    resumed = m.node[node * NODE_STRIDE + N_PASS_MEMCG] - 1 if scan_flags & SCAN_RESUME else -1
    if resumed >= 0:
        at = resumed
    flags = scan_flags
    reclaimed = 0
    m.sc[SC_YIELDED] = 0
    while at < nr_memcgs:
        if at == resumed or (memcg_is_descendant(m, at, memcg) and set_protection(m, memcg, at, scan_flags)):
            m.sc[SC_SHRINK_MEMCG] = at
            got = reclaimer_shrink_node(m, at * m.sc[SC_NR_NODES] + node, m.sc[SC_SCAN_PRIORITY], nr_to_reclaim, flags)
            if at == 0 and (m.sc[SC_INODE_TOP] > 0 or m.shrinker[SPLIT_QUEUE + SHR_NR]) and m.sc[SC_YIELDED] == 0:
                pages = m.vmstat[V_NR_SLAB_RECLAIMABLE]
                shrink_slab(m, m.sc[SC_SCAN_PRIORITY])
                got += pages - m.vmstat[V_NR_SLAB_RECLAIMABLE]
            reclaimed += got
            m.sc[SC_NR_RECLAIMED] += got
            if m.sc[SC_YIELDED]:
                m.node[node * NODE_STRIDE + N_PASS_MEMCG] = at + 1
                break
            blk_flush_plug(m)
        flags &= ~SCAN_RESUME
        at += 1
        if full == 0 and m.sc[SC_NR_RECLAIMED] >= nr_to_reclaim:
            break
    m.memcg[row] = at
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
    m.wb[WB_SC_TAKEN] = m.wb[WB_SC_DIRTY] = m.wb[WB_SC_UNQUEUED_DIRTY] = m.wb[WB_SC_CONGESTED] = 0
    scanned = m.sc[SC_NR_SCANNED]
    if scan_flags & SCAN_RESUME == 0:
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
    first = node * ZONELIST_STRIDE + (ZONELIST_THISNODE if gfp & GFP_THISNODE else 0)
    psi_memstall_enter(m)
    reclaimed = do_try_to_free_pages(m, 0, first, highest, SWAP_CLUSTER_MAX, flags)
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
    reclaimed = do_try_to_free_pages(m, memcg, first, ZONE_MOVABLE, max(nr_pages, SWAP_CLUSTER_MAX), flags)
    m.sc[SC_PROACTIVE] = 0
    return reclaimed


@leaf
def pgdat_balanced(m, node, order, highest):
    """1 if some zone of the node up to `highest` is above its high watermark (with memory tiers above promo, which leaves room to promote)
    and has a block of the order."""
    which = 3 if m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING else 2
    managed = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node and m.zone[base + Z_INDEX] <= highest:
            managed = 1
            if zone_watermark_order0(m, zone, order, wmark_pages(m, zone, which), highest, 0):
                if order == 0 or page_allocator_can_alloc(m, zone, order, 0):
                    return 1
    return 1 - managed


@leaf
def pgdat_boost(m, node, highest):
    """Pages of watermark boost of the node's zones up to `highest`."""
    boost = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node and m.zone[base + Z_INDEX] <= highest:
            boost += m.zone[base + Z_WATERMARK_BOOST]
    return boost


@kernel
def wakeup_kswapd(m, node, order):
    """Make the node's kswapd runnable; 1 if it stays asleep: the node is balanced, or kswapd has given up."""
    base = node * NODE_STRIDE
    if m.node[base + N_KSWAPD_AWAKE]:
        return 0
    highest = 3
    if m.node[base + N_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES:
        return 1
    if pgdat_balanced(m, node, order, highest) and pgdat_boost(m, node, highest) == 0:
        return 1
    m.node[base + N_KSWAPD_AWAKE] = 1
    m.node[base + N_KSWAPD_ORDER] = m.node[base + N_KSWAPD_ALLOC_ORDER] = order
    if m.sc[SC_NOW_NS] < m.node[base + N_KSWAPD_LIGHT_SLEEP_NS]:
        m.vmstat[V_KSWAPD_LOW_WMARK_HIT_QUICKLY] += 1
    m.node[base + N_KSWAPD_IDX] = highest
    m.node[base + N_KSWAPD_WAKE_NS] = m.sc[SC_NOW_NS]
    m.sc[SC_KSWAPD_AWAKE] += 1
    m.sc[SC_NEXT_EVENT_NS] = 0  # it preempts at the next chance
    _begin_balance(m, node, pgdat_boost(m, node, highest), 0)
    m.vmstat[V_PAGEOUTRUN] += 1
    return 0


@leaf
def _begin_balance(m, node, boost, flags):
    """A run of balance_pgdat() starts. boost: pages of watermark boost to reclaim gently; flags: SCAN_NO_TRIM_MODE in a second try."""
    base = node * NODE_STRIDE
    m.node[base + N_KSWAPD_PRIORITY] = DEF_PRIORITY
    m.node[base + N_KSWAPD_BOOST] = boost
    m.node[base + N_KSWAPD_RECLAIMED] = 0
    m.node[base + N_KSWAPD_FLAGS] = flags
    _set_reclaim_active(m, node, 1)


@leaf
def _set_reclaim_active(m, node, on):
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node:
            if on:
                m.zone[base + Z_FLAGS] |= ZONE_RECLAIM_ACTIVE
            else:
                m.zone[base + Z_FLAGS] &= ~ZONE_RECLAIM_ACTIVE
                m.zone[base + Z_WATERMARK_BOOST] = 0


@leaf
def _end_balance(m, node):
    """A run of balance_pgdat() is over."""
    _set_reclaim_active(m, node, 0)
    reclaimer_end_reclaim(m, node)


@leaf
def _kswapd_sleep(m, node):
    _end_balance(m, node)
    base = node * NODE_STRIDE
    m.node[base + N_KSWAPD_AWAKE] = 0
    m.node[base + N_KSWAPD_LIGHT_SLEEP_NS] = m.sc[SC_NOW_NS] + LIGHT_SLEEP_NS
    m.sc[SC_KSWAPD_AWAKE] -= 1
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node and m.compact[zone * CZ_STRIDE + CZ_BLOCKSKIP_FLUSH]:
            reset_isolation_suitable(m, zone)  # where compaction failed there may be room now
    if m.node[base + N_KSWAPD_ORDER] < m.node[base + N_KSWAPD_ALLOC_ORDER]:  # it reclaimed for single pages in the end
        wakeup_kcompactd(m, node, m.node[base + N_KSWAPD_ALLOC_ORDER], m.node[base + N_KSWAPD_IDX])


@leaf
def kswapd_target(m, node, highest):
    """Pages that a pass of kswapd tries for: the high watermarks of the node's zones, 32 at least of each."""
    target = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node and m.zone[base + Z_INDEX] <= highest:
            target += max(wmark_pages(m, zone, 2), SWAP_CLUSTER_MAX)
    return target


@kernel
def kswapd_step(m, node):
    """One pass of balance_pgdat() at the current priority, or going to sleep; time passes on m.sc[SC_NOW_NS]. Returns 1 while awake.

    A pass that is still going on at m.sc[SC_YIELD_NS] is preempted (where the reclaimer can be), and the next call goes on with it.
    """
    base = node * NODE_STRIDE
    if m.node[base + N_KSWAPD_AWAKE] == 0:
        return 0
    highest = m.node[base + N_KSWAPD_IDX]
    if m.node[base + N_PASS_MEMCG]:
        return _kswapd_pass(m, node, SCAN_RESUME)
    balanced = pgdat_balanced(m, node, m.node[base + N_KSWAPD_ORDER], highest)
    if balanced == 0 and m.node[base + N_KSWAPD_BOOST] > 0:
        _begin_balance(m, node, 0, 0)  # the boost is part of high: a node below it is reclaimed for in earnest
    boost = m.node[base + N_KSWAPD_BOOST]
    if balanced and boost == 0:
        _kswapd_sleep(m, node)
        return 0
    reclaimer_age_node(m, node)
    return _kswapd_pass(m, node, 0)


@kernel
def _kswapd_pass(m, node, resume):
    """A pass of kswapd, or (SCAN_RESUME) what is left of one, and what follows from what it got. Returns 1 while awake."""
    base = node * NODE_STRIDE
    highest, boost = m.node[base + N_KSWAPD_IDX], m.node[base + N_KSWAPD_BOOST]
    flags = resume | SCAN_KSWAPD | SCAN_MAY_UNMAP | (highest << SCAN_RECLAIM_IDX_SHIFT) | m.node[base + N_KSWAPD_FLAGS]
    if boost == 0:
        flags |= SCAN_MAY_SWAP | SCAN_MAY_WRITEPAGE
    target = kswapd_target(m, node, highest)
    m.sc[SC_NR_SCANNED] = m.sc[SC_NR_RECLAIMED] = m.sc[SC_RECLAIM_NOTES] = 0
    if resume:
        m.sc[SC_NR_SCANNED], m.sc[SC_NR_RECLAIMED] = m.node[base + N_PASS_SCANNED], m.node[base + N_PASS_RECLAIMED]
        m.sc[SC_RECLAIM_NOTES] = m.node[base + N_PASS_NOTES]
    psi_memstall_enter(m)
    shrink_node(m, node, 0, m.node[base + N_KSWAPD_PRIORITY], target, flags, 1)
    psi_memstall_leave(m)
    m.node[base + N_KSWAPD_PRIORITY] = m.sc[SC_SCAN_PRIORITY]
    if m.sc[SC_YIELDED]:
        m.node[base + N_PASS_SCANNED], m.node[base + N_PASS_RECLAIMED] = m.sc[SC_NR_SCANNED], m.sc[SC_NR_RECLAIMED]
        m.node[base + N_PASS_NOTES] = m.sc[SC_RECLAIM_NOTES]
        return 1
    m.node[base + N_PASS_MEMCG] = 0
    reclaimed = m.sc[SC_NR_RECLAIMED]
    m.node[base + N_KSWAPD_RECLAIMED] += reclaimed
    if reclaimed >= 2 << m.node[base + N_KSWAPD_ORDER]:
        m.node[base + N_KSWAPD_ORDER] = 0  # what is missing now is for compaction to make
    m.node[base + N_KSWAPD_BOOST] = max(0, boost - reclaimed)
    enough = max(m.sc[SC_NR_SCANNED], reclaimed) >= target
    if boost > 0 and m.sc[SC_SCAN_PRIORITY] == DEF_PRIORITY - 2:
        enough = True  # gentle reclaim goes no further
    if m.node[base + N_KSWAPD_BOOST] > 0 and reclaimed == 0:
        return _kswapd_gave_up(m, node)
    if not enough or reclaimed == 0:
        m.node[base + N_KSWAPD_PRIORITY] -= 1
    if m.node[base + N_KSWAPD_PRIORITY] >= 1:
        return 1
    if m.node[base + N_KSWAPD_RECLAIMED] == 0 and m.sc[SC_RECLAIM_NOTES] & NOTE_TRIM_MODE_FAILED and m.node[base + N_KSWAPD_FLAGS] == 0:
        _begin_balance(m, node, m.node[base + N_KSWAPD_BOOST], SCAN_NO_TRIM_MODE)
        return 1
    return _kswapd_gave_up(m, node)


@kernel
def _kswapd_gave_up(m, node):
    """A run has come to its lowest priority: the next one begins, until 16 in a row got nothing. Returns 1 while awake."""
    base = node * NODE_STRIDE
    if m.node[base + N_KSWAPD_RECLAIMED] == 0:
        m.node[base + N_KSWAPD_FAILURES] += 1
    _end_balance(m, node)
    if m.node[base + N_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES or pgdat_balanced(m, node, m.node[base + N_KSWAPD_ORDER], m.node[base + N_KSWAPD_IDX]):
        m.node[base + N_KSWAPD_AWAKE] = 0
        m.sc[SC_KSWAPD_AWAKE] -= 1
        return 0
    _begin_balance(m, node, 0, 0)
    m.vmstat[V_PAGEOUTRUN] += 1
    return 1


@kernel
def do_reclaim_folio(m, pfn, scan_flags):
    """Service reclaim_folio: RECLAIM_FREED, _KEEP or _ACTIVATE. The page is on no list; it is freed here or stays the caller's.

    Anonymous: a swap slot, unmapped, written if dirty, freed with a shadow in the slot; one that a disk is writing is kept, and freed when
    it is met again. File: unmapped; a clean page leaves a shadow; a dirty one is kept for write-back.
    """
    swap_io_poll(m)
    if page_test(m, pfn, PG_UNEVICTABLE | PG_MLOCKED):
        return RECLAIM_ACTIVATE
    if page_test(m, pfn, PG_WRITEBACK):
        page_set(m, pfn, PG_RECLAIM)
        return RECLAIM_ACTIVATE
    if can_demote(m, page_node(m, pfn), scan_flags) and demote_folio(m, pfn, scan_flags):
        return RECLAIM_FREED
    if page_test(m, pfn, PG_HEAD):
        if page_test(m, pfn, PG_ANON):
            return reclaim_large_folio(m, pfn, scan_flags)
        if split_folio(m, pfn) == 0:  # shared memory: its pages are on the lists again
            return RECLAIM_ACTIVATE
        reclaimer_folio_removed(m, pfn)
    return reclaim_small_folio(m, pfn, scan_flags)


@leaf
def pageout(m, pfn, nr):
    """Write a dirty folio of the swap cache: 1 if it is under writeback now, 0 if it can go at once."""
    page_clear(m, pfn, PG_DIRTY)
    page_set(m, pfn, PG_RECLAIM)
    swap_writepage(m, pfn)
    m.vmstat[V_NR_VMSCAN_WRITE] += nr
    if page_test(m, pfn, PG_WRITEBACK):
        return 1
    page_clear(m, pfn, PG_RECLAIM)
    return 0


@kernel
def reclaim_large_folio(m, head, scan_flags):
    """An anonymous large folio: in one piece to a device that takes such, else split, its pages on the lists again and the first one reclaimed."""
    order = page_order(m, head)
    if page_refs(m, head) > (1 if page_test(m, head, PG_SWAPCACHE) else 0):
        return RECLAIM_KEEP
    split = nr_pages_mapped(m, head) < 1 << order and entire_mapcount(m, head) == 0 and page_test(m, head + 1, PG_PARTIALLY_MAPPED)
    if scan_flags & SCAN_MAY_SWAP == 0:
        return RECLAIM_ACTIVATE
    if split == 0 and page_test(m, head, PG_SWAPCACHE) == 0 and page_test(m, head, PG_SWAPBACKED) and add_to_swap(m, head) < 0:
        split = 1
        if m.sc[SC_NR_SWAP_SLOTS] > 1:
            m.mthp[order * MTHP_STRIDE + MTHP_SWPOUT_FALLBACK] += 1
            if order == HPAGE_PMD_ORDER:
                m.vmstat[V_THP_SWPOUT_FALLBACK] += 1
    if split:
        own = page_pte_mapcount(m, head, head) + entire_mapcount(m, head)
        if split_folio(m, head) == 0:
            return RECLAIM_ACTIVATE
        if own == 0:
            return RECLAIM_FREED  # nobody mapped the first page: it is gone
        reclaimer_folio_removed(m, head)
        return reclaim_small_folio(m, head, scan_flags)
    split_huge_pmds_of(m, head)
    lazy = page_test(m, head, PG_SWAPBACKED) == 0
    if lazy and (page_test(m, head, PG_DIRTY) or rmap_walk(m, head, RMAP_DIRTY)):
        page_set(m, head, PG_SWAPBACKED)
        return RECLAIM_ACTIVATE
    rmap_walk(m, head, RMAP_UNMAP)
    if lazy:
        m.vmstat[V_PGLAZYFREED] += 1 << order
    else:
        if page_test(m, head, PG_DIRTY) and pageout(m, head, 1 << order):
            return RECLAIM_KEEP
        delete_from_swap_cache(m, head, reclaimer_eviction_shadow(m, head))
    free_large_folio(m, head, order)
    set_page_counts(m, head, 0, 0)
    set_page_mapping(m, head, NO_MAPPING)
    free_pages(m, head, order)
    return RECLAIM_FREED


@kernel
def reclaim_small_folio(m, pfn, scan_flags):
    """do_reclaim_folio() of a single page."""
    if page_refs(m, pfn) > (1 if page_test(m, pfn, PG_SWAPCACHE) or page_test(m, pfn, PG_ANON) == 0 else 0):
        return RECLAIM_KEEP
    if page_test(m, pfn, PG_ANON) and page_test(m, pfn, PG_SWAPBACKED) == 0:
        # MADV_FREE: a page written since is kept, for swap again; a clean one is dropped
        if page_test(m, pfn, PG_DIRTY) or rmap_walk(m, pfn, RMAP_DIRTY):
            page_set(m, pfn, PG_SWAPBACKED)
            return RECLAIM_ACTIVATE
        rmap_walk(m, pfn, RMAP_UNMAP)
        m.vmstat[V_PGLAZYFREED] += 1
    elif page_test(m, pfn, PG_ANON | PG_SWAPCACHE):
        if page_test(m, pfn, PG_SWAPCACHE) == 0:
            if scan_flags & SCAN_MAY_SWAP == 0 or add_to_swap(m, pfn) < 0:
                return RECLAIM_ACTIVATE
            page_set(m, pfn, PG_DIRTY)
        if page_mapcount(m, pfn) > 0:
            rmap_walk(m, pfn, RMAP_UNMAP)
            if page_mapcount(m, pfn) > 0:
                return RECLAIM_ACTIVATE
        if page_test(m, pfn, PG_DIRTY):
            if scan_flags & SCAN_MAY_WRITEPAGE == 0 or pageout(m, pfn, 1):
                return RECLAIM_KEEP
        delete_from_swap_cache(m, pfn, reclaimer_eviction_shadow(m, pfn))
    else:
        if page_mapcount(m, pfn) > 0:
            rmap_walk(m, pfn, RMAP_UNMAP)
            if page_mapcount(m, pfn) > 0:
                return RECLAIM_ACTIVATE
        if page_test(m, pfn, PG_SWAPBACKED):
            if scan_flags & SCAN_MAY_SWAP == 0 or shmem_writepage(m, pfn) < 0:
                return RECLAIM_ACTIVATE
            if pageout(m, pfn, 1):
                return RECLAIM_KEEP
            delete_from_swap_cache(m, pfn, reclaimer_eviction_shadow(m, pfn))
            set_page_counts(m, pfn, 0, 0)
            free_pages(m, pfn, 0)
            return RECLAIM_FREED
        if page_test(m, pfn, PG_DIRTY):
            page_set(m, pfn, PG_RECLAIM)
            m.vmstat[V_NR_VMSCAN_IMMEDIATE_RECLAIM] += 1
            return RECLAIM_ACTIVATE
        filemap_remove(m, pfn, reclaimer_eviction_shadow(m, pfn))
    set_page_counts(m, pfn, 0, 0)
    set_page_mapping(m, pfn, NO_MAPPING)
    free_pages(m, pfn, 0)
    return RECLAIM_FREED
