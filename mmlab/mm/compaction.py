"""Compaction: movable pages of a zone's low end move into free pages of its high end, so that large free blocks come together.

When it is tried and when it ends; mm/compaction_scan.py has its two scanners, mm/compaction_capture.py how the block comes to who
waits for it. m.compact holds what a zone remembers between runs (CZ_*),
m.cc the run that is going on (CC_*).
Models: mm/compaction.c, mm/vmstat.c __fragmentation_index(). Cost: O(pages of the zone) a run.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import page_allocator_can_alloc, page_allocator_drain, page_allocator_nr_free_blocks, reclaimer_drain
from mmlab.kernels.zones import request_zone, wmark_pages, zone_watermark_order0, zonelist_of
from mmlab.mm.compaction_block import MIGRATE_ASYNC, MIGRATE_SYNC, MIGRATE_SYNC_LIGHT, scanners_met, zone_watermark_ok
from mmlab.mm.compaction_reset import reset_cached_positions, reset_isolation_suitable
from mmlab.mm.compaction_scan import isolate_migratepages, migrate_pages, release_free_list
from mmlab.mm.vmscan import zone_reclaimable_pages
from mmlab.model.const import (
    ALLOC_WMARK_MASK, COMPACT_COMPLETE, COMPACT_CONTENDED, COMPACT_CONTINUE, COMPACT_DEFERRED, COMPACT_PARTIAL_SKIPPED, COMPACT_PRIO_ASYNC,
    COMPACT_PRIO_SYNC_FULL, COMPACT_SKIPPED, COMPACT_SUCCESS, MIGRATE_CMA, MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_TYPES,
    NEVER_NS, NR_PAGE_ORDERS, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES,
)
from mmlab.model.gfp import GFP_IO, gfp_migratetype
from mmlab.model.rows import (
    CC_BLOCK_SUITABLE, CC_CAPTURE, CC_CAPTURED, CC_DIRECT, CC_FAST_SEARCH_FAIL, CC_FAST_START_PFN, CC_FINISH_PAGEBLOCK, CC_FREE_PFN,
    CC_FREE_SCANNED, CC_IGNORE_SKIP, CC_LAST_MIGRATED, CC_MIGRATETYPE, CC_MIGRATE_PFN, CC_MIGRATE_SCANNED, CC_MODE, CC_NR_FREEPAGES,
    CC_NR_MIGRATEPAGES, CC_ORDER, CC_PLACES_OF, CC_PROACTIVE, CC_SEARCH_ORDER, CC_UNTIL_NS, CC_WHOLE_ZONE, CC_ZONE, CZ_BLOCKSKIP_FLUSH,
    CZ_CACHED_FREE, CZ_CACHED_MIGRATE, CZ_CONSIDERED, CZ_DEFER_SHIFT, CZ_INIT_MIGRATE, CZ_ORDER_FAILED, CZ_STRIDE, NODE_STRIDE, NR_CC,
    N_KSWAPD_AWAKE, N_PRESENT, SC_CPU, SC_EXTFRAG_THRESHOLD, SC_NOW_NS, SC_NR_CPUS, SC_NR_ZONES, SC_PROACTIVENESS, ZONE_STRIDE, Z_END_PFN,
    Z_INDEX, Z_NODE, Z_PRESENT, Z_START_PFN,
)
from mmlab.model.vmstat import V_COMPACT_FREE_SCANNED, V_COMPACT_MIGRATE_SCANNED

COMPACT_MAX_DEFER_SHIFT = 6
COSTLY_ORDER = 3
WHOLE_MEMORY = -1  # order of a compaction that no allocation waits for


@leaf
def fragmentation_index(m, zone, order):
    """Times 1000: towards 0 an allocation fails for want of memory, towards 1000 for fragmentation; -1000: it would not fail."""
    pages = 0
    blocks = 0
    suitable = 0
    for o in range(NR_PAGE_ORDERS):
        nr = 0
        for migratetype in range(MIGRATE_TYPES):
            nr += page_allocator_nr_free_blocks(m, zone, o, migratetype)
        blocks += nr
        pages += nr << o
        if o >= order:
            suitable += nr
    if blocks == 0:
        return 0
    if suitable:
        return -1000
    return 1000 - (1000 + pages * 1000 // (1 << order)) // blocks


@leaf
def fragmentation_score_zone(m, zone):
    """Per cent of a zone's free memory that is in blocks smaller than a huge page; 0 where nothing is free."""
    pages = 0
    huge = 0
    for order in range(NR_PAGE_ORDERS):
        for migratetype in range(MIGRATE_TYPES):
            nr = page_allocator_nr_free_blocks(m, zone, order, migratetype) << order
            pages += nr
            if order >= PAGEBLOCK_ORDER:
                huge += nr
    return 0 if pages == 0 else (pages - huge) * 100 // pages


