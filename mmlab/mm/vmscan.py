"""Reclaim as the core sees it: kswapd, direct reclaim, and what happens to one victim. Which page is a victim is the reclaimer's business.

Models: mm/vmscan.c try_to_free_pages(), do_try_to_free_pages(), balance_pgdat(), wakeup_kswapd(), kswapd_try_to_sleep(), pgdat_balanced().
Left out: memory cgroups, throttling of direct reclaim, slab shrinkers, kcompactd.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import (
    reclaimer_age_node, reclaimer_eviction_shadow, reclaimer_folio_removed, reclaimer_nr_lru_pages,
    reclaimer_shrink_node,
)
from mmlab.kernels.large_folio import PG_PARTIALLY_MAPPED, entire_mapcount, nr_pages_mapped, page_pte_mapcount
from mmlab.kernels.services import free_pages, rmap_walk
from mmlab.kernels.zones import wmark_pages, zone_watermark_order0
from mmlab.mm.huge_memory import free_large_folio, split_folio, split_huge_pmds_of
from mmlab.mm.page_cache import filemap_remove
from mmlab.mm.shmem import shmem_writepage
from mmlab.mm.swap import lru_add_drain
from mmlab.mm.swap_state import add_to_swap, delete_from_swap_cache
from mmlab.model.const import (
    DEF_PRIORITY, HPAGE_PMD_ORDER, LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, RECLAIM_ACTIVATE, RECLAIM_FREED,
    RECLAIM_KEEP, RMAP_DIRTY, RMAP_UNMAP, SCAN_KSWAPD, SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_PROACTIVE,
    SCAN_RECLAIM_IDX_SHIFT, SWAP_CLUSTER_MAX,
)
from mmlab.model.gfp import GFP_THISNODE, gfp_zone
from mmlab.model.page import (
    NO_MAPPING, PG_ANON, PG_DIRTY, PG_HEAD, PG_MLOCKED, PG_RECLAIM, PG_SWAPBACKED, PG_SWAPCACHE, PG_UNEVICTABLE, page_clear,
    page_mapcount, page_order, page_refs, page_set, page_test, set_page_counts, set_page_mapping,
)
from mmlab.model.rows import (
    COST_DEVICE_WRITE, MTHP_STRIDE, MTHP_SWPOUT, MTHP_SWPOUT_FALLBACK, N_KSWAPD_AWAKE, N_KSWAPD_FAILURES,
    N_KSWAPD_IDX, N_KSWAPD_PRIORITY, N_KSWAPD_WAKE_NS, NODE_STRIDE, SC_IN_RECLAIM, SC_KSWAPD_AWAKE, SC_NEXT_EVENT_NS, SC_NOW_NS,
    SC_NR_SWAP_FREE, SC_NR_SWAP_SLOTS, SC_NR_ZONES, Z_FLAGS, Z_INDEX, Z_MANAGED, Z_NODE, Z_WATERMARK_BOOST, SC_SWAP_FLAGS,
    ZONE_RECLAIM_ACTIVE, ZONE_STRIDE, ZONELIST_STRIDE, ZONELIST_THISNODE,
)
from mmlab.model.vmstat import V_ALLOCSTALL_DMA, V_NR_VMSCAN_IMMEDIATE_RECLAIM, V_NR_VMSCAN_WRITE, V_PAGEOUTRUN, V_PGLAZYFREED, V_PSWPOUT, V_THP_SWPOUT, V_THP_SWPOUT_FALLBACK

MAX_RECLAIM_RETRIES = 16


@leaf
def node_reclaimable_pages(m, node):
    """File pages, and anonymous ones while there is swap to put them in."""
    pages = reclaimer_nr_lru_pages(m, node, LRU_INACTIVE_FILE) + reclaimer_nr_lru_pages(m, node, LRU_ACTIVE_FILE)
    if m.sc[SC_NR_SWAP_FREE] > 0:
        pages += reclaimer_nr_lru_pages(m, node, LRU_INACTIVE_ANON) + reclaimer_nr_lru_pages(m, node, LRU_ACTIVE_ANON)
    return pages


@leaf
def zone_reclaimable_pages(m, zone):
    """What reclaim could free in a zone, from its node's lists in proportion to what the zone manages (exact on a node with one large zone)."""
    base = zone * ZONE_STRIDE
    node = m.zone[base + Z_NODE]
    managed = 0
    for other in range(m.sc[SC_NR_ZONES]):
        if m.zone[other * ZONE_STRIDE + Z_NODE] == node:
            managed += m.zone[other * ZONE_STRIDE + Z_MANAGED]
    return node_reclaimable_pages(m, node) * m.zone[base + Z_MANAGED] // max(1, managed)


