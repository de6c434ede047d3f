"""kswapd: a node's background reclaim on the simulated clock, from its waking to its sleep.

Models: mm/vmscan.c kswapd(), balance_pgdat(), wakeup_kswapd(), kswapd_try_to_sleep(), prepare_kswapd_sleep(), pgdat_balanced().
"""

from mmlab.kernels.jit import cold, kernel, leaf
from mmlab.kernels.ops import page_allocator_can_alloc, reclaimer_age_node, reclaimer_end_reclaim
from mmlab.kernels.pte import lru_gen_use_mm
from mmlab.kernels.services import wakeup_kcompactd
from mmlab.kernels.trace import trace_event
from mmlab.kernels.zones import in_reach, wmark_pages, zone_watermark_order0
from mmlab.mm.compaction_reset import reset_isolation_suitable
from mmlab.mm.psi import psi_memstall_enter, psi_memstall_leave
from mmlab.mm.vmscan import MAX_RECLAIM_RETRIES, shrink_node
from mmlab.model.const import (
    DEF_PRIORITY, NEVER_NS, NOTE_TRIM_MODE_FAILED, NUMA_BALANCING_MEMORY_TIERING, PAGEBLOCK_ORDER, SCAN_KSWAPD, SCAN_MAY_SWAP, SCAN_MAY_UNMAP,
    SCAN_MAY_WRITEPAGE, SCAN_NO_TRIM_MODE, SCAN_RECLAIM_IDX_SHIFT, SCAN_RESUME, SWAP_CLUSTER_MAX,
)
from mmlab.model.rows import (
    BIO_PLUG, EVENT_KSWAPD_SLEEP, EVENT_KSWAPD_WAKE, EVENT_WAKEUP_KSWAPD, NODE_STRIDE, N_KSWAPD_ALLOC_ORDER, N_KSWAPD_ASKED_IDX, N_KSWAPD_ASKED_ORDER, N_KSWAPD_AWAKE,
    N_KSWAPD_BOOST, N_KSWAPD_CLOCK_NS, N_KSWAPD_FAILURES, N_KSWAPD_FLAGS, N_KSWAPD_IDX, N_KSWAPD_LIGHT_SLEEP_NS, N_KSWAPD_ORDER,
    N_KSWAPD_PRIORITY, N_KSWAPD_RECLAIMED, N_KSWAPD_WAKE_NS, N_PASS_MEMCG, N_PASS_MET, N_PASS_NOTES, N_PASS_RECLAIMED, N_PASS_SCANNED, SC_KSWAPD_AWAKE,
    SC_KSWAPD_SLICE_NS, SC_KSWAPD_TIMER_NS, SC_MM_WALK, SC_NEXT_EVENT_NS, SC_NOW_NS, SC_NR_CPUS, SC_NR_NODES, SC_NR_RECLAIMED, SC_NR_SCANNED, SC_NR_ZONES,
    SC_NUMA_BALANCING, SC_PREEMPT_NS, SC_PROACTIVE, SC_PROTECTION, SC_RECLAIM_MEMCG, SC_RECLAIM_NOTES, SC_SCAN_PRIORITY, SC_SHRINK_MEMCG,
    SC_TASK, SC_YIELDED, SC_YIELD_NS, TRACE_KSWAPD, TRACE_ORDER, WB_SC_CONGESTED, WB_SC_DIRTY, WB_SC_TAKEN, WB_SC_UNQUEUED_DIRTY,
    ZONE_RECLAIM_ACTIVE, ZONE_STRIDE, Z_FLAGS, Z_KSWAPD_BOOST, Z_NODE, Z_WATERMARK_BOOST,
)
from mmlab.model.vmstat import V_KSWAPD_HIGH_WMARK_HIT_QUICKLY, V_KSWAPD_LOW_WMARK_HIT_QUICKLY, V_PAGEOUTRUN

LIGHT_SLEEP_NS = 100_000_000  # after so long kswapd looks whether its node is still balanced, before it sleeps until it is woken


