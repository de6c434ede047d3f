"""alloc_pages() and free_pages(): zonelists, watermarks, the slow path. The block itself comes from the page_allocator slot.

Models: mm/page_alloc.c __alloc_pages(), get_page_from_freelist(), zone_watermark_fast(), __alloc_pages_slowpath(), zone_statistics(),
__free_pages(), gfp_to_alloc_flags_cma(); mm/mempolicy.c alloc_pages_preferred_many().
"""

from mmlab.kernels.jit import cold, kernel, leaf
from mmlab.kernels.likely import unlikely
from mmlab.kernels.ops import (
    page_allocator_alloc, page_allocator_can_alloc, page_allocator_drain, page_allocator_free, page_allocator_unreserve_highatomic,
)
from mmlab.kernels.services import (
    alloc_pages_slowpath, node_reclaim, out_of_memory, task_zonelist, try_to_compact_pages, wake_kswapd, wakeup_kcompactd,
)
from mmlab.kernels.zones import request_zone, wmark_pages, zone_of, zone_watermark_order0, zonelist_of
from mmlab.mm.compaction import compaction_zonelist_suitable
from mmlab.mm.mempolicy import count_interleave
from mmlab.mm.page_counter import current_memcg, mem_cgroup_charge, mem_cgroup_uncharge
from mmlab.mm.vmscan import try_to_free_pages, zone_reclaimable_pages
from mmlab.model.const import (
    ALLOC_CMA, ALLOC_HIGHATOMIC, ALLOC_KSWAPD, ALLOC_MIN_RESERVE, ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK, ALLOC_NO_WATERMARKS, ALLOC_OOM,
    ALLOC_WMARK_LOW, ALLOC_WMARK_MASK, ALLOC_WMARK_MIN, COMPACT_DEFERRED, COMPACT_PRIO_ASYNC, COMPACT_PRIO_SYNC_FULL,
    COMPACT_PRIO_SYNC_LIGHT, COMPACT_SKIPPED, COMPACT_SUCCESS, ENOMEM, MIGRATE_MOVABLE,
)
from mmlab.model.gfp import (
    GFP_ACCOUNT, GFP_DIRECT_RECLAIM, GFP_HIGH, GFP_IO, GFP_KSWAPD_RECLAIM, GFP_MEMALLOC, GFP_NOFAIL, GFP_NOMEMALLOC, GFP_NORETRY,
    GFP_RETRY_MAYFAIL, GFP_THISNODE, ZONE_NORMAL, gfp_migratetype,
)
from mmlab.model.page import (
    KIND_FREE, KIND_KERNEL, ZONE_MASK, ZONE_SHIFT, page_flags, set_page_counts, set_page_flags, set_page_fresh, set_page_kind,
)
from mmlab.model.rows import (
    CC_CAPTURED, CZ_BLOCKSKIP_FLUSH, CZ_CONSIDERED, CZ_DEFER_SHIFT, CZ_ORDER_FAILED, CZ_STRIDE, SC_COMPACT_RESULT, SC_CPU, SC_HIGHMEM,
    SC_IN_RECLAIM, SC_NEEDS_FUTURE, SC_NODE, SC_NODE_RECLAIM_MODE, SC_NR_NODES, SC_NR_ZONES, SC_NUMA_BALANCING, SC_OOM_NODEMASK, SC_TASK,
    TASK_STRIDE, TF_OOM_VICTIM, T_FLAGS, ZONE_BELOW_HIGH, ZONE_BOOSTED_WATERMARK, ZONE_STRIDE, Z_ALLOCATED, Z_FLAGS, Z_INDEX, Z_NODE,
    Z_NUMA_FOREIGN, Z_NUMA_HIT, Z_NUMA_LOCAL, Z_NUMA_MISS, Z_NUMA_OTHER, Z_WATERMARK_BOOST, Z_WMARK_MIN,
)
from mmlab.model.vmstat import V_COMPACT_FAIL, V_COMPACT_STALL, V_COMPACT_SUCCESS, V_PGALLOC_DMA, V_PGFREE

MAX_RECLAIM_RETRIES = 16
NEVER = 1 << 62
COSTLY_ORDER = 3