@leaf
def fragmentation_score_node(m, node):
    """The scores of a node's zones, each weighted by the zone's share of the node's memory."""
    score = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node:
            score += m.zone[base + Z_PRESENT] * fragmentation_score_zone(m, zone) // (m.node[node * NODE_STRIDE + N_PRESENT] + 1)
    return score


@leaf
def fragmentation_score_wmark(m, low):
    """Where proactive compaction ends (low) and begins."""
    wmark = max(100 - m.sc[SC_PROACTIVENESS], 5)
    return wmark if low else min(wmark + 10, 100)


@leaf
def compaction_suitable(m, zone, order, highest):
    """1 if there is room to move pages about, and it is fragmentation that an allocation of the order fails of."""
    mark = wmark_pages(m, zone, 1 if order > COSTLY_ORDER else 0) + (2 << order)
    if zone_watermark_ok(m, zone, mark, highest) == 0:
        return 0
    if order > COSTLY_ORDER:
        index = fragmentation_index(m, zone, order)
        if index >= 0 and index <= m.sc[SC_EXTFRAG_THRESHOLD]:
            return 0
    return 1


@leaf
def block_for(m, zone, order, migratetype):
    """1 if a free block of the order or larger serves the type: of its own list, or one that the type may claim."""
    for o in range(order, NR_PAGE_ORDERS):
        if page_allocator_nr_free_blocks(m, zone, o, migratetype):
            return 1
        if migratetype == MIGRATE_MOVABLE and page_allocator_nr_free_blocks(m, zone, o, MIGRATE_CMA):
            return 1
        if o >= PAGEBLOCK_ORDER // 2 or migratetype != MIGRATE_MOVABLE:
            for other in range(MIGRATE_PCPTYPES):
                if page_allocator_nr_free_blocks(m, zone, o, other):
                    return 1
    return 0


@kernel
def compact_finished(m):
    """COMPACT_CONTINUE, or why the run ends."""
    zone = m.cc[CC_ZONE]
    if scanners_met(m):
        reset_cached_positions(m, zone)
        if m.cc[CC_DIRECT]:
            m.compact[zone * CZ_STRIDE + CZ_BLOCKSKIP_FLUSH] = 1
        return COMPACT_COMPLETE if m.cc[CC_WHOLE_ZONE] else COMPACT_PARTIAL_SKIPPED
    if m.cc[CC_PROACTIVE]:
        if m.node[m.zone[zone * ZONE_STRIDE + Z_NODE] * NODE_STRIDE + N_KSWAPD_AWAKE]:
            return COMPACT_PARTIAL_SKIPPED
        return COMPACT_CONTINUE if fragmentation_score_zone(m, zone) > fragmentation_score_wmark(m, 1) else COMPACT_SUCCESS
    if m.cc[CC_ORDER] < 0 or m.cc[CC_MIGRATE_PFN] & (PAGEBLOCK_PAGES - 1):
        return COMPACT_CONTINUE
    return COMPACT_SUCCESS if block_for(m, zone, m.cc[CC_ORDER], m.cc[CC_MIGRATETYPE]) else COMPACT_CONTINUE


@leaf
def compaction_restarting(m, zone, order):
    """1 if the zone is tried again after it was put off for as long as it can be."""
    base = zone * CZ_STRIDE
    return 1 if (
        order >= m.compact[base + CZ_ORDER_FAILED] and m.compact[base + CZ_DEFER_SHIFT] == COMPACT_MAX_DEFER_SHIFT
        and m.compact[base + CZ_CONSIDERED] >= 1 << COMPACT_MAX_DEFER_SHIFT
    ) else 0


