"""Compaction: movable pages of a zone's low end move into free pages of its high end, so that large free blocks come together.

Two scanners walk a zone by pageblocks, one upwards for pages to move, one downwards for places, until they meet. m.compact holds what a
zone remembers between runs (CZ_*), m.cc the run that is going on (CC_*), m.block_skip a pageblock's skip bit; isolated pages and places wait on
lists behind all others of mem_map.
Models: mm/compaction.c. Left out: large folios, free-page hints of fast_find_migrateblock() and fast_isolate_freepages(), capture of the
freed block, contention. Cost: O(pages of the zone) a run.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_add_tail, list_del, list_empty, list_first
from mmlab.kernels.ops import (
    memory_model_pfn_valid, page_allocator_block_type, page_allocator_can_alloc, page_allocator_drain, page_allocator_is_free,
    page_allocator_isolate_free, page_allocator_nr_free_blocks, reclaimer_drain,
)
from mmlab.kernels.services import free_pages
from mmlab.kernels.zones import wmark_pages, zone_watermark_order0
from mmlab.mm.migrate import isolate_movable, migrate_folio, putback_movable
from mmlab.mm.vmscan import zone_reclaimable_pages
from mmlab.model.const import (
    ALLOC_WMARK_MASK, COMPACT_COMPLETE, COMPACT_CONTENDED, COMPACT_CONTINUE, COMPACT_DEFERRED, COMPACT_PARTIAL_SKIPPED, COMPACT_PRIO_ASYNC,
    COMPACT_PRIO_SYNC_FULL, COMPACT_SKIPPED, COMPACT_SUCCESS, MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_TYPES, NR_PAGE_ORDERS,
    PAGEBLOCK_ORDER, PAGEBLOCK_PAGES,
)
from mmlab.model.gfp import GFP_IO, GFP_THISNODE, gfp_migratetype, gfp_zone
from mmlab.model.page import (
    KIND_KERNEL, PG_HEAD, PG_TAIL, ZONE_SHIFT, page_flags, page_order, set_page_flags, set_page_kind, set_page_order,
)
from mmlab.model.rows import (
    CC_BLOCK_SUITABLE, CC_DIRECT, CC_FINISH_PAGEBLOCK, CC_FREE_PFN, CC_FREE_SCANNED, CC_IGNORE_SKIP, CC_LAST_MIGRATED, CC_MIGRATE_PFN,
    CC_MIGRATE_SCANNED, CC_MIGRATETYPE, CC_MODE, CC_NR_FREEPAGES, CC_NR_MIGRATEPAGES, CC_ORDER, CC_PROACTIVE, CC_WHOLE_ZONE, CC_ZONE,
    COMPACT_HEADS, CZ_BLOCKSKIP_FLUSH, CZ_CACHED_FREE, CZ_CACHED_MIGRATE, CZ_CONSIDERED, CZ_DEFER_SHIFT, CZ_ORDER_FAILED, CZ_STRIDE,
    SC_CPU, SC_EXTFRAG_THRESHOLD, SC_MAX_PFN, SC_NR_CPUS, SC_NR_HEADS, SC_NR_ZONES, SC_PROACTIVENESS, Z_END_PFN, Z_INDEX, Z_NODE, Z_PRESENT,
    Z_START_PFN, Z_WMARK_MIN, ZONE_STRIDE, ZONELIST_STRIDE, ZONELIST_THISNODE,
)
from mmlab.model.vmstat import V_COMPACT_FREE_SCANNED, V_COMPACT_ISOLATED, V_COMPACT_MIGRATE_SCANNED, V_PGMIGRATE_FAIL

MIGRATE_ASYNC, MIGRATE_SYNC_LIGHT, MIGRATE_SYNC = 0, 1, 2
COMPACT_CLUSTER_MAX = 32
COMPACT_MAX_DEFER_SHIFT = 6
COSTLY_ORDER = 3
WHOLE_MEMORY = -1  # order of a compaction that no allocation waits for


@leaf
def free_list(m, order):
    """Head of the isolated free blocks of an order."""
    return m.sc[SC_MAX_PFN] + m.sc[SC_NR_HEADS] - COMPACT_HEADS + order


@leaf
def migrate_list(m):
    """Head of the isolated pages."""
    return m.sc[SC_MAX_PFN] + m.sc[SC_NR_HEADS] - COMPACT_HEADS + NR_PAGE_ORDERS


@leaf
def scanners_met(m):
    """1 when both scanners are in one pageblock, or past each other."""
    return 1 if m.cc[CC_FREE_PFN] >> PAGEBLOCK_ORDER <= m.cc[CC_MIGRATE_PFN] >> PAGEBLOCK_ORDER else 0


@leaf
def pageblock_in(m, zone, pfn):
    """1 if the pageblock that begins at pfn (or with the zone) has struct pages."""
    return memory_model_pfn_valid(m, max(pfn, m.zone[zone * ZONE_STRIDE + Z_START_PFN]))


@leaf
def zone_watermark_ok(m, zone, mark, highest):
    """__zone_watermark_ok() of order 0 against a plain mark."""
    return zone_watermark_order0(m, zone, 0, mark, highest, 0)


@leaf
def suitable_migration_target(m, pfn):
    """1 if the free scanner may take places in the pageblock: a movable one that is not free as a whole."""
    head = page_allocator_is_free(m, pfn)
    order = m.cc[CC_ORDER] if m.cc[CC_ORDER] > 0 else PAGEBLOCK_ORDER
    if head and head - 1 >= order:
        return 0
    return 1 if m.cc[CC_BLOCK_SUITABLE] or page_allocator_block_type(m, pfn) == MIGRATE_MOVABLE else 0


@leaf
def suitable_migration_source(m, pfn):
    """1 if the migrate scanner looks into the pageblock: asynchronous direct compaction stays with the request's type."""
    if page_flags(m, pfn) & PG_HEAD and page_order(m, pfn) >= PAGEBLOCK_ORDER:
        return 0
    if m.cc[CC_MODE] != MIGRATE_ASYNC or m.cc[CC_DIRECT] == 0:
        return 1
    return 1 if page_allocator_block_type(m, pfn) == m.cc[CC_MIGRATETYPE] else 0