@leaf
def zone_watermark_fast(m, zone, order, mark, highest_zoneidx, alloc_flags):
    """1 if the zone may serve the request: enough pages above the mark and, for order > 0, a block of the size."""
    if zone_watermark_order0(m, zone, order, mark, highest_zoneidx, alloc_flags):
        return 1 if order == 0 else page_allocator_can_alloc(m, zone, order, alloc_flags)
    base = zone * ZONE_STRIDE
    if order == 0 and alloc_flags & ALLOC_MIN_RESERVE and m.zone[base + Z_WATERMARK_BOOST] and alloc_flags & ALLOC_WMARK_MASK == ALLOC_WMARK_MIN:
        return zone_watermark_order0(m, zone, 0, m.zone[base + Z_WMARK_MIN], highest_zoneidx, alloc_flags)
    return 0


@leaf
def zone_statistics(m, preferred, zone):
    """NUMA counters of one allocation."""
    want = preferred * ZONE_STRIDE
    got = zone * ZONE_STRIDE
    if m.zone[want + Z_NODE] == m.zone[got + Z_NODE]:
        m.zone[got + Z_NUMA_HIT] += 1
    else:
        m.zone[got + Z_NUMA_MISS] += 1
        m.zone[want + Z_NUMA_FOREIGN] += 1
    m.zone[got + (Z_NUMA_LOCAL if m.zone[got + Z_NODE] == m.sc[SC_NODE] else Z_NUMA_OTHER)] += 1


@leaf
def prep_new_page(m, pfn, zone, order):
    """The records of a block that was just taken from a zone: nobody's yet."""
    set_page_flags(m, pfn, zone << ZONE_SHIFT)
    set_page_counts(m, pfn, 0, 0)
    set_page_fresh(m, pfn, KIND_KERNEL, order)
    if unlikely(m.sc[SC_NEEDS_FUTURE]):
        m.next_use[pfn] = NEVER  # until an access of the stream says when the next one comes
    for tail in range(pfn + 1, pfn + (1 << order)):
        set_page_flags(m, tail, zone << ZONE_SHIFT)
        set_page_fresh(m, tail, KIND_KERNEL, 0)


@leaf
def alloc_flags_nofragment(m, zone):
    """1 where a request that prefers the zone should not mix mobility types: Normal of a 64-bit machine with memory below it on its node (or
    on the only node)."""
    base = zone * ZONE_STRIDE
    if m.zone[base + Z_INDEX] != ZONE_NORMAL or m.sc[SC_HIGHMEM]:
        return 0
    if m.sc[SC_NR_NODES] == 1:
        return 1
    return 1 if zone > 0 and m.zone[base - ZONE_STRIDE + Z_NODE] == m.zone[base + Z_NODE] else 0  # rows: by node, then zone


@cold
def zone_has_room(m, zone, preferred, gfp, highest, order, alloc_flags):
    """1 if a zone below its high watermark passes the one that the request has to heed, perhaps after reclaim on its node."""
    if alloc_flags & ALLOC_NO_WATERMARKS:
        return 1
    mark = wmark_pages(m, zone, alloc_flags & ALLOC_WMARK_MASK)
    if zone_watermark_fast(m, zone, order, mark, highest, alloc_flags):
        return 1
    if m.sc[SC_NODE_RECLAIM_MODE] == 0 or node_reclaim(m, preferred, zone, gfp, order) == 0:
        return 0
    return zone_watermark_fast(m, zone, order, mark, highest, alloc_flags)


