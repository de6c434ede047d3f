"""Where compaction begins: what a zone remembers of earlier runs, and when that is forgotten.

Models: mm/compaction.c reset_cached_positions(), __reset_isolation_suitable(), __reset_isolation_pfn(). Cost: O(pages of the zone / 8).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import memory_model_pfn_valid, page_allocator_block_type, page_allocator_is_free
from mmlab.kernels.zones import zone_of
from mmlab.model.const import MIGRATE_MOVABLE, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES
from mmlab.model.page import PG_HEAD, PG_LRU, page_flags, page_order
from mmlab.model.rows import (
    CZ_BLOCKSKIP_FLUSH, CZ_CACHED_FREE, CZ_CACHED_MIGRATE, CZ_CACHED_MIGRATE_SYNC, CZ_INIT_FREE, CZ_INIT_MIGRATE, CZ_STRIDE, ZONE_STRIDE,
    Z_END_PFN, Z_START_PFN,
)

SAMPLED = 8  # of each pageblock a frame in so many is looked at


@leaf
def reset_cached_positions(m, zone):
    """Both scanners begin at the zone's ends again."""
    base = zone * CZ_STRIDE
    start, end = m.zone[zone * ZONE_STRIDE + Z_START_PFN], m.zone[zone * ZONE_STRIDE + Z_END_PFN]
    m.compact[base + CZ_CACHED_MIGRATE] = m.compact[base + CZ_CACHED_MIGRATE_SYNC] = start
    m.compact[base + CZ_CACHED_FREE] = (end - 1) & ~(PAGEBLOCK_PAGES - 1)


@leaf
def may_begin(m, zone, pfn, source, target):
    """1 if a pageblock is worth a look again, as a source of pages to move or as a target: its skip bit goes if a sample says so."""
    if memory_model_pfn_valid(m, pfn) == 0 or zone_of(m, pfn) != zone:
        return 0
    if page_flags(m, pfn) & PG_HEAD and page_order(m, pfn) >= PAGEBLOCK_ORDER:
        return 0
    skip = m.block_skip[pfn >> PAGEBLOCK_ORDER]
    if source and target and skip == 0:
        return 1
    if source == 0 and target and page_allocator_block_type(m, pfn) != MIGRATE_MOVABLE:
        return 0
    start = max(pfn & ~(PAGEBLOCK_PAGES - 1), m.zone[zone * ZONE_STRIDE + Z_START_PFN])
    last = min(pfn | (PAGEBLOCK_PAGES - 1), m.zone[zone * ZONE_STRIDE + Z_END_PFN] - 1)
    if memory_model_pfn_valid(m, last) == 0:
        return 0
    at = start if memory_model_pfn_valid(m, start) else pfn
    while at <= last:
        if (source and page_flags(m, at) & PG_LRU) or (target and page_allocator_is_free(m, at)):
            m.block_skip[pfn >> PAGEBLOCK_ORDER] = 0
            return 1
        at += SAMPLED
    return 0


@kernel
def reset_isolation_suitable(m, zone):
    """After a run that an allocation asked for has gone through the whole zone: skip bits go, and the scanners begin at the outermost
    pageblocks that are worth it."""
    base = zone * CZ_STRIDE
    if m.compact[base + CZ_BLOCKSKIP_FLUSH] == 0:
        return 0
    m.compact[base + CZ_BLOCKSKIP_FLUSH] = 0
    up, down = m.zone[zone * ZONE_STRIDE + Z_START_PFN], m.zone[zone * ZONE_STRIDE + Z_END_PFN] - 1
    first, last = down, up
    source_set = target_set = 0
    while up < down:
        if may_begin(m, zone, up, 1, source_set) and up < first:
            source_set, first = 1, up
            m.compact[base + CZ_INIT_MIGRATE] = m.compact[base + CZ_CACHED_MIGRATE] = m.compact[base + CZ_CACHED_MIGRATE_SYNC] = up
        if may_begin(m, zone, down, target_set, 1) and down > last:
            target_set, last = 1, down
            m.compact[base + CZ_INIT_FREE] = m.compact[base + CZ_CACHED_FREE] = down
        up += PAGEBLOCK_PAGES
        down -= PAGEBLOCK_PAGES
    if first >= last:
        m.compact[base + CZ_CACHED_MIGRATE] = m.compact[base + CZ_CACHED_MIGRATE_SYNC] = up
        m.compact[base + CZ_CACHED_FREE] = down
    return 0