@leaf
def pgdat_balanced(m, node, order, highest):
    """1 if some zone of the node up to `highest` is above its high watermark (with memory tiers above promo, which leaves room to promote)
    and has a block of the order."""
    which = 3 if m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING else 2
    managed = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if in_reach(m, zone, node, highest):
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
        if in_reach(m, zone, node, highest):
            boost += m.zone[base + Z_WATERMARK_BOOST]
    return boost


@kernel
def wakeup_kswapd(m, node, order, highest):
    """Ask the node's kswapd for a block of an order in zones up to `highest`. One that works goes on to that when it has done. Returns 1 if it
    stays asleep: the node is balanced, or kswapd has given up."""
    base = node * NODE_STRIDE
    m.node[base + N_KSWAPD_ASKED_ORDER] = max(m.node[base + N_KSWAPD_ASKED_ORDER], order)
    m.node[base + N_KSWAPD_ASKED_IDX] = max(m.node[base + N_KSWAPD_ASKED_IDX], highest)
    if m.node[base + N_KSWAPD_AWAKE]:
        return 0
    if m.node[base + N_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES:
        return 1
    if pgdat_balanced(m, node, order, highest) and pgdat_boost(m, node, highest) == 0:
        return 1
    kswapd_timer(m, node)
    if m.node[base + N_KSWAPD_AWAKE]:
        return 0
    trace_event(m, EVENT_WAKEUP_KSWAPD, node, order, 0, 0, 0)
    if m.node[base + N_KSWAPD_LIGHT_SLEEP_NS] > 0:
        m.vmstat[V_KSWAPD_LOW_WMARK_HIT_QUICKLY] += 1
        m.node[base + N_KSWAPD_ASKED_ORDER] = max(m.node[base + N_KSWAPD_ASKED_ORDER], m.node[base + N_KSWAPD_ORDER])
    _wake(m, node)
    return 0


@kernel
def _wake(m, node):
    """kswapd becomes runnable, with what it was asked for."""
    base = node * NODE_STRIDE
    m.node[base + N_KSWAPD_AWAKE] = 1
    m.node[base + N_KSWAPD_LIGHT_SLEEP_NS] = 0
    m.node[base + N_KSWAPD_WAKE_NS] = m.sc[SC_NOW_NS]
    m.sc[SC_KSWAPD_AWAKE] += 1
    m.sc[SC_NEXT_EVENT_NS] = 0  # it preempts at the next chance
    if m.sc[SC_NR_CPUS] == 1 and m.bio[BIO_PLUG] == 0:
        m.sc[SC_PREEMPT_NS] = min(m.sc[SC_PREEMPT_NS], max(m.node[base + N_KSWAPD_CLOCK_NS], m.sc[SC_NOW_NS]))
    _begin_run(m, node)
    return 0


@leaf
def prepare_kswapd_sleep(m, node):
    """1 if kswapd may sleep: what it works for is there, or it has given up."""
    base = node * NODE_STRIDE
    if m.node[base + N_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES:
        return 1
    return pgdat_balanced(m, node, m.node[base + N_KSWAPD_ORDER], m.node[base + N_KSWAPD_IDX])


@kernel
def kswapd_timer(m, node):
    """A light sleep that nobody has cut short is over, if it is: kswapd sleeps on until it is woken, or works if too much was used meanwhile."""
    base = node * NODE_STRIDE
    at = m.node[base + N_KSWAPD_LIGHT_SLEEP_NS]
    if at == 0 or at > m.sc[SC_NOW_NS]:
        return 0
    if prepare_kswapd_sleep(m, node) == 0:
        m.vmstat[V_KSWAPD_HIGH_WMARK_HIT_QUICKLY] += 1
        return _wake(m, node)
    m.node[base + N_KSWAPD_LIGHT_SLEEP_NS] = 0
    now = m.sc[SC_NOW_NS]
    m.sc[SC_NOW_NS] = at
    m.trace[TRACE_KSWAPD] = 1 + node
    trace_event(m, EVENT_KSWAPD_SLEEP, node, 0, 0, 0, 0)
    m.trace[TRACE_KSWAPD] = 0
    m.sc[SC_NOW_NS] = now
    return 0


@kernel
def kswapd_timers(m):
    """The light sleeps of all nodes that are over by now; m.sc[SC_KSWAPD_TIMER_NS] is when the next one will be."""
    due = NEVER_NS
    for node in range(m.sc[SC_NR_NODES]):
        kswapd_timer(m, node)
        at = m.node[node * NODE_STRIDE + N_KSWAPD_LIGHT_SLEEP_NS]
        if at > 0:
            due = min(due, at)
    m.sc[SC_KSWAPD_TIMER_NS] = due
    return 0


@leaf
def _begin_run(m, node):
    """kswapd takes what it was asked for since its last run began, and balances the node."""
    base = node * NODE_STRIDE
    order, highest = m.node[base + N_KSWAPD_ASKED_ORDER], m.node[base + N_KSWAPD_ASKED_IDX]
    m.node[base + N_KSWAPD_ORDER] = m.node[base + N_KSWAPD_ALLOC_ORDER] = order
    if highest >= 0:
        m.node[base + N_KSWAPD_IDX] = highest
    m.node[base + N_KSWAPD_ASKED_ORDER], m.node[base + N_KSWAPD_ASKED_IDX] = 0, -1
    m.vmstat[V_PAGEOUTRUN] += 1
    m.trace[TRACE_KSWAPD] = 1 + node
    trace_event(m, EVENT_KSWAPD_WAKE, node, order, 0, 0, 0)
    m.trace[TRACE_KSWAPD] = 0
    boost = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if in_reach(m, zone, node, m.node[node * NODE_STRIDE + N_KSWAPD_IDX]):
            m.zone[zone * ZONE_STRIDE + Z_KSWAPD_BOOST] = m.zone[zone * ZONE_STRIDE + Z_WATERMARK_BOOST]
            boost += m.zone[zone * ZONE_STRIDE + Z_WATERMARK_BOOST]
    m.node[base + N_KSWAPD_RECLAIMED] = 0
    _begin_balance(m, node, boost, 0)


@leaf
def _begin_balance(m, node, boost, flags):
    """A run of balance_pgdat() starts, or does anew. boost: pages of watermark boost to reclaim gently; flags: SCAN_NO_TRIM_MODE in a second try."""
    base = node * NODE_STRIDE
    m.node[base + N_KSWAPD_PRIORITY] = DEF_PRIORITY
    m.node[base + N_KSWAPD_BOOST] = boost
    m.node[base + N_KSWAPD_FLAGS] = flags
    for zone in range(m.sc[SC_NR_ZONES]):
        if in_reach(m, zone, node, m.node[node * NODE_STRIDE + N_KSWAPD_IDX]):
            m.zone[zone * ZONE_STRIDE + Z_FLAGS] |= ZONE_RECLAIM_ACTIVE


@leaf
def _end_balance(m, node):
    """A run of balance_pgdat() is over. The boost that it found has had its effect, and there should be room to put pageblocks in order."""
    boosted = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if in_reach(m, zone, node, m.node[node * NODE_STRIDE + N_KSWAPD_IDX]):
            base = zone * ZONE_STRIDE
            m.zone[base + Z_FLAGS] &= ~ZONE_RECLAIM_ACTIVE
            boosted += m.zone[base + Z_KSWAPD_BOOST]
            m.zone[base + Z_WATERMARK_BOOST] -= min(m.zone[base + Z_WATERMARK_BOOST], m.zone[base + Z_KSWAPD_BOOST])
            m.zone[base + Z_KSWAPD_BOOST] = 0
    if boosted:
        wakeup_kcompactd(m, node, PAGEBLOCK_ORDER, m.node[node * NODE_STRIDE + N_KSWAPD_IDX])
    reclaimer_end_reclaim(m, node)


@kernel
def _kswapd_try_to_sleep(m, node):
    """Between two runs: sleep lightly if the node is balanced or hopeless, else the next run begins. Returns 1 while awake."""
    base = node * NODE_STRIDE
    if m.node[base + N_KSWAPD_ORDER] >= m.node[base + N_KSWAPD_ALLOC_ORDER]:  # else it reclaimed for single pages in the end
        m.node[base + N_KSWAPD_ORDER] = m.node[base + N_KSWAPD_ALLOC_ORDER] = m.node[base + N_KSWAPD_ASKED_ORDER]
        m.node[base + N_KSWAPD_IDX] = m.node[base + N_KSWAPD_ASKED_IDX] if m.node[base + N_KSWAPD_ASKED_IDX] >= 0 else m.node[base + N_KSWAPD_IDX]
    if prepare_kswapd_sleep(m, node) == 0:
        m.vmstat[V_KSWAPD_HIGH_WMARK_HIT_QUICKLY] += 1
        _begin_run(m, node)
        return 1
    m.node[base + N_KSWAPD_AWAKE] = 0
    m.node[base + N_KSWAPD_LIGHT_SLEEP_NS] = m.sc[SC_NOW_NS] + LIGHT_SLEEP_NS
    m.sc[SC_KSWAPD_TIMER_NS] = min(m.sc[SC_KSWAPD_TIMER_NS], m.node[base + N_KSWAPD_LIGHT_SLEEP_NS])
    m.sc[SC_KSWAPD_AWAKE] -= 1
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
            reset_isolation_suitable(m, zone)  # where compaction failed there may be room now
    wakeup_kcompactd(m, node, m.node[base + N_KSWAPD_ALLOC_ORDER], m.node[base + N_KSWAPD_IDX])
    return 0


@leaf
def kswapd_target(m, node, highest):
    """Pages that a pass of kswapd tries for: the high watermarks of the node's zones, 32 at least of each."""
    target = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if in_reach(m, zone, node, highest):
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
        _end_balance(m, node)
        return _kswapd_try_to_sleep(m, node)
    m.trace[TRACE_KSWAPD] = 1 + node
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
        for i in range(4):
            m.wb[WB_SC_TAKEN + i] = m.node[base + N_PASS_MET + i]
    m.trace[TRACE_KSWAPD] = 1 + node
    m.trace[TRACE_ORDER] = m.node[base + N_KSWAPD_ORDER]
    psi_memstall_enter(m)
    shrink_node(m, node, 0, m.node[base + N_KSWAPD_PRIORITY], target, flags, 1)
    psi_memstall_leave(m)
    m.trace[TRACE_KSWAPD] = 0
    m.node[base + N_KSWAPD_PRIORITY] = m.sc[SC_SCAN_PRIORITY]
    if m.sc[SC_YIELDED]:
        m.node[base + N_PASS_SCANNED], m.node[base + N_PASS_RECLAIMED] = m.sc[SC_NR_SCANNED], m.sc[SC_NR_RECLAIMED]
        m.node[base + N_PASS_NOTES] = m.sc[SC_RECLAIM_NOTES]
        for i in range(4):
            m.node[base + N_PASS_MET + i] = m.wb[WB_SC_TAKEN + i]
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
    """A run ends without having balanced the node; 16 in a row that got nothing, and kswapd gives up. Returns 1 while awake."""
    base = node * NODE_STRIDE
    if m.node[base + N_KSWAPD_RECLAIMED] == 0:
        m.node[base + N_KSWAPD_FAILURES] += 1
    _end_balance(m, node)
    return _kswapd_try_to_sleep(m, node)


@kernel
def run_kswapd(m, node, end):
    """The node's kswapd works until it sleeps or, preempted, until the clock has come to `end`. What it writes gathers in a plug of its own."""
    m.bio[BIO_PLUG] = 1 + node
    m.sc[SC_YIELD_NS] = end
    m.sc[SC_PREEMPT_NS] = end if m.sc[SC_NR_CPUS] == 1 else NEVER_NS
    while kswapd_step(m, node) and m.sc[SC_NOW_NS] < end:
        pass
    m.bio[BIO_PLUG] = 0
    m.sc[SC_PREEMPT_NS] = NEVER_NS
    return 0


@kernel
def kswapd_turn(m, node, contended):
    """A kswapd that shares the task's CPU has its turn, a slice or as long as the other ran, if it has come or (contended 0) nobody else wants
    the CPU. The task's clock stands meanwhile. Returns when the next turn comes, NEVER_NS if it sleeps."""
    base = node * NODE_STRIDE
    now = m.sc[SC_NOW_NS]
    if m.node[base + N_KSWAPD_AWAKE] and (now >= m.node[base + N_KSWAPD_CLOCK_NS] or contended == 0):
        # what the task overran, since it would not stop, is made up for
        late = max(0, now - max(m.node[base + N_KSWAPD_CLOCK_NS], m.node[base + N_KSWAPD_WAKE_NS]))
        run_kswapd(m, node, now + m.sc[SC_KSWAPD_SLICE_NS] + late)
        used = m.sc[SC_NOW_NS] - now
        m.node[base + N_KSWAPD_CLOCK_NS] = m.sc[SC_NOW_NS] + (max(used - late, m.sc[SC_KSWAPD_SLICE_NS]) if m.node[base + N_KSWAPD_AWAKE] else 0)
    return m.node[base + N_KSWAPD_CLOCK_NS] if m.node[base + N_KSWAPD_AWAKE] else NEVER_NS


@kernel
def kswapd_turns(m, contended):
    """One CPU: the turns of all nodes' kswapds. Sets m.sc[SC_PREEMPT_NS]: when the next one comes."""
    due = NEVER_NS
    for node in range(m.sc[SC_NR_NODES]):
        due = min(due, kswapd_turn(m, node, contended))
    m.sc[SC_PREEMPT_NS] = due
    return 0


@cold
def cond_resched(m):
    """A task within a batch of direct reclaim loses the CPU to kswapd; what its own pass has counted so far stays. Returns 0."""
    task, notes, protection = m.sc[SC_TASK], m.sc[SC_RECLAIM_NOTES], m.sc[SC_PROTECTION]
    memcg, shrunk, priority = m.sc[SC_RECLAIM_MEMCG], m.sc[SC_SHRINK_MEMCG], m.sc[SC_SCAN_PRIORITY]
    scanned, reclaimed, walks, proactive = m.sc[SC_NR_SCANNED], m.sc[SC_NR_RECLAIMED], m.sc[SC_MM_WALK], m.sc[SC_PROACTIVE]
    taken, dirty = m.wb[WB_SC_TAKEN], m.wb[WB_SC_DIRTY]
    unqueued, congested, order = m.wb[WB_SC_UNQUEUED_DIRTY], m.wb[WB_SC_CONGESTED], m.trace[TRACE_ORDER]
    m.sc[SC_TASK], m.sc[SC_PROACTIVE] = -1, 0
    kswapd_turns(m, 1)
    m.sc[SC_TASK], m.sc[SC_RECLAIM_NOTES], m.sc[SC_PROTECTION] = task, notes, protection
    m.sc[SC_RECLAIM_MEMCG], m.sc[SC_SHRINK_MEMCG], m.sc[SC_SCAN_PRIORITY] = memcg, shrunk, priority
    m.sc[SC_NR_SCANNED], m.sc[SC_NR_RECLAIMED], m.sc[SC_MM_WALK], m.sc[SC_PROACTIVE] = scanned, reclaimed, walks, proactive
    m.wb[WB_SC_TAKEN], m.wb[WB_SC_DIRTY] = taken, dirty
    m.wb[WB_SC_UNQUEUED_DIRTY], m.wb[WB_SC_CONGESTED], m.trace[TRACE_ORDER] = unqueued, congested, order
    m.sc[SC_YIELDED] = 0
    lru_gen_use_mm(m)
    return 0


@cold
def finish_batches(m):
    """Every kswapd that was preempted within a batch goes on to its end. Returns 0."""
    for node in range(m.sc[SC_NR_NODES]):
        if m.node[node * NODE_STRIDE + N_PASS_MEMCG]:
            m.sc[SC_YIELD_NS], m.sc[SC_PREEMPT_NS], m.bio[BIO_PLUG] = m.sc[SC_NOW_NS], NEVER_NS, 1 + node
            kswapd_step(m, node)
            m.bio[BIO_PLUG] = 0
    return 0