@leaf
def try_this_zone(m, zone, preferred, gfp, highest, order, alloc_flags):
    """A block of the zone, if it passes its watermark and has one: the block's pfn, or -ENOMEM. highest: request_zone() of gfp."""
    base = zone * ZONE_STRIDE
    migratetype = gfp_migratetype(m, gfp)
    if migratetype == MIGRATE_MOVABLE:
        alloc_flags |= ALLOC_CMA
    passes = 0
    if m.zone[base + Z_FLAGS] & ZONE_BELOW_HIGH == 0:
        passes = zone_watermark_fast(m, zone, order, wmark_pages(m, zone, 2), highest, alloc_flags)
        if passes == 0:
            m.zone[base + Z_FLAGS] |= ZONE_BELOW_HIGH
    if unlikely(passes == 0) and zone_has_room(m, zone, preferred, gfp, highest, order, alloc_flags) == 0:
        return -ENOMEM
    pfn = page_allocator_alloc(m, zone, order, migratetype, alloc_flags)
    if unlikely(m.zone[base + Z_FLAGS] & ZONE_BOOSTED_WATERMARK) and alloc_flags & ALLOC_KSWAPD:
        m.zone[base + Z_FLAGS] &= ~ZONE_BOOSTED_WATERMARK
        wake_kswapd(m, m.zone[base + Z_NODE], 0, m.zone[base + Z_INDEX])
    if unlikely(pfn < 0):
        return -ENOMEM
    zone_statistics(m, preferred, zone)
    m.zone[base + Z_ALLOCATED] += 1 << order
    m.vmstat[V_PGALLOC_DMA + m.zone[base + Z_INDEX]] += 1 << order
    prep_new_page(m, pfn, zone, order)
    return pfn


@leaf
def first_zones_zonelist(m, gfp, node, highest):
    """Where in m.zonelist the first zone stands that the request may use; -1 stands there if none is."""
    at = zonelist_of(node, gfp)
    while unlikely(m.zonelist[at] >= 0 and m.zone[m.zonelist[at] * ZONE_STRIDE + Z_INDEX] > highest):
        at += 1
    return at


@cold
def try_next_zones(m, gfp, order, node, alloc_flags, nofragment):
    """get_page_from_freelist() after its first zone has refused: a pfn, or -ENOMEM. It finds its place again, so that the first attempt need
    not keep it."""
    highest = request_zone(m, gfp)
    at = first_zones_zonelist(m, gfp, node, highest)
    preferred = m.zonelist[at]
    unmixed = ALLOC_NOFRAGMENT if nofragment and alloc_flags_nofragment(m, preferred) else 0
    while True:
        at += 1
        zone = m.zonelist[at]
        if zone < 0:
            if unmixed == 0:
                return -ENOMEM
            unmixed = 0  # no zone could without mixing mobility types: scan again and mix
            at = zonelist_of(node, gfp) - 1
            continue
        if m.zone[zone * ZONE_STRIDE + Z_INDEX] > highest:
            continue
        if unmixed and m.zone[zone * ZONE_STRIDE + Z_NODE] != m.zone[preferred * ZONE_STRIDE + Z_NODE]:
            unmixed = 0  # local memory with mixed blocks is better than remote memory
            at = zonelist_of(node, gfp) - 1
            continue
        pfn = try_this_zone(m, zone, preferred, gfp, highest, order, alloc_flags | unmixed)
        if pfn >= 0:
            return pfn


@leaf
def get_page_from_freelist(m, gfp, order, node, alloc_flags, nofragment):
    """The first zone of the zonelist that passes its watermark and has a block: the block's pfn, or -ENOMEM.

    nofragment: 1 to avoid mixing mobility types where alloc_flags_nofragment() says so, as the fast path does.
    """
    highest = request_zone(m, gfp)
    zone = m.zonelist[first_zones_zonelist(m, gfp, node, highest)]
    if unlikely(zone < 0):
        return -ENOMEM
    unmixed = ALLOC_NOFRAGMENT if nofragment and alloc_flags_nofragment(m, zone) else 0
    pfn = try_this_zone(m, zone, zone, gfp, highest, order, alloc_flags | unmixed)
    if unlikely(pfn < 0):
        return try_next_zones(m, gfp, order, node, alloc_flags, nofragment)
    return pfn


@leaf
def gfp_to_alloc_flags(gfp, order):
    """What the slow path allows a request: which reserves it may enter."""
    flags = ALLOC_WMARK_MIN
    if gfp & GFP_HIGH:
        flags |= ALLOC_MIN_RESERVE
    if gfp & GFP_KSWAPD_RECLAIM:
        flags |= ALLOC_KSWAPD
    if gfp & GFP_DIRECT_RECLAIM == 0 and gfp & GFP_NOMEMALLOC == 0:
        flags |= ALLOC_NON_BLOCK
        if order > 0 and flags & ALLOC_MIN_RESERVE:
            flags |= ALLOC_HIGHATOMIC
    return flags


