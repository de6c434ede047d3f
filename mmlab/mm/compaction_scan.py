"""The two scanners of compaction, and the moving of pages between them.

One walks a zone upwards by pageblocks for pages to move, one downwards for places, until they meet. m.cc holds the run that is going on
(CC_*), m.block_skip a pageblock's skip bit; isolated pages and places wait on lists behind all others of mem_map.
Models: mm/compaction.c isolate_migratepages(), isolate_freepages(), compaction_alloc(), release_free_list(); mm/migrate.c
migrate_pages(). Left out: free-page hints of fast_find_migrateblock() and fast_isolate_freepages(), contention.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_add_tail, list_del, list_empty, list_first
from mmlab.kernels.ops import (
    memory_model_pfn_valid, page_allocator_block_type, page_allocator_is_free, page_allocator_isolate_free, reclaimer_folio_removed,
)
from mmlab.kernels.services import free_pages, migrate_folio
from mmlab.kernels.zones import zone_watermark_order0
from mmlab.kernels.large_folio import PG_PARTIALLY_MAPPED
from mmlab.mm.huge_memory import split_folio
from mmlab.mm.migrate import isolate_folio, putback_movable
from mmlab.model.const import (
    ALLOC_CMA, MIGRATE_CMA, MIGRATE_MOVABLE, NR_PAGE_ORDERS, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES,
)
from mmlab.model.page import (
    KIND_FREE, KIND_KERNEL, PG_HEAD, ZONE_SHIFT, folio_nr_pages, page_flags, page_kind, page_order, set_page_flags, set_page_kind,
    set_page_order,
)
from mmlab.model.rows import (
    CC_BLOCK_SUITABLE, CC_DIRECT, CC_FINISH_PAGEBLOCK, CC_FREE_PFN, CC_FREE_SCANNED, CC_IGNORE_SKIP, CC_MIGRATE_PFN,
    CC_MIGRATE_SCANNED, CC_MIGRATETYPE, CC_MODE, CC_NR_FREEPAGES, CC_NR_MIGRATEPAGES, CC_ORDER, CC_ZONE,
    COMPACT_HEADS, COST_COPY_PAGE, CZ_BLOCKSKIP_FLUSH, CZ_CACHED_FREE, CZ_CACHED_MIGRATE, CZ_STRIDE, SC_MAX_PFN, SC_NOW_NS, SC_NR_HEADS, Z_END_PFN, Z_START_PFN, Z_WMARK_MIN, ZONE_STRIDE,
)
from mmlab.model.vmstat import V_COMPACT_ISOLATED, V_PGMIGRATE_FAIL

MIGRATE_ASYNC, MIGRATE_SYNC_LIGHT, MIGRATE_SYNC = 0, 1, 2
COMPACT_CLUSTER_MAX = 32


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
    """__zone_watermark_ok() of order 0 against a plain mark; what is free in CMA areas serves movable pages."""
    return zone_watermark_order0(m, zone, 0, mark, highest, ALLOC_CMA)


@leaf
def is_migrate_movable(m, migratetype):
    """1 for the types of pageblocks that hold movable pages."""
    return 1 if migratetype == MIGRATE_MOVABLE or migratetype == MIGRATE_CMA else 0


@leaf
def suitable_migration_target(m, pfn):
    """1 if the free scanner may take places in the pageblock: a movable one that is not free as a whole."""
    head = page_allocator_is_free(m, pfn)
    order = m.cc[CC_ORDER] if m.cc[CC_ORDER] > 0 else PAGEBLOCK_ORDER
    if head and head - 1 >= order:
        return 0
    return 1 if m.cc[CC_BLOCK_SUITABLE] or is_migrate_movable(m, page_allocator_block_type(m, pfn)) else 0


@leaf
def suitable_migration_source(m, pfn):
    """1 if the migrate scanner looks into the pageblock: asynchronous direct compaction stays with the request's type."""
    if page_flags(m, pfn) & PG_HEAD and page_order(m, pfn) >= PAGEBLOCK_ORDER:
        return 0
    if m.cc[CC_MODE] != MIGRATE_ASYNC or m.cc[CC_DIRECT] == 0:
        return 1
    block_type = page_allocator_block_type(m, pfn)
    if m.cc[CC_MIGRATETYPE] == MIGRATE_MOVABLE:
        return is_migrate_movable(m, block_type)
    return 1 if block_type == m.cc[CC_MIGRATETYPE] else 0


