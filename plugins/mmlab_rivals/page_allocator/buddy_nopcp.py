"""buddy_nopcp: Linux's buddy allocator without per-CPU lists: every page comes from the free lists and goes back to them at once.

It shows what the per-CPU lists buy: they make order 0 cheap, and they keep free pages from merging. Everything else is buddy's.
Models: mm/page_alloc.c with pcp_allowed_order() always false. Left out: what buddy leaves out. Cost: O(orders) a call.
"""

import attrs

from mmlab.kernels.jit import kernel
from mmlab.kernels.zones import zone_of
from mmlab.model.const import ALLOC_HIGHATOMIC, ENOMEM
from mmlab_linux.page_allocator.buddy import BUDDY
from mmlab_linux.page_allocator.fallback import reserve_highatomic_pageblock, rmqueue_buddy
from mmlab_linux.page_allocator.free_lists import free_pages_ok


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    """rmqueue_buddy() for every order."""
    pfn = rmqueue_buddy(m, st, zone, order, migratetype, alloc_flags)
    if pfn < 0:
        return -ENOMEM
    if alloc_flags & ALLOC_HIGHATOMIC:
        reserve_highatomic_pageblock(m, st, zone, pfn, order)
    return pfn


@kernel
def free(m, st, pfn, order):
    """__free_pages_ok() for every order."""
    return free_pages_ok(m, st, zone_of(m, pfn), pfn, order)


BUDDY_NOPCP = attrs.evolve(
    BUDDY, name="buddy_nopcp", summary="buddy free lists by mobility type, without per-CPU lists", level="L0", alloc=alloc, free=free,
    drain=None, tick=None,
)  # fmt: skip