@leaf
def wake_all_kswapds(m, node, order, gfp):
    """Wake kswapd of every node in the zonelist, once each."""
    highest = request_zone(m, gfp)
    at = zonelist_of(node, gfp)
    last = -1
    while m.zonelist[at] >= 0:
        base = m.zonelist[at] * ZONE_STRIDE
        at += 1
        if m.zone[base + Z_INDEX] <= highest and m.zone[base + Z_NODE] != last:
            last = m.zone[base + Z_NODE]
            if wake_kswapd(m, last, order, highest) and gfp & GFP_DIRECT_RECLAIM == 0:
                wakeup_kcompactd(m, last, order, highest)  # there is memory, but not in blocks, and this request cannot compact


@kernel
def unreserve_highatomic_pageblock(m, gfp, node, force):
    """Give the request's type one pageblock of the highatomic reserve of the zonelist's zones: its pages, or 0."""
    at = zonelist_of(node, gfp)
    while m.zonelist[at] >= 0:
        zone = m.zonelist[at]
        at += 1
        if m.zone[zone * ZONE_STRIDE + Z_INDEX] <= request_zone(m, gfp):
            pages = page_allocator_unreserve_highatomic(m, zone, gfp_migratetype(m, gfp), force)
            if pages:
                return pages
    return 0


@leaf
def should_reclaim_retry(m, gfp, order, node, alloc_flags, no_progress):
    """1 while some zone would pass min if all its reclaimable pages were freed, for at most 16 rounds without progress; then as long as there
    are pageblocks that are kept for atomic requests."""
    if no_progress > MAX_RECLAIM_RETRIES:
        return 1 if unreserve_highatomic_pageblock(m, gfp, node, 1) else 0
    highest = request_zone(m, gfp)
    at = zonelist_of(node, gfp)
    while m.zonelist[at] >= 0:
        zone = m.zonelist[at]
        at += 1
        if m.zone[zone * ZONE_STRIDE + Z_INDEX] > highest:
            continue
        mark = wmark_pages(m, zone, 0) - zone_reclaimable_pages(m, zone)
        if zone_watermark_order0(m, zone, order, mark, highest, alloc_flags):
            return 1
    return 1 if unreserve_highatomic_pageblock(m, gfp, node, 1) else 0


@kernel
def retry_freelist(m, gfp, order, node, alloc_flags):
    """get_page_from_freelist() for the slow path, which asks in many places."""
    return get_page_from_freelist(m, gfp, order, node, alloc_flags, 0)


@kernel
def alloc_pages_direct_compact(m, gfp, order, alloc_flags, node, prio):
    """Compact for a request of order > 0 and try again: the block's pfn, or -ENOMEM; m.sc[SC_COMPACT_RESULT] says how it went."""
    m.sc[SC_COMPACT_RESULT] = COMPACT_SKIPPED
    if order == 0 or gfp & GFP_IO == 0:
        return -ENOMEM
    was = m.sc[SC_IN_RECLAIM]
    m.sc[SC_IN_RECLAIM] = 1
    m.sc[SC_COMPACT_RESULT] = try_to_compact_pages(m, gfp, order, alloc_flags, node, prio)
    m.sc[SC_IN_RECLAIM] = was
    if m.sc[SC_COMPACT_RESULT] == COMPACT_SKIPPED:
        return -ENOMEM
    m.vmstat[V_COMPACT_STALL] += 1
    pfn = m.cc[CC_CAPTURED]
    if pfn >= 0:  # it never was on a list, so that no allocation from a zone is counted
        prep_new_page(m, pfn, zone_of(m, pfn), order)
    else:
        pfn = get_page_from_freelist(m, gfp, order, node, alloc_flags, 0)
    if pfn < 0:
        m.vmstat[V_COMPACT_FAIL] += 1
        return -ENOMEM
    m.vmstat[V_COMPACT_SUCCESS] += 1
    base = zone_of(m, pfn) * CZ_STRIDE
    m.compact[base + CZ_BLOCKSKIP_FLUSH] = m.compact[base + CZ_CONSIDERED] = m.compact[base + CZ_DEFER_SHIFT] = 0
    if order >= m.compact[base + CZ_ORDER_FAILED]:
        m.compact[base + CZ_ORDER_FAILED] = order + 1
    return pfn


