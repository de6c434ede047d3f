"""Many single pages at once, from one zone's per-CPU list, with one look at its watermark.

Models: mm/page_alloc.c alloc_pages_bulk_noprof(). Left out: arrays that are populated in part, lists. Cost: O(pages).
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import page_allocator_alloc
from mmlab.kernels.services import alloc_pages
from mmlab.kernels.zones import request_zone, wmark_pages
from mmlab.mm.mempolicy import task_zonelist
from mmlab.mm.page_alloc import prep_new_page, zone_statistics, zone_watermark_fast
from mmlab.model.const import ALLOC_CMA, ALLOC_KSWAPD, ALLOC_WMARK_LOW, MIGRATE_MOVABLE
from mmlab.model.gfp import GFP_ACCOUNT, GFP_KSWAPD_RECLAIM, gfp_migratetype
from mmlab.model.rows import SC_NODE, SC_NR_NODES, Z_ALLOCATED, Z_INDEX, Z_NODE, ZONE_STRIDE, ZONELIST_STRIDE
from mmlab.model.vmstat import V_PGALLOC_DMA


@kernel
def alloc_pages_bulk(m, pages, gfp, node):
    """A page into each element of pages (int64, written), as many as the first zone of the preferred node that is so far above its low
    watermark has; a single one by alloc_pages() where there is none, where one is wanted, and where they are charged. How many there are."""
    wanted = len(pages)
    if node < 0:
        node = m.sc[SC_NODE] if m.sc[SC_NR_NODES] == 1 else task_zonelist(m)
    migratetype = gfp_migratetype(m, gfp)
    flags = ALLOC_WMARK_LOW | (ALLOC_KSWAPD if gfp & GFP_KSWAPD_RECLAIM else 0) | (ALLOC_CMA if migratetype == MIGRATE_MOVABLE else 0)
    highest = request_zone(m, gfp)
    preferred = -1
    at = node * ZONELIST_STRIDE
    got = 0
    while wanted > 1 and gfp & GFP_ACCOUNT == 0 and got == 0 and m.zonelist[at] >= 0:
        zone = m.zonelist[at]
        at += 1
        if m.zone[zone * ZONE_STRIDE + Z_INDEX] > highest:
            continue
        if preferred < 0:
            preferred = zone
        if m.zone[zone * ZONE_STRIDE + Z_NODE] != m.zone[preferred * ZONE_STRIDE + Z_NODE]:
            break
        if zone_watermark_fast(m, zone, 0, wmark_pages(m, zone, ALLOC_WMARK_LOW) + wanted, highest, flags) == 0:
            continue
        while got < wanted:
            pfn = page_allocator_alloc(m, zone, 0, migratetype, flags)
            if pfn < 0:
                break
            prep_new_page(m, pfn, zone, 0)
            zone_statistics(m, preferred, zone)
            pages[got] = pfn
            got += 1
        m.zone[zone * ZONE_STRIDE + Z_ALLOCATED] += got
        m.vmstat[V_PGALLOC_DMA + m.zone[zone * ZONE_STRIDE + Z_INDEX]] += got
    if got == 0 and wanted > 0:
        pfn = alloc_pages(m, gfp, 0, node)
        if pfn >= 0:
            pages[0] = pfn
            got = 1
    return got
