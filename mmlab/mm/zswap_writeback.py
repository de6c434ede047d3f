"""Writing zswap's oldest entries back to the device: the worker of a pool that is full, and the shrinker that memory pressure calls.

Models: mm/zswap.c shrink_worker(), shrink_memcg(), shrink_memcg_cb(), zswap_shrinker_scan(), zswap_writeback_entry(). An entry that was stored
lately gets a second chance first. Left out: a list for each node (pressure on one node writes back what other nodes hold as well).
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import count_folio_events
from mmlab.kernels.page_class import new_page_class
from mmlab.kernels.services import shrink_worker
from mmlab.mm.page_cache import unlock_page
from mmlab.mm.page_io import __swap_writepage, blk_flush_plug
from mmlab.mm.swap_state import alloc_swap_page, swap_cache_get
from mmlab.mm.zswap import may_write_back, zswap_accept_thr_pages, zswap_entry_free, zswap_lru_add, zswap_lru_del
from mmlab.model.const import EAGAIN, EEXIST, ENOENT, ENOMEM
from mmlab.model.page import PG_RECLAIM, page_set
from mmlab.model.rows import (
    COST_DECOMPRESS_PAGE, COST_SCAN_PAGE, MC_ZSWAP_FIRST, MEMCG_STRIDE, SC_IN_RECLAIM, SC_NOW_NS, SC_NR_MEMCGS, ZSP_PAGES, ZSW_FIRST_NS,
    ZSW_NEXT_SHRINK, ZSW_REJECT_RECLAIM_FAIL, ZSW_SHRINK_PENDING, ZSW_WORKER_NS, ZSW_WRITTEN_BACK,
)
from mmlab.model.vmstat import V_ZSWPWB

MAX_RECLAIM_RETRIES = 16


@kernel
def zswap_writeback_entry(m, slot):
    """Decompress an entry into a page of the swap cache and write that: 0, -EEXIST if the page is cached already, or -ENOMEM."""
    if swap_cache_get(m, slot) >= 0:
        return -EEXIST
    content = np.int64(m.swap_class[slot])
    pfn = alloc_swap_page(m, slot, 1)
    if pfn < 0:
        return -ENOMEM
    m.sc[SC_NOW_NS] += m.cost[COST_DECOMPRESS_PAGE]
    new_page_class(m, pfn, content)
    count_folio_events(m, pfn, V_ZSWPWB, 1)
    zswap_entry_free(m, slot)
    unlock_page(m, pfn)
    page_set(m, pfn, PG_RECLAIM)
    __swap_writepage(m, pfn, slot, 1, content)
    return 0


@leaf
def shrink_memcg_cb(m, memcg, slot):
    """One entry: a second chance, or written back: 1 if it is gone, -EEXIST if its page is in the swap cache, so that it is soon of no use."""
    zswap_lru_del(m, memcg, slot)
    zswap_lru_add(m, memcg, slot)
    if m.zswap_referenced[slot]:
        m.zswap_referenced[slot] = 0
        return 0
    error = zswap_writeback_entry(m, slot)
    if error < 0:
        m.zswap[ZSW_REJECT_RECLAIM_FAIL] += 1
        return -EEXIST if error == -EEXIST else 0
    m.zswap[ZSW_WRITTEN_BACK] += 1
    return 1


@kernel
def shrink_memcg(m, memcg):
    """Look at the oldest entry of a cgroup: 0 if it was written back, -EAGAIN if not, -ENOENT if there is none that may be."""
    slot = m.memcg[memcg * MEMCG_STRIDE + MC_ZSWAP_FIRST]
    if slot == 0 or may_write_back(m, memcg) == 0:
        return -ENOENT
    m.sc[SC_NOW_NS] += m.cost[COST_SCAN_PAGE]
    return 0 if shrink_memcg_cb(m, memcg, slot) > 0 else -EAGAIN


@kernel
def do_zswap_shrinker_scan(m, memcg, nr_to_scan):
    """Look at so many of a cgroup's entries, oldest first: how many were written back, -1 if none were or a page is in the swap cache."""
    written = 0
    for _ in range(nr_to_scan):
        slot = m.memcg[memcg * MEMCG_STRIDE + MC_ZSWAP_FIRST]
        if slot == 0:
            break
        result = shrink_memcg_cb(m, memcg, slot)
        if result < 0:
            return -1
        written += result
    return written if written else -1


@leaf
def zswap_worker_turn(m):
    """Let the worker run if there is something for it, and it has had no more than half of the CPU's time since it was first asked."""
    if m.zswap[ZSW_SHRINK_PENDING]:
        began = m.sc[SC_NOW_NS]
        if m.zswap[ZSW_WORKER_NS] == 0:
            m.zswap[ZSW_FIRST_NS] = began
        if m.zswap[ZSW_WORKER_NS] * 2 <= began - m.zswap[ZSW_FIRST_NS]:
            shrink_worker(m)
            m.zswap[ZSW_WORKER_NS] += max(1, m.sc[SC_NOW_NS] - began)


@kernel
def do_shrink_worker(m):
    """Write back from all cgroups in turn until the pool is down to its accept threshold, or 16 tries have failed."""
    m.zswap[ZSW_SHRINK_PENDING] = 0
    was = m.sc[SC_IN_RECLAIM]
    m.sc[SC_IN_RECLAIM] = 1  # it takes what memory there is, and waits for none
    failures = attempts = 0
    nr_memcgs = max(1, m.sc[SC_NR_MEMCGS])
    while failures < MAX_RECLAIM_RETRIES:
        memcg = m.zswap[ZSW_NEXT_SHRINK]
        if memcg >= nr_memcgs:
            m.zswap[ZSW_NEXT_SHRINK] = 0
            if attempts == 0:
                failures += 1
            attempts = 0
        else:
            m.zswap[ZSW_NEXT_SHRINK] = memcg + 1
            result = shrink_memcg(m, memcg)
            if result != -ENOENT:
                attempts += 1
                if result < 0:
                    failures += 1
        if m.zs_pool[ZSP_PAGES] <= zswap_accept_thr_pages(m):
            break
    blk_flush_plug(m)
    m.sc[SC_IN_RECLAIM] = was
    return 0