@leaf
def set_start(m, zone):
    """Where the scanners begin: at the zone's ends, or where they were left."""
    start = m.zone[zone * ZONE_STRIDE + Z_START_PFN]
    last = (m.zone[zone * ZONE_STRIDE + Z_END_PFN] - 1) & ~(PAGEBLOCK_PAGES - 1)
    if m.cc[CC_WHOLE_ZONE]:
        m.cc[CC_MIGRATE_PFN], m.cc[CC_FREE_PFN] = start, last
        return
    base = zone * CZ_STRIDE
    which = CZ_CACHED_MIGRATE + (0 if m.cc[CC_MODE] == MIGRATE_ASYNC else 1)
    if m.compact[base + CZ_CACHED_FREE] == 0:
        reset_cached_positions(m, zone)
    m.cc[CC_MIGRATE_PFN] = m.compact[base + which]
    m.cc[CC_FREE_PFN] = m.compact[base + CZ_CACHED_FREE]
    if m.cc[CC_FREE_PFN] < start or m.cc[CC_FREE_PFN] > last:
        m.cc[CC_FREE_PFN] = m.compact[base + CZ_CACHED_FREE] = last
    if m.cc[CC_MIGRATE_PFN] < start or m.cc[CC_MIGRATE_PFN] > last:
        m.cc[CC_MIGRATE_PFN] = m.compact[base + CZ_CACHED_MIGRATE] = m.compact[base + CZ_CACHED_MIGRATE + 1] = start
    if m.cc[CC_MIGRATE_PFN] <= m.compact[base + CZ_INIT_MIGRATE]:
        m.cc[CC_WHOLE_ZONE] = 1


@kernel
def begin_run(m):
    """The run that m.cc describes sets its scanners up."""
    zone, order = m.cc[CC_ZONE], m.cc[CC_ORDER]
    if order > 0 and compaction_restarting(m, zone, order):
        reset_isolation_suitable(m, zone)
    set_start(m, zone)
    m.cc[CC_LAST_MIGRATED] = -1
    m.cc[CC_FAST_START_PFN] = m.cc[CC_FAST_SEARCH_FAIL] = 0
    m.cc[CC_SEARCH_ORDER] = order
    m.cc[CC_NR_FREEPAGES] = m.cc[CC_NR_MIGRATEPAGES] = m.cc[CC_MIGRATE_SCANNED] = m.cc[CC_FREE_SCANNED] = 0
    reclaimer_drain(m, m.sc[SC_CPU])
    return 0


@kernel
def continue_run(m):
    """Both scanners go on, to the end: COMPACT_*; or to m.cc[CC_UNTIL_NS]: COMPACT_CONTINUE."""
    zone, order = m.cc[CC_ZONE], m.cc[CC_ORDER]
    cached = zone * CZ_STRIDE + CZ_CACHED_MIGRATE
    update_cached = m.cc[CC_MODE] == MIGRATE_ASYNC and m.compact[cached] == m.compact[cached + 1]
    result = compact_finished(m)
    while result == COMPACT_CONTINUE and m.sc[SC_NOW_NS] < m.cc[CC_UNTIL_NS]:
        at = m.cc[CC_MIGRATE_PFN]
        m.cc[CC_FINISH_PAGEBLOCK] = 1 if m.cc[CC_LAST_MIGRATED] >> PAGEBLOCK_ORDER == at >> PAGEBLOCK_ORDER else 0
        if isolate_migratepages(m):
            m.cc[CC_LAST_MIGRATED] = max(m.zone[zone * ZONE_STRIDE + Z_START_PFN], (m.cc[CC_MIGRATE_PFN] - 1) & ~(PAGEBLOCK_PAGES - 1))
            if migrate_pages(m) == 0 and scanners_met(m) == 0:
                result = COMPACT_CONTENDED
                break
            if m.cc[CC_CAPTURED] >= 0:
                result = COMPACT_SUCCESS
                break
            update_cached = False
        elif update_cached:  # nothing to move so far: synchronous runs need not look either
            m.compact[cached + 1] = m.compact[cached]
        if order > 0 and m.cc[CC_LAST_MIGRATED] >= 0 and m.cc[CC_LAST_MIGRATED] < m.cc[CC_MIGRATE_PFN] & ~((1 << order) - 1):
            reclaimer_drain(m, m.sc[SC_CPU])  # a block of the order is behind the scanner: let its pages come together
            page_allocator_drain(m, zone, m.sc[SC_CPU])
            m.cc[CC_LAST_MIGRATED] = -1
        result = compact_finished(m)
    return result


