"""Capture: a block that comes together while its task compacts for one goes to that task, past the free lists.

The page allocator asks as it merges; m.cc[CC_CAPTURE] is the order that is wanted (0: nothing), m.cc[CC_CAPTURED] the block, or -1.
Models: mm/page_alloc.c task_capc(), compaction_capture(). O(1).
"""

from mmlab.kernels.jit import cold
from mmlab.model.const import MIGRATE_CMA, MIGRATE_ISOLATE, MIGRATE_MOVABLE, PAGEBLOCK_ORDER
from mmlab.model.rows import CC_CAPTURED, CC_MIGRATETYPE, CC_ZONE


@cold
def compaction_capture(m, zone, pfn, order, migratetype):
    """1 if the block of the wanted order is taken: of the zone, not of one kept apart, and not of movable memory for what does not move."""
    if m.cc[CC_CAPTURED] >= 0 or zone != m.cc[CC_ZONE] or migratetype == MIGRATE_CMA or migratetype == MIGRATE_ISOLATE:
        return 0
    if order < PAGEBLOCK_ORDER and migratetype == MIGRATE_MOVABLE and m.cc[CC_MIGRATETYPE] != MIGRATE_MOVABLE:
        return 0
    m.cc[CC_CAPTURED] = pfn
    return 1
