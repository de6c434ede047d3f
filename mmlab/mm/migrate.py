"""Moving a page to another frame: its mappings, its place in a cache, its flags and counters.

Models: mm/migrate.c alloc_migration_target(), migrate_folio_unmap(), folio_migrate_mapping(), folio_migrate_flags(), remove_migration_ptes().
Left out: migration entries (nobody looks between unmapping and mapping again), pages under writeback.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import entire_mapcount, move_deferred_split, nr_pages_mapped
from mmlab.kernels.memory_tiers import node_is_toptier
from mmlab.kernels.ops import reclaimer_folio_added, reclaimer_folio_removed
from mmlab.kernels.services import alloc_pages, free_pages, rmap_walk, xa_store
from mmlab.kernels.zones import page_node
from mmlab.mm.xarray import XA_PAGE
from mmlab.model.const import HPAGE_PMD_ORDER, NUMA_BALANCING_MEMORY_TIERING, RMAP_MIGRATE
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KSWAPD_RECLAIM, GFP_RECLAIM, GFP_TRANSHUGE_LIGHT
from mmlab.model.page import (
    KIND_ANON, KIND_BOOT, KIND_FILE, KIND_SHMEM, NO_MAPPING, PG_ANON, PG_DIRTY, PG_FLAGS_MASK, PG_HEAD, PG_LOCKED, PG_LRU, PG_SWAPBACKED,
    PG_SWAPCACHE, PG_TAIL, PG_WRITEBACK, ZONE_MASK, folio_nr_pages, page_clear, page_flags, page_index, page_kind, page_mapcount,
    page_mapping, page_memcg, page_order, page_private, page_refs, page_set, page_test, set_page_counts, set_page_flags, set_page_index,
    set_page_kind, set_page_mapping, set_page_memcg, set_page_order, set_page_private,
)
from mmlab.model.rows import (
    COST_MIGRATE_FOLIO, COST_MIGRATE_PAGE, SC_MIGRATE_DELTA, SC_NEEDS_FUTURE, SC_NOW_NS, SC_NUMA_BALANCING, SC_WANTS_ACCESS, WANTS_SUBPAGES,
)
from mmlab.model.vmstat import (
    V_NR_ANON_PAGES, V_NR_ANON_TRANSPARENT_HUGEPAGES, V_NR_DIRTY, V_NR_FILE_PAGES, V_NR_MAPPED, V_NR_SHMEM, V_NR_SHMEM_HUGEPAGES,
    V_NR_SHMEM_PMDMAPPED, V_NR_SWAPCACHED, V_PGMIGRATE_SUCCESS, V_THP_MIGRATION_SUCCESS, mod_node_state,
)


@leaf
def is_cached(m, pfn):
    """1 if the page cache or the swap cache holds the page."""
    if page_kind(m, pfn) == KIND_BOOT:
        return 0
    if page_test(m, pfn, PG_ANON):
        return 1 if page_test(m, pfn, PG_SWAPCACHE) else 0
    return 1 if page_mapping(m, pfn) != NO_MAPPING else 0


@leaf
def isolate_folio(m, pfn):
    """Take a folio of any size off its LRU list, if nobody holds it but its mappings and its cache: 1 if that was done."""
    flags = page_flags(m, pfn)
    if page_kind(m, pfn) == KIND_BOOT:
        return 1 if flags & PG_SWAPBACKED else 0
    if flags & PG_LRU == 0 or flags & (PG_TAIL | PG_LOCKED | PG_WRITEBACK):
        return 0
    kind = page_kind(m, pfn)
    if (kind != KIND_ANON and kind != KIND_FILE and kind != KIND_SHMEM) or page_refs(m, pfn) != is_cached(m, pfn):
        return 0
    reclaimer_folio_removed(m, pfn)
    return 1


@leaf
def isolate_movable(m, pfn):
    """isolate_folio() for those who move single pages only."""
    return 0 if page_flags(m, pfn) & PG_HEAD else isolate_folio(m, pfn)


@leaf
def alloc_migration_target(m, folio, gfp, zonelist):
    """A free block of the folio's size; gfp: flags besides those of its size. -ENOMEM: there is none."""
    if page_test(m, folio, PG_HEAD):
        return alloc_pages(m, (GFP_TRANSHUGE_LIGHT | gfp) & ~GFP_KSWAPD_RECLAIM, page_order(m, folio), zonelist)
    return alloc_pages(m, (GFP_HIGHUSER_MOVABLE & ~GFP_RECLAIM) | gfp, 0, zonelist)


