"""Emptying a range of frames: its pageblocks are isolated, what lies there moves elsewhere, and what is free then can be taken as it is.

CMA takes contiguous blocks this way, and memory goes offline.
Models: mm/page_isolation.c start_isolate_page_range(), undo_isolate_page_range(), test_pages_isolated(), has_unmovable_pages();
mm/page_alloc.c alloc_contig_range(), __alloc_contig_migrate_range(), free_contig_range(); mm/memory_hotplug.c do_migrate_range().
Left out: clean pages of files are moved, not reclaimed; pages that somebody pins for a while are not waited for. Cost: O(pages).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import (
    page_allocator_block_type, page_allocator_drain, page_allocator_is_free, page_allocator_isolate_free, page_allocator_set_block_type,
)
from mmlab.kernels.services import alloc_pages, free_pages, lru_add_drain_all, migrate_folio
from mmlab.kernels.zones import zone_of
from mmlab.mm.migrate import isolate_folio, putback_movable
from mmlab.model.const import EBUSY, MAX_ORDER, MIGRATE_ISOLATE, PAGEBLOCK_PAGES
from mmlab.model.gfp import GFP_HIGHMEM, GFP_MOVABLE, GFP_RETRY_MAYFAIL, GFP_USER
from mmlab.model.page import (
    KIND_KERNEL, PG_HEAD, ZONE_SHIFT, folio_nr_pages, page_flags, page_order, set_page_counts, set_page_flags, set_page_fresh,
)
from mmlab.model.rows import SC_NR_CPUS
from mmlab.model.vmstat import V_PGMIGRATE_FAIL

MIGRATION_TARGET = GFP_USER | GFP_HIGHMEM | GFP_MOVABLE | GFP_RETRY_MAYFAIL


@leaf
def set_block_types(m, start, end, migratetype):
    """Give all pageblocks that the range touches a type."""
    for pfn in range(start & ~(PAGEBLOCK_PAGES - 1), end, PAGEBLOCK_PAGES):
        page_allocator_set_block_type(m, pfn, migratetype)


@leaf
def free_block_at(m, pfn):
    """First frame of the free block that holds pfn, or -1."""
    for order in range(MAX_ORDER + 1):
        head = pfn & ~((1 << order) - 1)
        if page_allocator_is_free(m, head) > order:
            return head
    return -1


@kernel
def migrate_range(m, start, end):
    """Move every folio of the range that can be moved; 0, or -EBUSY if something stays."""
    pfn = start
    while pfn < end:
        free = page_allocator_is_free(m, pfn)
        if free:
            pfn += 1 << (free - 1)
            continue
        nr = folio_nr_pages(m, pfn)
        if isolate_folio(m, pfn) == 0:
            if free_block_at(m, pfn) < 0:
                return -EBUSY
            pfn += 1
            continue
        dst = alloc_pages(m, MIGRATION_TARGET, page_order(m, pfn) if page_flags(m, pfn) & PG_HEAD else 0, -1)
        if dst < 0:
            m.vmstat[V_PGMIGRATE_FAIL] += nr
            putback_movable(m, pfn)
            return -EBUSY
        migrate_folio(m, pfn, dst)
        pfn += nr
    return 0


@kernel
def isolate_range(m, start, end, migratetype):
    """Empty the range: 0 with its pageblocks isolated and all of it free, or -EBUSY with everything as it was (pageblocks of `migratetype`)."""
    set_block_types(m, start, end, MIGRATE_ISOLATE)
    lru_add_drain_all(m)
    zone = zone_of(m, start)
    for cpu in range(m.sc[SC_NR_CPUS]):
        page_allocator_drain(m, zone, cpu)
    result = migrate_range(m, start, end)
    for cpu in range(m.sc[SC_NR_CPUS]):
        page_allocator_drain(m, zone, cpu)
    pfn = start
    while result == 0 and pfn < end:
        head = free_block_at(m, pfn)
        if head < 0:
            result = -EBUSY
        else:
            pfn = head + (1 << (page_allocator_is_free(m, head) - 1))
    if result < 0:
        set_block_types(m, start, end, migratetype)
    return result


@kernel
def take_range(m, start, end):
    """Take the frames of an emptied range off the free lists, each as a page by itself; what lies outside in the same blocks is freed again."""
    zone = zone_of(m, start)
    pfn = free_block_at(m, start)
    while pfn < end:
        nr = 1 << (page_allocator_isolate_free(m, pfn) - 1)
        for page in range(pfn, pfn + nr):
            set_page_flags(m, page, zone << ZONE_SHIFT)
            set_page_counts(m, page, 0, 0)
            set_page_fresh(m, page, KIND_KERNEL, 0)
        for page in range(pfn, min(start, pfn + nr)):
            free_pages(m, page, 0)
        for page in range(max(end, pfn), pfn + nr):
            free_pages(m, page, 0)
        pfn += nr
    return 0


@kernel
def alloc_contig_range(m, start, end, migratetype):
    """The frames start..end-1, whose pageblocks are of `migratetype`, become the caller's: 0, or -EBUSY with nothing changed."""
    for pfn in range(start, end, PAGEBLOCK_PAGES):
        if page_allocator_block_type(m, pfn) != migratetype:
            return -EBUSY
    if isolate_range(m, start, end, migratetype) < 0:
        return -EBUSY
    take_range(m, start, end)
    set_block_types(m, start, end, migratetype)
    return 0


@kernel
def free_contig_range(m, start, nr):
    """Give frames of alloc_contig_range() back, page by page."""
    for pfn in range(start, start + nr):
        free_pages(m, pfn, 0)
    return 0