@leaf
def isolation_suitable(m, pfn):
    """0 if an earlier run found nothing in the pageblock and this one minds."""
    return 1 if m.cc[CC_IGNORE_SKIP] or m.block_skip[pfn >> PAGEBLOCK_ORDER] == 0 else 0


@leaf
def set_skip(m, pfn):
    """Remember that the pageblock is not worth a look."""
    if m.cc[CC_IGNORE_SKIP] == 0:
        m.block_skip[pfn >> PAGEBLOCK_ORDER] = 1


@leaf
def update_cached_migrate(m, pfn):
    """The next run of this mode begins here at the earliest."""
    if m.cc[CC_IGNORE_SKIP]:
        return
    base = m.cc[CC_ZONE] * CZ_STRIDE + CZ_CACHED_MIGRATE
    m.compact[base] = max(m.compact[base], pfn)
    if m.cc[CC_MODE] != MIGRATE_ASYNC:
        m.compact[base + 1] = max(m.compact[base + 1], pfn)


@leaf
def reset_cached_positions(m, zone):
    """Both scanners begin at the zone's ends again."""
    base = zone * CZ_STRIDE
    start, end = m.zone[zone * ZONE_STRIDE + Z_START_PFN], m.zone[zone * ZONE_STRIDE + Z_END_PFN]
    m.compact[base + CZ_CACHED_MIGRATE] = start
    m.compact[base + CZ_CACHED_MIGRATE + 1] = start
    m.compact[base + CZ_CACHED_FREE] = (end - 1) & ~(PAGEBLOCK_PAGES - 1)


@kernel
def reset_isolation_suitable(m, zone):
    """Forget the skip bits of a zone and where its scanners were."""
    base = zone * ZONE_STRIDE
    for block in range(m.zone[base + Z_START_PFN] >> PAGEBLOCK_ORDER, (m.zone[base + Z_END_PFN] - 1 >> PAGEBLOCK_ORDER) + 1):
        m.block_skip[block] = 0
    m.compact[zone * CZ_STRIDE + CZ_BLOCKSKIP_FLUSH] = 0
    reset_cached_positions(m, zone)
    return 0