@leaf
def should_compact_retry(m, order, prio, retries):
    """The priority with which to try again, or -1: a success that came to nothing is retried as it was, a failure harder."""
    most = MAX_RECLAIM_RETRIES if order <= COSTLY_ORDER else MAX_RECLAIM_RETRIES // 4
    if m.sc[SC_COMPACT_RESULT] == COMPACT_SUCCESS and retries <= most:
        return prio
    hardest = COMPACT_PRIO_SYNC_LIGHT if order > COSTLY_ORDER else COMPACT_PRIO_SYNC_FULL
    return prio - 1 if prio > hardest else -1


@cold
def alloc_pages_preferred_many(m, gfp, order, node):
    """Where the zones of a preferred set are below their low watermarks: down to min there, without reclaim, then from any node above low. A
    pfn, or -1 - the row of the zonelist that the request has to go on with."""
    if gfp & GFP_KSWAPD_RECLAIM:
        wake_all_kswapds(m, node, order, gfp)
    pfn = retry_freelist(m, gfp, order, node, gfp_to_alloc_flags(gfp & ~GFP_DIRECT_RECLAIM, order))
    if pfn >= 0:
        return pfn
    nodes = m.sc[SC_NR_NODES]
    everywhere = nodes * (m.nodemask_next[node // nodes - 1] - 1) + node % nodes
    pfn = get_page_from_freelist(m, gfp, order, everywhere, ALLOC_WMARK_LOW | (ALLOC_KSWAPD if gfp & GFP_KSWAPD_RECLAIM else 0), 1)
    return pfn if pfn >= 0 else -1 - everywhere


@kernel
def do_alloc_pages_slowpath(m, gfp, order, node):
    """Service alloc_pages_slowpath: wake kswapd, try the reserves, reclaim, retry, at last the OOM policy. A pfn, or -ENOMEM."""
    if node >= m.sc[SC_NR_NODES] and m.nodemask_next[node // m.sc[SC_NR_NODES] - 1]:
        pfn = alloc_pages_preferred_many(m, gfp, order, node)
        if pfn >= 0:
            return pfn
        node = -1 - pfn
    flags = gfp_to_alloc_flags(gfp, order)
    if gfp & GFP_KSWAPD_RECLAIM:
        wake_all_kswapds(m, node, order, gfp)
    pfn = retry_freelist(m, gfp, order, node, flags)
    if pfn >= 0:
        return pfn
    prio = COMPACT_PRIO_SYNC_LIGHT
    compact_retries = 0
    direct = gfp & GFP_DIRECT_RECLAIM and m.sc[SC_IN_RECLAIM] == 0
    if direct and (order > COSTLY_ORDER or (order > 0 and gfp_migratetype(m, gfp) != MIGRATE_MOVABLE)):
        pfn = alloc_pages_direct_compact(m, gfp, order, flags, node, COMPACT_PRIO_ASYNC)
        if pfn >= 0:
            return pfn
        if order > COSTLY_ORDER and gfp & GFP_NORETRY:
            if m.sc[SC_COMPACT_RESULT] <= COMPACT_DEFERRED:
                return -ENOMEM
            prio = COMPACT_PRIO_ASYNC
    no_progress = 0
    drained = 0
    while True:
        if gfp & GFP_KSWAPD_RECLAIM:
            wake_all_kswapds(m, node, order, gfp)
        task = m.sc[SC_TASK]
        reserve = flags
        if gfp & GFP_NOMEMALLOC == 0:
            if gfp & GFP_MEMALLOC or m.sc[SC_IN_RECLAIM]:
                reserve = ALLOC_NO_WATERMARKS | (flags & ALLOC_KSWAPD)
            elif task >= 0 and m.task[task * TASK_STRIDE + T_FLAGS] & TF_OOM_VICTIM:
                reserve = flags | ALLOC_OOM
        # who may dip into the reserves may leave its nodes, too
        pfn = retry_freelist(m, gfp, order, node if reserve == flags else node % m.sc[SC_NR_NODES], reserve)
        if pfn >= 0:
            return pfn
        if gfp & GFP_DIRECT_RECLAIM == 0 or m.sc[SC_IN_RECLAIM]:
            return -ENOMEM
        if task >= 0 and m.task[task * TASK_STRIDE + T_FLAGS] & TF_OOM_VICTIM and gfp & GFP_NOFAIL == 0:
            return -ENOMEM
        freed = try_to_free_pages(m, gfp, order, node)
        if freed > 0:
            pfn = retry_freelist(m, gfp, order, node, flags)
            if pfn < 0 and drained == 0:
                drained = 1
                unreserve_highatomic_pageblock(m, gfp, node, 0)
                for zone in range(m.sc[SC_NR_ZONES]):
                    page_allocator_drain(m, zone, m.sc[SC_CPU])
                pfn = retry_freelist(m, gfp, order, node, flags)
            if pfn >= 0:
                return pfn
        if order > 0:
            pfn = alloc_pages_direct_compact(m, gfp, order, flags, node, prio)
            if pfn >= 0:
                return pfn
        if gfp & GFP_NORETRY:
            return -ENOMEM
        if order > COSTLY_ORDER and gfp & GFP_RETRY_MAYFAIL == 0:
            return -ENOMEM
        no_progress = 0 if freed > 0 and order <= COSTLY_ORDER else no_progress + 1
        if should_reclaim_retry(m, gfp, order, node, flags, no_progress):
            continue
        if freed > 0 and order > 0 and gfp & GFP_IO:
            if m.sc[SC_COMPACT_RESULT] == COMPACT_SKIPPED:
                if compaction_zonelist_suitable(m, gfp, order, node):
                    continue
            else:
                compact_retries += 1
                again = should_compact_retry(m, order, prio, compact_retries)
                if again >= 0:
                    compact_retries = compact_retries if again == prio else 0
                    prio = again
                    continue
        if gfp & (GFP_RETRY_MAYFAIL | GFP_THISNODE):
            return -ENOMEM
        m.sc[SC_OOM_NODEMASK] = node // m.sc[SC_NR_NODES]
        killed = out_of_memory(m, task, order)
        m.sc[SC_OOM_NODEMASK] = 0
        if killed == 0:
            if gfp & GFP_NOFAIL == 0:
                return -ENOMEM
            return retry_freelist(m, gfp, order, node, ALLOC_NO_WATERMARKS)
        no_progress = 0


@kernel
def free_pages(m, pfn, order):
    """Hand a block back. Its struct page is reset; nothing may map or hold it any more."""
    flags = page_flags(m, pfn)
    if flags & ~ZONE_MASK:  # rather than always: the allocator reads the zone next, and would wait for the store
        set_page_flags(m, pfn, flags & ZONE_MASK)
    set_page_counts(m, pfn, 0, 0)
    set_page_kind(m, pfn, KIND_FREE)
    if m.sc[SC_NUMA_BALANCING]:
        for page in range(pfn, pfn + (1 << order)):
            m.cpupid[page] = 0
    mem_cgroup_uncharge(m, pfn, 1 << order)
    m.vmstat[V_PGFREE] += 1 << order
    return page_allocator_free(m, pfn, order)


@cold
def charge_kmem_pages(m, pfn, gfp, order):
    """__memcg_kmem_charge_page(): pfn, or -ENOMEM and the block is free again."""
    if mem_cgroup_charge(m, pfn, current_memcg(m), gfp, 1 << order) < 0:
        free_pages(m, pfn, order)
        return -ENOMEM
    return pfn


@leaf
def do_alloc_pages(m, gfp, order, node):
    """A block of 2^order pages by the rules of gfp from node (-1: the CPU's): its pfn with counts 0, or -ENOMEM."""
    if node < 0:
        node = m.sc[SC_NODE] if m.sc[SC_NR_NODES] == 1 else task_zonelist(m)
    flags = ALLOC_WMARK_LOW | (ALLOC_KSWAPD if gfp & GFP_KSWAPD_RECLAIM else 0)
    pfn = get_page_from_freelist(m, gfp, order, node, flags, 1)
    if unlikely(pfn < 0):
        pfn = alloc_pages_slowpath(m, gfp, order, node)
    count_interleave(m, pfn)
    if unlikely(gfp & GFP_ACCOUNT) and pfn >= 0:
        return charge_kmem_pages(m, pfn, gfp, order)
    return pfn


@kernel
def alloc_pages(m, gfp, order, node):
    """Service: do_alloc_pages()."""
    return do_alloc_pages(m, gfp, order, node)