@kernel
def end_run(m):
    """What was isolated in vain goes back, and the run counts."""
    zone = m.cc[CC_ZONE]
    highest = release_free_list(m)
    if highest > m.compact[zone * CZ_STRIDE + CZ_CACHED_FREE]:
        m.compact[zone * CZ_STRIDE + CZ_CACHED_FREE] = highest
    m.vmstat[V_COMPACT_MIGRATE_SCANNED] += m.cc[CC_MIGRATE_SCANNED]
    m.vmstat[V_COMPACT_FREE_SCANNED] += m.cc[CC_FREE_SCANNED]
    return 0


@kernel
def compact_zone(m):
    """Run both scanners over the zone that m.cc describes: COMPACT_*."""
    begin_run(m)
    result = continue_run(m)
    end_run(m)
    return result


@kernel
def give_places_back(m):
    """The lists of isolated free blocks are wanted: a run of kcompactd that waits gives its blocks back, and will look for them again."""
    if m.cc[CC_PLACES_OF] == 0:
        return 0
    row = m.cc[CC_PLACES_OF] * NR_CC
    m.cc[CC_PLACES_OF] = 0
    m.cc[row + CC_FREE_PFN] = max(m.cc[row + CC_FREE_PFN], release_free_list(m))
    m.cc[row + CC_NR_FREEPAGES] = 0
    return 0


@kernel
def put_run_off(m, node):
    """The run of a node's kcompactd waits, as m.cc says that it stands; others may begin meanwhile."""
    for i in range(NR_CC):
        m.cc[(1 + node) * NR_CC + i] = m.cc[i]
    m.cc[CC_PLACES_OF] = 1 + node
    return 0


@kernel
def take_run_up(m, node):
    """m.cc becomes the run that the node's kcompactd put off."""
    if m.cc[CC_PLACES_OF] != 1 + node:
        give_places_back(m)
    for i in range(NR_CC):
        m.cc[i] = m.cc[(1 + node) * NR_CC + i]
    m.cc[CC_PLACES_OF] = 0
    return 0


@kernel
def describe_run(m, zone, order, mode, migratetype, whole, direct):
    """Fill m.cc for a run; whole: 1 from end to end, without regard for hints."""
    give_places_back(m)
    m.cc[CC_UNTIL_NS] = NEVER_NS
    m.cc[CC_ZONE], m.cc[CC_ORDER], m.cc[CC_MODE], m.cc[CC_MIGRATETYPE] = zone, order, mode, migratetype
    m.cc[CC_WHOLE_ZONE] = m.cc[CC_IGNORE_SKIP] = whole
    m.cc[CC_BLOCK_SUITABLE] = whole and direct
    m.cc[CC_DIRECT], m.cc[CC_PROACTIVE] = direct, 0
    m.cc[CC_CAPTURED] = -1
    return 0


@kernel
def compact_node(m, node):
    """Compact every zone of a node as far as it goes."""
    for cpu in range(m.sc[SC_NR_CPUS]):
        reclaimer_drain(m, cpu)
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
            describe_run(m, zone, WHOLE_MEMORY, MIGRATE_SYNC, 0, 1, 0)
            compact_zone(m)
    return 0


@leaf
def compaction_deferred(m, zone, order):
    """1 if the zone failed at this order not long ago; counts the question."""
    base = zone * CZ_STRIDE
    if order < m.compact[base + CZ_ORDER_FAILED]:
        return 0
    limit = 1 << m.compact[base + CZ_DEFER_SHIFT]
    m.compact[base + CZ_CONSIDERED] += 1
    if m.compact[base + CZ_CONSIDERED] >= limit:
        m.compact[base + CZ_CONSIDERED] = limit
        return 0
    return 1