@leaf
def _move_node_counters(m, src, node, sign):
    """Take the folio's share (sign -1) from a node's counters, or add it."""
    anon = page_test(m, src, PG_ANON)
    nr = folio_nr_pages(m, src)
    mapped = 1 if page_mapcount(m, src) > 0 else 0
    if nr > 1:
        whole = entire_mapcount(m, src) > 0
        mapped = nr if whole else nr_pages_mapped(m, src)
        if whole:
            mod_node_state(m, node, V_NR_ANON_TRANSPARENT_HUGEPAGES if anon else V_NR_SHMEM_PMDMAPPED, sign)
        if anon == 0:
            mod_node_state(m, node, V_NR_SHMEM_HUGEPAGES, sign)
    if mapped:
        mod_node_state(m, node, V_NR_ANON_PAGES if anon else V_NR_MAPPED, sign * mapped)
    if is_cached(m, src):
        mod_node_state(m, node, V_NR_FILE_PAGES, sign * nr)
        if anon:
            mod_node_state(m, node, V_NR_SWAPCACHED, sign * nr)
        elif page_test(m, src, PG_SWAPBACKED):
            mod_node_state(m, node, V_NR_SHMEM, sign * nr)
        elif page_test(m, src, PG_DIRTY):
            mod_node_state(m, node, V_NR_DIRTY, sign * nr)


@leaf
def _move_record(m, src, dst):
    """What mem_map knows of one page."""
    set_page_flags(m, dst, (page_flags(m, dst) & ZONE_MASK) | (page_flags(m, src) & PG_FLAGS_MASK & ~PG_LRU))
    set_page_counts(m, dst, page_mapcount(m, src), page_refs(m, src))
    set_page_mapping(m, dst, page_mapping(m, src))
    set_page_index(m, dst, page_index(m, src))
    set_page_private(m, dst, page_private(m, src))
    set_page_kind(m, dst, page_kind(m, src))
    m.page_class[dst] = m.page_class[src]
    if m.sc[SC_WANTS_ACCESS] & WANTS_SUBPAGES:
        m.subpage[dst] = m.subpage[src]
    if m.sc[SC_NUMA_BALANCING]:
        crossing = node_is_toptier(m, page_node(m, src)) != node_is_toptier(m, page_node(m, dst))
        m.cpupid[dst] = 0 if crossing and m.sc[SC_NUMA_BALANCING] & NUMA_BALANCING_MEMORY_TIERING else m.cpupid[src]
    if m.sc[SC_NEEDS_FUTURE]:
        m.next_use[dst] = m.next_use[src]
    set_page_flags(m, src, page_flags(m, src) & ~PG_FLAGS_MASK)
    set_page_counts(m, src, 0, 0)
    set_page_mapping(m, src, NO_MAPPING)
    set_page_private(m, src, 0)


@kernel
def putback_movable(m, pfn):
    """An isolated page goes back to its list."""
    return 0 if page_kind(m, pfn) == KIND_BOOT else reclaimer_folio_added(m, pfn)


@kernel
def migrate_folio(m, src, dst):
    """Everything that is at src, an isolated folio, moves to dst, a free block of its size that was allocated; src is freed.

    Pages that boot left on LRU lists (KIND_BOOT, PG_SWAPBACKED) have no mapping here: they only change places."""
    nr = folio_nr_pages(m, src)
    m.sc[SC_NOW_NS] += m.cost[COST_MIGRATE_FOLIO] + nr * m.cost[COST_MIGRATE_PAGE]
    if page_kind(m, src) == KIND_BOOT:
        set_page_kind(m, dst, KIND_BOOT)
        page_set(m, dst, PG_SWAPBACKED)
        page_clear(m, src, PG_SWAPBACKED)
        m.vmstat[V_PGMIGRATE_SUCCESS] += 1
        free_pages(m, src, 0)
        return 0
    m.sc[SC_MIGRATE_DELTA] = dst - src
    rmap_walk(m, src, RMAP_MIGRATE)
    if page_node(m, src) != page_node(m, dst):
        _move_node_counters(m, src, page_node(m, src), -1)
        _move_node_counters(m, src, page_node(m, dst), 1)
    for i in range(nr):
        if page_test(m, src, PG_ANON) == 0:
            if page_mapping(m, src) != NO_MAPPING:
                xa_store(m, page_mapping(m, src), page_index(m, src) + i, ((dst + i) << 2) | XA_PAGE)
        elif page_test(m, src, PG_SWAPCACHE):
            m.swap_cache[page_private(m, src) + i] = ((dst + i) << 1) | 1
    order = page_order(m, src) if nr > 1 else 0
    set_page_order(m, dst, order)
    set_page_memcg(m, dst, page_memcg(m, src))
    set_page_memcg(m, src, 0)  # the charge goes with it
    for i in range(nr):
        _move_record(m, src + i, dst + i)
    if nr > 1:
        move_deferred_split(m, src, dst)
    reclaimer_folio_added(m, dst)
    m.vmstat[V_PGMIGRATE_SUCCESS] += nr
    if order == HPAGE_PMD_ORDER:
        m.vmstat[V_THP_MIGRATION_SUCCESS] += 1
    free_pages(m, src, order)
    return 0