@kernel
def shrink_node(m, node, priority, nr_to_reclaim, scan_flags):
    """One pass of the reclaimer over a node, with its simulated time: pages reclaimed."""
    was = m.sc[SC_IN_RECLAIM]
    m.sc[SC_IN_RECLAIM] = 1
    lru_add_drain(m)
    reclaimed = reclaimer_shrink_node(m, node, priority, nr_to_reclaim, scan_flags)
    m.sc[SC_IN_RECLAIM] = was
    return reclaimed


@kernel
def try_to_free_pages(m, gfp, order, node):
    """Direct reclaim of at least 32 pages from the zonelist's nodes: pages reclaimed, 0 when nothing could be."""
    highest = gfp_zone(gfp)
    m.vmstat[V_ALLOCSTALL_DMA + highest] += 1
    flags = SCAN_MAY_SWAP | SCAN_MAY_WRITEPAGE | SCAN_MAY_UNMAP | (highest << SCAN_RECLAIM_IDX_SHIFT)
    first = node * ZONELIST_STRIDE + (ZONELIST_THISNODE if gfp & GFP_THISNODE else 0)
    reclaimed = 0
    priority = DEF_PRIORITY
    while priority >= 0:
        at = first
        last = -1
        while m.zonelist[at] >= 0:
            base = m.zonelist[at] * ZONE_STRIDE
            at += 1
            if m.zone[base + Z_INDEX] <= highest and m.zone[base + Z_NODE] != last:
                last = m.zone[base + Z_NODE]
                reclaimed += shrink_node(m, last, priority, SWAP_CLUSTER_MAX, flags)
        if reclaimed >= SWAP_CLUSTER_MAX:
            break
        priority -= 1
    if reclaimed > 0:
        m.node[node * NODE_STRIDE + N_KSWAPD_FAILURES] = 0
    return reclaimed


@leaf
def pgdat_balanced(m, node, highest):
    """1 if some zone of the node up to `highest` is above its high watermark."""
    managed = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node and m.zone[base + Z_INDEX] <= highest:
            managed = 1
            if zone_watermark_order0(m, zone, 0, wmark_pages(m, zone, 2), highest, 0):
                return 1
    return 1 - managed


@leaf
def pgdat_boosted(m, node, highest):
    """1 if some zone of the node up to `highest` has a boosted watermark."""
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node and m.zone[base + Z_INDEX] <= highest and m.zone[base + Z_WATERMARK_BOOST] > 0:
            return 1
    return 0


