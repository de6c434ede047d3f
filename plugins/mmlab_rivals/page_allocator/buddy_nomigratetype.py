"""buddy_nomigratetype: Linux's buddy allocator that does not group pages by mobility: one set of lists, every pageblock is movable.

It shows what mobility types buy: without them unmovable pages end up everywhere, and no large block comes together again.
Models: mm/page_alloc.c with page_group_by_mobility_disabled. Left out: what buddy leaves out; there is no highatomic reserve.
"""

import attrs

from mmlab.kernels.jit import kernel
from mmlab.model.const import ALLOC_HIGHATOMIC, ENOMEM, MIGRATE_MOVABLE
from mmlab_linux.page_allocator.buddy import BUDDY
from mmlab_linux.page_allocator.free_lists import rmqueue_smallest
from mmlab_linux.page_allocator.pcp import pcp_allowed_order, rmqueue_pcplist


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    """rmqueue() of a movable page, whatever the request is."""
    pfn = -1
    if pcp_allowed_order(order):
        pfn = rmqueue_pcplist(m, st, zone, order, MIGRATE_MOVABLE, alloc_flags & ~ALLOC_HIGHATOMIC)
    if pfn < 0:
        pfn = rmqueue_smallest(m, st, zone, order, MIGRATE_MOVABLE)
    return pfn if pfn >= 0 else -ENOMEM


BUDDY_NOMIGRATETYPE = attrs.evolve(
    BUDDY, name="buddy_nomigratetype", summary="buddy free lists behind per-CPU lists, without mobility types", level="L0", alloc=alloc,
)  # fmt: skip