@leaf
def defer_compaction(m, zone, order):
    """It failed: ask twice as often in vain before it is tried again, up to 64 times."""
    base = zone * CZ_STRIDE
    m.compact[base + CZ_CONSIDERED] = 0
    m.compact[base + CZ_DEFER_SHIFT] = min(m.compact[base + CZ_DEFER_SHIFT] + 1, COMPACT_MAX_DEFER_SHIFT)
    if order < m.compact[base + CZ_ORDER_FAILED]:
        m.compact[base + CZ_ORDER_FAILED] = order
    return 0


@leaf
def compaction_defer_reset(m, zone, order, alloc_success):
    """It went well: orders up to this one are tried at once."""
    base = zone * CZ_STRIDE
    if alloc_success:
        m.compact[base + CZ_CONSIDERED] = m.compact[base + CZ_DEFER_SHIFT] = 0
    if order >= m.compact[base + CZ_ORDER_FAILED]:
        m.compact[base + CZ_ORDER_FAILED] = order + 1
    return 0


@kernel
def compact_zone_order(m, zone, order, gfp, alloc_flags, prio):
    """Direct compaction of one zone for an allocation: COMPACT_*; m.cc[CC_CAPTURED] is the block that it got on the way, or -1."""
    highest = request_zone(m, gfp)
    mark = wmark_pages(m, zone, alloc_flags & ALLOC_WMARK_MASK)
    if zone_watermark_order0(m, zone, order, mark, highest, alloc_flags) and page_allocator_can_alloc(m, zone, order, alloc_flags):
        return COMPACT_SUCCESS
    if compaction_suitable(m, zone, order, highest) == 0:
        return COMPACT_SKIPPED
    mode = MIGRATE_ASYNC if prio == COMPACT_PRIO_ASYNC else MIGRATE_SYNC_LIGHT
    describe_run(m, zone, order, mode, gfp_migratetype(m, gfp), 1 if prio == COMPACT_PRIO_SYNC_FULL else 0, 1)
    m.cc[CC_CAPTURE] = order
    result = compact_zone(m)
    m.cc[CC_CAPTURE] = 0
    return COMPACT_SUCCESS if m.cc[CC_CAPTURED] >= 0 else result


@kernel
def compaction_zonelist_suitable(m, gfp, order, node):
    """1 if reclaim of everything would give some zone of the zonelist the room that compaction needs."""
    highest = request_zone(m, gfp)
    at = zonelist_of(node, gfp)
    while m.zonelist[at] >= 0:
        zone = m.zonelist[at]
        at += 1
        if m.zone[zone * ZONE_STRIDE + Z_INDEX] > highest:
            continue
        mark = wmark_pages(m, zone, 1 if order > COSTLY_ORDER else 0) + (2 << order) - zone_reclaimable_pages(m, zone) // order
        if zone_watermark_ok(m, zone, mark, highest):
            return 1
    return 0


@kernel
def do_try_to_compact_pages(m, gfp, order, alloc_flags, node, prio):
    """Service try_to_compact_pages: direct compaction of the zonelist's zones, until one succeeds; the best COMPACT_*."""
    best = COMPACT_SKIPPED
    m.cc[CC_CAPTURED] = -1
    if gfp & GFP_IO == 0:
        return best
    highest = request_zone(m, gfp)
    at = zonelist_of(node, gfp)
    while m.zonelist[at] >= 0:
        zone = m.zonelist[at]
        at += 1
        if m.zone[zone * ZONE_STRIDE + Z_INDEX] > highest:
            continue
        if prio > COMPACT_PRIO_SYNC_FULL and compaction_deferred(m, zone, order):
            best = max(best, COMPACT_DEFERRED)
            continue
        result = compact_zone_order(m, zone, order, gfp, alloc_flags, prio)
        best = max(best, result)
        if result == COMPACT_SUCCESS:
            compaction_defer_reset(m, zone, order, 0)
            break
        if prio != COMPACT_PRIO_ASYNC and (result == COMPACT_COMPLETE or result == COMPACT_PARTIAL_SKIPPED):
            defer_compaction(m, zone, order)
    return best