@kernel
def isolate_migratepages_block(m, start, end):
    """Take pages to move off their lists, from `start` to the pageblock's end or until 32 wait. Returns how many were taken."""
    nr_scanned = 0
    nr_isolated = 0
    skip_on_failure = m.cc[CC_DIRECT] and m.cc[CC_MODE] == MIGRATE_ASYNC
    size = 1 << max(m.cc[CC_ORDER], 0)
    next_skip = (start // size + 1) * size
    marked = 0
    pfn = start
    while pfn < end:
        if skip_on_failure and pfn >= next_skip:
            if nr_isolated:
                break
            next_skip = (pfn // size + 1) * size
        nr_scanned += 1
        head = page_allocator_is_free(m, pfn)
        if head:
            nr_scanned += (1 << (head - 1)) - 1
            pfn += 1 << (head - 1)
            continue
        if page_flags(m, pfn) & PG_HEAD:
            nr_scanned += (1 << page_order(m, pfn)) - 1
            pfn += (1 << page_order(m, pfn)) - 1
        elif page_flags(m, pfn) & PG_TAIL == 0 and isolate_movable(m, pfn):
            if nr_isolated == 0 and marked == 0:
                marked = 1
                if m.cc[CC_IGNORE_SKIP] == 0:
                    was = m.block_skip[pfn >> PAGEBLOCK_ORDER]
                    if start & (PAGEBLOCK_PAGES - 1) == 0:
                        m.block_skip[pfn >> PAGEBLOCK_ORDER] = 1
                    if was and m.cc[CC_FINISH_PAGEBLOCK] == 0 and start & (PAGEBLOCK_PAGES - 1) == 0:
                        putback_movable(m, pfn)
                        pfn = end
                        break
            list_add(m, migrate_list(m), pfn)
            nr_isolated += 1
            m.cc[CC_NR_MIGRATEPAGES] += 1
            if m.cc[CC_NR_MIGRATEPAGES] >= COMPACT_CLUSTER_MAX and m.cc[CC_FINISH_PAGEBLOCK] == 0:
                pfn += 1
                break
            pfn += 1
            continue
        if skip_on_failure:
            if nr_isolated:
                putback_movable_pages(m)
                nr_isolated = 0
            if pfn < next_skip:
                pfn = next_skip - 1
                next_skip += size
        pfn += 1
    pfn = min(pfn, end)
    if pfn == end and (nr_isolated == 0 or m.cc[CC_FINISH_PAGEBLOCK]):
        if marked == 0 and start & (PAGEBLOCK_PAGES - 1) == 0:
            set_skip(m, start)
        update_cached_migrate(m, pfn)
    m.cc[CC_MIGRATE_SCANNED] += nr_scanned
    m.vmstat[V_COMPACT_ISOLATED] += nr_isolated
    m.cc[CC_MIGRATE_PFN] = pfn
    return nr_isolated


@kernel
def isolate_migratepages(m):
    """From where the migrate scanner stands, the first pageblock that has something to move. Returns how many pages were taken."""
    zone = m.cc[CC_ZONE]
    start = m.zone[zone * ZONE_STRIDE + Z_START_PFN]
    pfn = m.cc[CC_MIGRATE_PFN]
    end = (pfn & ~(PAGEBLOCK_PAGES - 1)) + PAGEBLOCK_PAGES
    while end <= m.cc[CC_FREE_PFN]:
        if pageblock_in(m, zone, pfn):
            begins = pfn & (PAGEBLOCK_PAGES - 1) == 0 or pfn == start
            if begins == 0 or isolation_suitable(m, pfn):
                if suitable_migration_source(m, pfn):
                    isolate_migratepages_block(m, pfn, end)
                    return m.cc[CC_NR_MIGRATEPAGES]
                update_cached_migrate(m, end)
        pfn = end
        m.cc[CC_MIGRATE_PFN] = pfn
        end += PAGEBLOCK_PAGES
    return m.cc[CC_NR_MIGRATEPAGES]


@leaf
def isolate_free_page(m, zone, pfn, order):
    """Take a free block off the allocator's lists, unless the zone is short of memory. Its pages, or 0."""
    if zone_watermark_ok(m, zone, m.zone[zone * ZONE_STRIDE + Z_WMARK_MIN] + (1 << order), 0) == 0:
        return 0
    if page_allocator_isolate_free(m, pfn) == 0:
        return 0
    set_page_kind(m, pfn, KIND_KERNEL)
    set_page_order(m, pfn, order)
    return 1 << order


@kernel
def isolate_freepages_block(m, start, end, stride):
    """Take free blocks of a pageblock until there are enough for the pages that wait. Returns the pfn at which it stopped."""
    zone = m.cc[CC_ZONE]
    nr_scanned = 0
    total = 0
    pfn = start
    while pfn < end:
        nr_scanned += 1
        head = page_allocator_is_free(m, pfn)
        if head:
            isolated = isolate_free_page(m, zone, pfn, head - 1)
            if isolated == 0:
                break
            nr_scanned += isolated - 1
            total += isolated
            m.cc[CC_NR_FREEPAGES] += isolated
            list_add_tail(m, free_list(m, head - 1), pfn)
            pfn += isolated
            if m.cc[CC_NR_MIGRATEPAGES] <= m.cc[CC_NR_FREEPAGES]:
                break
            pfn += stride - 1
            continue
        if page_flags(m, pfn) & PG_HEAD and pfn + (1 << page_order(m, pfn)) <= end:
            nr_scanned += (1 << page_order(m, pfn)) - 1
            pfn += (1 << page_order(m, pfn)) - 1
        pfn += stride
    m.cc[CC_FREE_SCANNED] += nr_scanned
    m.vmstat[V_COMPACT_ISOLATED] += total
    return min(pfn, end)


@kernel
def isolate_freepages(m):
    """The free scanner goes down until there are places for all pages that wait, or it meets the other."""
    zone = m.cc[CC_ZONE]
    at = m.cc[CC_FREE_PFN]
    block = at & ~(PAGEBLOCK_PAGES - 1)
    end = min(block + PAGEBLOCK_PAGES, m.zone[zone * ZONE_STRIDE + Z_END_PFN])
    low = (m.cc[CC_MIGRATE_PFN] & ~(PAGEBLOCK_PAGES - 1)) + PAGEBLOCK_PAGES
    stride = COMPACT_CLUSTER_MAX if m.cc[CC_MODE] == MIGRATE_ASYNC else 1
    while block >= low:
        if pageblock_in(m, zone, block) and suitable_migration_target(m, block) and isolation_suitable(m, block):
            had = m.cc[CC_NR_FREEPAGES]
            at = isolate_freepages_block(m, at, end, stride)
            if at == end:
                set_skip(m, block)
                if m.cc[CC_IGNORE_SKIP] == 0:
                    base = zone * CZ_STRIDE + CZ_CACHED_FREE
                    m.compact[base] = min(m.compact[base], block - PAGEBLOCK_PAGES)
            if m.cc[CC_NR_FREEPAGES] >= m.cc[CC_NR_MIGRATEPAGES]:
                if at >= end:
                    at = block - PAGEBLOCK_PAGES
                break
            if at < end:
                break
            stride = 1 if m.cc[CC_NR_FREEPAGES] > had else min(COMPACT_CLUSTER_MAX, stride << 1)
        end = block
        block -= PAGEBLOCK_PAGES
        at = block
    m.cc[CC_FREE_PFN] = at
    return 0


@leaf
def first_free_order(m):
    """The smallest order of which an isolated block waits, or -1."""
    for order in range(NR_PAGE_ORDERS):
        if list_empty(m, free_list(m, order)) == 0:
            return order
    return -1


@kernel
def compaction_alloc(m):
    """A place for one page: from the isolated free blocks, the smallest cut up, or from the free scanner; -1 if there is none left."""
    order = first_free_order(m)
    if order < 0:
        isolate_freepages(m)
        order = first_free_order(m)
        if order < 0:
            return -1
    pfn = list_first(m, free_list(m, order))
    list_del(m, pfn)
    while order > 0:
        order -= 1
        half = pfn + (1 << order)
        set_page_flags(m, half, m.cc[CC_ZONE] << ZONE_SHIFT)
        set_page_kind(m, half, KIND_KERNEL)
        set_page_order(m, half, order)
        list_add(m, free_list(m, order), half)
    set_page_order(m, pfn, 0)
    m.cc[CC_NR_FREEPAGES] -= 1
    m.cc[CC_NR_MIGRATEPAGES] -= 1
    return pfn


@kernel
def putback_movable_pages(m):
    """Isolated pages go back to their lists."""
    pfn = list_first(m, migrate_list(m))
    while pfn >= 0:
        list_del(m, pfn)
        putback_movable(m, pfn)
        pfn = list_first(m, migrate_list(m))
    m.cc[CC_NR_MIGRATEPAGES] = 0
    return 0


@kernel
def migrate_pages(m):
    """Move the isolated pages, last isolated first. 1, or 0 if places ran out (the rest goes back)."""
    pfn = list_first(m, migrate_list(m))
    while pfn >= 0:
        dst = compaction_alloc(m)
        if dst < 0:
            m.vmstat[V_PGMIGRATE_FAIL] += 1
            putback_movable_pages(m)
            return 0
        list_del(m, pfn)
        migrate_folio(m, pfn, dst)
        pfn = list_first(m, migrate_list(m))
    m.cc[CC_NR_MIGRATEPAGES] = 0
    return 1


@kernel
def release_free_list(m):
    """Places that nobody took are freed. Returns the highest pageblock among them, 0 for none."""
    highest = 0
    for order in range(NR_PAGE_ORDERS):
        pfn = list_first(m, free_list(m, order))
        while pfn >= 0:
            highest = max(highest, pfn & ~(PAGEBLOCK_PAGES - 1))
            list_del(m, pfn)
            free_pages(m, pfn, order)
            pfn = list_first(m, free_list(m, order))
    m.cc[CC_NR_FREEPAGES] = 0
    return highest


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
    """Per cent of a zone's free memory that is in blocks smaller than a huge page."""
    pages = 0
    huge = 0
    for order in range(NR_PAGE_ORDERS):
        for migratetype in range(MIGRATE_TYPES):
            nr = page_allocator_nr_free_blocks(m, zone, order, migratetype) << order
            pages += nr
            if order >= PAGEBLOCK_ORDER:
                huge += nr
    return 100 if pages == 0 else (pages - huge) * 1000 // pages // 10


@kernel
def fragmentation_score_node(m, node):
    """The node's score: its zones' by their share of the node's memory."""
    score = 0
    present = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
            present += m.zone[zone * ZONE_STRIDE + Z_PRESENT]
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node:
            score += m.zone[base + Z_PRESENT] * fragmentation_score_zone(m, zone) // (present + 1)
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
    if m.cc[CC_MIGRATE_PFN] <= start:
        m.cc[CC_WHOLE_ZONE] = 1


@kernel
def compact_zone(m):
    """Run both scanners over the zone that m.cc describes: COMPACT_*."""
    zone, order = m.cc[CC_ZONE], m.cc[CC_ORDER]
    if order > 0 and compaction_restarting(m, zone, order):
        reset_isolation_suitable(m, zone)
    set_start(m, zone)
    m.cc[CC_LAST_MIGRATED] = -1
    m.cc[CC_NR_FREEPAGES] = m.cc[CC_NR_MIGRATEPAGES] = m.cc[CC_MIGRATE_SCANNED] = m.cc[CC_FREE_SCANNED] = 0
    reclaimer_drain(m, m.sc[SC_CPU])
    result = compact_finished(m)
    while result == COMPACT_CONTINUE:
        at = m.cc[CC_MIGRATE_PFN]
        m.cc[CC_FINISH_PAGEBLOCK] = 1 if m.cc[CC_LAST_MIGRATED] >> PAGEBLOCK_ORDER == at >> PAGEBLOCK_ORDER else 0
        if isolate_migratepages(m):
            m.cc[CC_LAST_MIGRATED] = max(m.zone[zone * ZONE_STRIDE + Z_START_PFN], (m.cc[CC_MIGRATE_PFN] - 1) & ~(PAGEBLOCK_PAGES - 1))
            if migrate_pages(m) == 0 and scanners_met(m) == 0:
                result = COMPACT_CONTENDED
                break
        if order > 0 and m.cc[CC_LAST_MIGRATED] >= 0 and m.cc[CC_LAST_MIGRATED] < m.cc[CC_MIGRATE_PFN] & ~((1 << order) - 1):
            reclaimer_drain(m, m.sc[SC_CPU])  # a block of the order is behind the scanner: let its pages come together
            page_allocator_drain(m, zone, m.sc[SC_CPU])
            m.cc[CC_LAST_MIGRATED] = -1
        result = compact_finished(m)
    highest = release_free_list(m)
    if highest > m.compact[zone * CZ_STRIDE + CZ_CACHED_FREE]:
        m.compact[zone * CZ_STRIDE + CZ_CACHED_FREE] = highest
    m.vmstat[V_COMPACT_MIGRATE_SCANNED] += m.cc[CC_MIGRATE_SCANNED]
    m.vmstat[V_COMPACT_FREE_SCANNED] += m.cc[CC_FREE_SCANNED]
    return result


@leaf
def describe_run(m, zone, order, mode, migratetype, whole, direct):
    """Fill m.cc for a run; whole: 1 from end to end, without regard for hints."""
    m.cc[CC_ZONE], m.cc[CC_ORDER], m.cc[CC_MODE], m.cc[CC_MIGRATETYPE] = zone, order, mode, migratetype
    m.cc[CC_WHOLE_ZONE] = m.cc[CC_IGNORE_SKIP] = whole
    m.cc[CC_BLOCK_SUITABLE] = whole and direct
    m.cc[CC_DIRECT], m.cc[CC_PROACTIVE] = direct, 0
    return 0


@kernel
def compact_node(m, node, proactive):
    """Compact every zone of a node: as far as it goes, or (proactive) until its score is low enough."""
    for cpu in range(m.sc[SC_NR_CPUS]):
        reclaimer_drain(m, cpu)
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_NODE] == node:
            describe_run(m, zone, WHOLE_MEMORY, MIGRATE_SYNC_LIGHT if proactive else MIGRATE_SYNC, 0, 1, 0)
            m.cc[CC_PROACTIVE] = proactive
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
    """Direct compaction of one zone for an allocation: COMPACT_*."""
    highest = gfp_zone(gfp)
    mark = wmark_pages(m, zone, alloc_flags & ALLOC_WMARK_MASK)
    if zone_watermark_order0(m, zone, order, mark, highest, alloc_flags) and page_allocator_can_alloc(m, zone, order, alloc_flags):
        return COMPACT_SUCCESS
    if compaction_suitable(m, zone, order, highest) == 0:
        return COMPACT_SKIPPED
    mode = MIGRATE_ASYNC if prio == COMPACT_PRIO_ASYNC else MIGRATE_SYNC_LIGHT
    describe_run(m, zone, order, mode, gfp_migratetype(gfp), 1 if prio == COMPACT_PRIO_SYNC_FULL else 0, 1)
    return compact_zone(m)


@kernel
def compaction_zonelist_suitable(m, gfp, order, node):
    """1 if reclaim of everything would give some zone of the zonelist the room that compaction needs."""
    highest = gfp_zone(gfp)
    at = node * ZONELIST_STRIDE + (ZONELIST_THISNODE if gfp & GFP_THISNODE else 0)
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
    if gfp & GFP_IO == 0:
        return best
    highest = gfp_zone(gfp)
    at = node * ZONELIST_STRIDE + (ZONELIST_THISNODE if gfp & GFP_THISNODE else 0)
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
