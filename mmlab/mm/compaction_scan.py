"""The two scanners of compaction, and the moving of pages between them.

One walks a zone upwards by pageblocks for pages to move, one downwards for places, until they meet; both take short cuts
(mm/compaction_fast.py).
Models: mm/compaction.c isolate_migratepages(), isolate_freepages(), compaction_alloc(), release_free_list(); mm/migrate.c migrate_pages().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import PG_PARTIALLY_MAPPED
from mmlab.kernels.lists import list_add, list_add_tail, list_del, list_empty, list_first
from mmlab.kernels.ops import reclaimer_folio_removed
from mmlab.kernels.services import free_pages, migrate_folio
from mmlab.mm.compaction_block import (
    COMPACT_CLUSTER_MAX, MIGRATE_ASYNC, free_list, isolate_freepages_block, isolate_migratepages_block, isolation_suitable, migrate_list,
    pageblock_in, putback_movable_pages, set_skip, suitable_migration_source, suitable_migration_target, update_cached_migrate,
)
from mmlab.mm.compaction_fast import fast_find_migrateblock, fast_isolate_freepages
from mmlab.mm.huge_memory import split_folio
from mmlab.mm.migrate import putback_movable
from mmlab.model.const import NR_PAGE_ORDERS, PAGEBLOCK_PAGES
from mmlab.model.page import (
    KIND_FREE, KIND_KERNEL, PG_HEAD, ZONE_SHIFT, page_flags, page_kind, page_order, set_page_flags, set_page_kind, set_page_order,
)
from mmlab.model.rows import (
    CC_FAST_SEARCH_FAIL, CC_FREE_PFN, CC_MIGRATE_PFN, CC_MODE, CC_NR_FREEPAGES, CC_NR_MIGRATEPAGES, CC_ZONE, CZ_CACHED_FREE, CZ_STRIDE, ZONE_STRIDE, Z_END_PFN, Z_START_PFN,
)
from mmlab.model.vmstat import V_PGMIGRATE_FAIL

@kernel
def isolate_migratepages(m):
    """From where the migrate scanner stands, the first pageblock that has something to move. Returns how many pages were taken."""
    zone = m.cc[CC_ZONE]
    start = m.zone[zone * ZONE_STRIDE + Z_START_PFN]
    pfn = fast_find_migrateblock(m)
    unskipped = pfn != m.cc[CC_MIGRATE_PFN] and m.cc[CC_FAST_SEARCH_FAIL] == 0  # the search made sure
    end = (pfn & ~(PAGEBLOCK_PAGES - 1)) + PAGEBLOCK_PAGES
    while end <= m.cc[CC_FREE_PFN]:
        if pageblock_in(m, zone, pfn):
            begins = pfn & (PAGEBLOCK_PAGES - 1) == 0 or pfn == start
            if begins == 0 or unskipped or isolation_suitable(m, pfn):
                if suitable_migration_source(m, pfn):
                    isolate_migratepages_block(m, pfn, end)
                    return m.cc[CC_NR_MIGRATEPAGES]
                update_cached_migrate(m, end)
        unskipped = False
        pfn = end
        m.cc[CC_MIGRATE_PFN] = pfn
        end += PAGEBLOCK_PAGES
    return m.cc[CC_NR_MIGRATEPAGES]


@kernel
def isolate_freepages(m):
    """Places for the pages that wait: some from the free lists, or else the free scanner goes down until there are enough, or it meets the
    other."""
    fast_isolate_freepages(m)
    if m.cc[CC_NR_FREEPAGES]:
        return 0
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