@kernel
def wakeup_kswapd(m, node, order):
    """Make the node's kswapd runnable unless the node is balanced or kswapd has given up."""
    base = node * NODE_STRIDE
    if m.node[base + N_KSWAPD_AWAKE] or m.node[base + N_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES:
        return 0
    highest = 3
    if pgdat_balanced(m, node, highest) and pgdat_boosted(m, node, highest) == 0:
        return 0
    m.node[base + N_KSWAPD_AWAKE] = 1
    m.node[base + N_KSWAPD_PRIORITY] = DEF_PRIORITY
    m.node[base + N_KSWAPD_IDX] = highest
    m.node[base + N_KSWAPD_WAKE_NS] = m.sc[SC_NOW_NS]
    m.sc[SC_KSWAPD_AWAKE] += 1
    m.sc[SC_NEXT_EVENT_NS] = 0  # it preempts at the next chance
    m.vmstat[V_PAGEOUTRUN] += 1
    _set_reclaim_active(m, node, 1)
    return 0


@leaf
def _set_reclaim_active(m, node, on):
    for zone in range(m.sc[SC_NR_ZONES]):
        base = zone * ZONE_STRIDE
        if m.zone[base + Z_NODE] == node:
            if on:
                m.zone[base + Z_FLAGS] |= ZONE_RECLAIM_ACTIVE
            else:
                m.zone[base + Z_FLAGS] &= ~ZONE_RECLAIM_ACTIVE
                m.zone[base + Z_WATERMARK_BOOST] = 0


@leaf
def _kswapd_sleep(m, node):
    m.node[node * NODE_STRIDE + N_KSWAPD_AWAKE] = 0
    m.sc[SC_KSWAPD_AWAKE] -= 1
    _set_reclaim_active(m, node, 0)


@kernel
def kswapd_step(m, node):
    """One pass of balance_pgdat() at the current priority, or going to sleep; time passes on m.sc[SC_NOW_NS]. Returns 1 while awake."""
    base = node * NODE_STRIDE
    if m.node[base + N_KSWAPD_AWAKE] == 0:
        return 0
    highest = m.node[base + N_KSWAPD_IDX]
    balanced = pgdat_balanced(m, node, highest)
    # a boost that is met asks for easy pages only; one that is not (the boost is part of high) is reclaimed for in earnest
    boosted = pgdat_boosted(m, node, highest) if balanced else 0
    if balanced and boosted == 0:
        _kswapd_sleep(m, node)
        return 0
    priority = m.node[base + N_KSWAPD_PRIORITY]
    reclaimer_age_node(m, node)
    target = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        zone_base = zone * ZONE_STRIDE
        if m.zone[zone_base + Z_NODE] == node and m.zone[zone_base + Z_INDEX] <= highest:
            target += max(wmark_pages(m, zone, 2), SWAP_CLUSTER_MAX)
    flags = SCAN_KSWAPD | SCAN_MAY_UNMAP | (highest << SCAN_RECLAIM_IDX_SHIFT)
    if boosted == 0:
        flags |= SCAN_MAY_SWAP | SCAN_MAY_WRITEPAGE
    reclaimed = shrink_node(m, node, priority, target, flags)
    if boosted and (reclaimed == 0 or priority <= DEF_PRIORITY - 2):
        _kswapd_sleep(m, node)
        return 0
    if reclaimed < target:
        m.node[base + N_KSWAPD_PRIORITY] = priority - 1
    if m.node[base + N_KSWAPD_PRIORITY] < 1:
        if reclaimed == 0:
            m.node[base + N_KSWAPD_FAILURES] += 1
        m.node[base + N_KSWAPD_PRIORITY] = DEF_PRIORITY
        if m.node[base + N_KSWAPD_FAILURES] >= MAX_RECLAIM_RETRIES:
            _kswapd_sleep(m, node)
            return 0
    return 1


@kernel
def do_reclaim_folio(m, pfn, scan_flags):
    """Service reclaim_folio: RECLAIM_FREED, _KEEP or _ACTIVATE. The page is on no list; it is freed here or stays the caller's.

    Anonymous: a swap slot, unmapped, written if dirty, freed with a shadow in the slot. MADV_PAGEOUT (SCAN_PROACTIVE) on a device that takes time
    leaves the page in the swap cache, as Linux does. File: unmapped; a clean page leaves a shadow; a dirty one is kept for write-back.
    """
    if page_test(m, pfn, PG_UNEVICTABLE | PG_MLOCKED):
        return RECLAIM_ACTIVATE
    if page_test(m, pfn, PG_HEAD):
        if page_test(m, pfn, PG_ANON):
            return reclaim_large_folio(m, pfn, scan_flags)
        if split_folio(m, pfn) == 0:  # shared memory: its pages are on the lists again
            return RECLAIM_ACTIVATE
        reclaimer_folio_removed(m, pfn)
    return reclaim_small_folio(m, pfn, scan_flags)


@kernel
def reclaim_large_folio(m, head, scan_flags):
    """An anonymous large folio: in one piece to a device that takes such, else split, its pages on the lists again and the first one reclaimed."""
    order = page_order(m, head)
    if page_refs(m, head) > (1 if page_test(m, head, PG_SWAPCACHE) else 0):
        return RECLAIM_KEEP
    split = nr_pages_mapped(m, head) < 1 << order and entire_mapcount(m, head) == 0 and page_test(m, head + 1, PG_PARTIALLY_MAPPED)
    if scan_flags & SCAN_MAY_SWAP == 0:
        return RECLAIM_ACTIVATE
    if split == 0 and page_test(m, head, PG_SWAPCACHE) == 0 and page_test(m, head, PG_SWAPBACKED) and add_to_swap(m, head) < 0:
        split = 1
        if m.sc[SC_NR_SWAP_SLOTS] > 1:
            m.mthp[order * MTHP_STRIDE + MTHP_SWPOUT_FALLBACK] += 1
            if order == HPAGE_PMD_ORDER:
                m.vmstat[V_THP_SWPOUT_FALLBACK] += 1
    if split:
        own = page_pte_mapcount(m, head, head) + entire_mapcount(m, head)
        if split_folio(m, head) == 0:
            return RECLAIM_ACTIVATE
        if own == 0:
            return RECLAIM_FREED  # nobody mapped the first page: it is gone
        reclaimer_folio_removed(m, head)
        return reclaim_small_folio(m, head, scan_flags)
    split_huge_pmds_of(m, head)
    lazy = page_test(m, head, PG_SWAPBACKED) == 0
    if lazy and (page_test(m, head, PG_DIRTY) or rmap_walk(m, head, RMAP_DIRTY)):
        page_set(m, head, PG_SWAPBACKED)
        return RECLAIM_ACTIVATE
    rmap_walk(m, head, RMAP_UNMAP)
    if lazy:
        m.vmstat[V_PGLAZYFREED] += 1 << order
    else:
        if page_test(m, head, PG_DIRTY):
            page_clear(m, head, PG_DIRTY)
            m.vmstat[V_NR_VMSCAN_WRITE] += 1 << order
            m.vmstat[V_PSWPOUT] += 1 << order
            m.mthp[order * MTHP_STRIDE + MTHP_SWPOUT] += 1
            if order == HPAGE_PMD_ORDER:
                m.vmstat[V_THP_SWPOUT] += 1
            m.sc[SC_NOW_NS] += m.cost[COST_DEVICE_WRITE] << order
            if scan_flags & SCAN_PROACTIVE and m.sc[SC_SWAP_FLAGS] & 2 == 0:
                return RECLAIM_KEEP
        delete_from_swap_cache(m, head, reclaimer_eviction_shadow(m, head))
    free_large_folio(m, head, order)
    set_page_counts(m, head, 0, 0)
    set_page_mapping(m, head, NO_MAPPING)
    free_pages(m, head, order)
    return RECLAIM_FREED


@kernel
def reclaim_small_folio(m, pfn, scan_flags):
    """do_reclaim_folio() of a single page."""
    if page_refs(m, pfn) > (1 if page_test(m, pfn, PG_SWAPCACHE) or page_test(m, pfn, PG_ANON) == 0 else 0):
        return RECLAIM_KEEP
    if page_test(m, pfn, PG_ANON) and page_test(m, pfn, PG_SWAPBACKED) == 0:
        # MADV_FREE: a page written since is kept, for swap again; a clean one is dropped
        if page_test(m, pfn, PG_DIRTY) or rmap_walk(m, pfn, RMAP_DIRTY):
            page_set(m, pfn, PG_SWAPBACKED)
            return RECLAIM_ACTIVATE
        rmap_walk(m, pfn, RMAP_UNMAP)
        m.vmstat[V_PGLAZYFREED] += 1
    elif page_test(m, pfn, PG_ANON | PG_SWAPCACHE):
        if page_test(m, pfn, PG_SWAPCACHE) == 0:
            if scan_flags & SCAN_MAY_SWAP == 0 or add_to_swap(m, pfn) < 0:
                return RECLAIM_ACTIVATE
            page_set(m, pfn, PG_DIRTY)
        if page_mapcount(m, pfn) > 0:
            rmap_walk(m, pfn, RMAP_UNMAP)
            if page_mapcount(m, pfn) > 0:
                return RECLAIM_ACTIVATE
        if page_test(m, pfn, PG_DIRTY):
            if scan_flags & SCAN_MAY_WRITEPAGE == 0:
                return RECLAIM_KEEP
            page_clear(m, pfn, PG_DIRTY)
            m.vmstat[V_NR_VMSCAN_WRITE] += 1
            m.vmstat[V_PSWPOUT] += 1
            m.sc[SC_NOW_NS] += m.cost[COST_DEVICE_WRITE]
            if scan_flags & SCAN_PROACTIVE and m.sc[SC_SWAP_FLAGS] & 2 == 0:
                return RECLAIM_KEEP
        delete_from_swap_cache(m, pfn, reclaimer_eviction_shadow(m, pfn))
    else:
        if page_mapcount(m, pfn) > 0:
            rmap_walk(m, pfn, RMAP_UNMAP)
            if page_mapcount(m, pfn) > 0:
                return RECLAIM_ACTIVATE
        if page_test(m, pfn, PG_SWAPBACKED):
            if scan_flags & SCAN_MAY_SWAP == 0 or shmem_writepage(m, pfn) < 0:
                return RECLAIM_ACTIVATE
            m.vmstat[V_PSWPOUT] += 1
            m.sc[SC_NOW_NS] += m.cost[COST_DEVICE_WRITE]
            page_clear(m, pfn, PG_DIRTY)
            if scan_flags & SCAN_PROACTIVE and m.sc[SC_SWAP_FLAGS] & 2 == 0:
                return RECLAIM_KEEP
            delete_from_swap_cache(m, pfn, reclaimer_eviction_shadow(m, pfn))
            set_page_counts(m, pfn, 0, 0)
            free_pages(m, pfn, 0)
            return RECLAIM_FREED
        if page_test(m, pfn, PG_DIRTY):
            page_set(m, pfn, PG_RECLAIM)
            m.vmstat[V_NR_VMSCAN_IMMEDIATE_RECLAIM] += 1
            return RECLAIM_ACTIVATE
        filemap_remove(m, pfn, reclaimer_eviction_shadow(m, pfn))
    set_page_counts(m, pfn, 0, 0)
    set_page_mapping(m, pfn, NO_MAPPING)
    free_pages(m, pfn, 0)
    return RECLAIM_FREED
