"""One pageblock of compaction: which pages of it move, and which places it has.

m.cc holds the run that is going on (CC_*), m.block_skip a pageblock's skip bit; isolated pages and places wait on lists behind all others of
mem_map.
Models: mm/compaction.c isolate_migratepages_block(), isolate_freepages_block(), suitable_migration_source(), suitable_migration_target(),
update_cached_migrate(). Left out: contention.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_add_tail, list_del, list_first
from mmlab.kernels.ops import memory_model_pfn_valid, page_allocator_block_type, page_allocator_is_free, page_allocator_isolate_free
from mmlab.kernels.zones import zone_watermark_order0
from mmlab.mm.migrate import isolate_folio, putback_movable
from mmlab.model.const import ALLOC_CMA, MIGRATE_CMA, MIGRATE_MOVABLE, NR_PAGE_ORDERS, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES
from mmlab.model.page import KIND_KERNEL, PG_HEAD, folio_nr_pages, page_flags, page_order, set_page_kind, set_page_order
from mmlab.model.rows import (
    CC_BLOCK_SUITABLE, CC_DIRECT, CC_FINISH_PAGEBLOCK, CC_FREE_PFN, CC_FREE_SCANNED, CC_IGNORE_SKIP, CC_MIGRATETYPE, CC_MIGRATE_PFN,
    CC_MIGRATE_SCANNED, CC_MODE, CC_NR_FREEPAGES, CC_NR_MIGRATEPAGES, CC_ORDER, CC_ZONE, COMPACT_HEADS, CZ_CACHED_MIGRATE, CZ_STRIDE,
    SC_MAX_PFN, SC_NR_HEADS, ZONE_STRIDE, Z_START_PFN, Z_WMARK_MIN,
)
from mmlab.model.vmstat import V_COMPACT_ISOLATED

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
    m.block_skip[pfn >> PAGEBLOCK_ORDER] = 1


@leaf
def update_cached_migrate(m, pfn):
    """The next run of this mode begins at the end of pfn's pageblock at the earliest."""
    pfn = (pfn & ~(PAGEBLOCK_PAGES - 1)) + PAGEBLOCK_PAGES
    base = m.cc[CC_ZONE] * CZ_STRIDE + CZ_CACHED_MIGRATE
    m.compact[base] = max(m.compact[base], pfn)
    if m.cc[CC_MODE] != MIGRATE_ASYNC:
        m.compact[base + 1] = max(m.compact[base + 1], pfn)


@kernel
def isolate_migratepages_block(m, start, end):
    """Take pages to move off their lists, from `start` to the pageblock's end or until 32 wait. Returns how many were taken."""
    nr_scanned = 0
    nr_isolated = 0
    skip_on_failure = m.cc[CC_DIRECT] and m.cc[CC_MODE] == MIGRATE_ASYNC
    size = 1 << max(m.cc[CC_ORDER], 0)
    next_skip = (start // size + 1) * size
    whole = start & (PAGEBLOCK_PAGES - 1) == 0 or start == m.zone[m.cc[CC_ZONE] * ZONE_STRIDE + Z_START_PFN]
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
            if whole and marked == 0:
                marked = 1
                if m.cc[CC_IGNORE_SKIP] == 0:
                    was = m.block_skip[pfn >> PAGEBLOCK_ORDER]
                    set_skip(m, pfn)
                    if was and m.cc[CC_FINISH_PAGEBLOCK] == 0:
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
        if whole and marked == 0:
            set_skip(m, start)
        update_cached_migrate(m, pfn)
    m.cc[CC_MIGRATE_SCANNED] += nr_scanned
    m.vmstat[V_COMPACT_ISOLATED] += nr_isolated
    m.cc[CC_MIGRATE_PFN] = pfn
    return nr_isolated


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
def putback_movable_pages(m):
    """Isolated pages go back to their lists."""
    pfn = list_first(m, migrate_list(m))
    while pfn >= 0:
        list_del(m, pfn)
        putback_movable(m, pfn)
        pfn = list_first(m, migrate_list(m))
    m.cc[CC_NR_MIGRATEPAGES] = 0
    return 0