@leaf
def skip_isolation_on_order(m, order, target):
    """1 for folios that are not moved: as large as what the run is for (none is free), or as a pageblock."""
    return 1 if (target > 0 and order >= target) or order >= PAGEBLOCK_ORDER else 0


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
        nr = folio_nr_pages(m, pfn)
        if nr > 1 and skip_isolation_on_order(m, page_order(m, pfn), m.cc[CC_ORDER]):
            nr_scanned += nr - 1
            pfn += nr - 1
        elif isolate_folio(m, pfn):
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
            nr_isolated += nr
            nr_scanned += nr - 1
            m.cc[CC_NR_MIGRATEPAGES] += nr
            pfn += nr
            if m.cc[CC_NR_MIGRATEPAGES] >= COMPACT_CLUSTER_MAX and m.cc[CC_FINISH_PAGEBLOCK] == 0:
                break
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
def first_free_order(m, least):
    """The smallest order from `least` on of which an isolated block waits, or -1."""
    for order in range(least, NR_PAGE_ORDERS):
        if list_empty(m, free_list(m, order)) == 0:
            return order
    return -1


@kernel
def compaction_alloc(m, wanted):
    """A place of 2^wanted pages: of the isolated free blocks the smallest, cut up, or from the free scanner; -1 if there is none left."""
    order = first_free_order(m, wanted)
    if order < 0:
        isolate_freepages(m)
        order = first_free_order(m, wanted)
        if order < 0:
            return -1
    pfn = list_first(m, free_list(m, order))
    list_del(m, pfn)
    while order > wanted:
        order -= 1
        half = pfn + (1 << order)
        set_page_flags(m, half, m.cc[CC_ZONE] << ZONE_SHIFT)
        set_page_kind(m, half, KIND_KERNEL)
        set_page_order(m, half, order)
        list_add(m, free_list(m, order), half)
    set_page_order(m, pfn, 0)
    m.cc[CC_NR_FREEPAGES] -= 1 << wanted
    m.cc[CC_NR_MIGRATEPAGES] -= 1 << wanted
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


@leaf
def split_isolated(m, head):
    """A large folio that waits to be moved is split; those of its pages that stay wait behind all others, the last page first."""
    last = head + (1 << page_order(m, head)) - 1
    list_del(m, head)
    putback_movable(m, head)
    split_folio(m, head)  # nobody but its mappings and its cache holds it: it can be
    for pfn in range(last, head - 1, -1):
        if page_kind(m, pfn) != KIND_FREE:
            reclaimer_folio_removed(m, pfn)
            list_add_tail(m, migrate_list(m), pfn)


@kernel
def migrate_pages(m):
    """Move the isolated folios, last isolated first. 1, or 0 if places ran out (the rest goes back).

    A large one that is mapped in part only is split first, and so is one for which there is no block of its size."""
    pfn = list_first(m, migrate_list(m))
    while pfn >= 0:
        order = page_order(m, pfn) if page_flags(m, pfn) & PG_HEAD else 0
        dst = -1
        if order == 0 or page_flags(m, pfn + 1) & PG_PARTIALLY_MAPPED == 0:
            dst = compaction_alloc(m, order)
        if dst >= 0:
            list_del(m, pfn)
            m.sc[SC_NOW_NS] += m.cost[COST_COPY_PAGE] << order
            migrate_folio(m, pfn, dst)
        elif order:
            split_isolated(m, pfn)
        else:
            m.vmstat[V_PGMIGRATE_FAIL] += 1
            putback_movable_pages(m)
            return 0
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
