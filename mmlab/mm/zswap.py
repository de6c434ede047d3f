"""zswap: a compressed copy of swapped pages in memory, before the device: storing, loading, forgetting.

Models: mm/zswap.c zswap_store(), zswap_load(), zswap_invalidate(), zswap_check_limits(), zswap_lru_add(), zswap_folio_swapin(), zswap_shrinker_count(), obj_cgroup_may_zswap(). Writing
entries back to the device is mmlab.mm.zswap_writeback's. What a page compresses to follows from its class (m.compress). Left out: large
folios (as in Linux 6.12), the memory of the entries themselves, other compressors than their ratio.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import count_folio_events
from mmlab.kernels.services import shrink_memcg
from mmlab.mm.objcg import charge_object
from mmlab.mm.zsmalloc import zs_free, zs_malloc
from mmlab.model.page import PG_DIRTY, PG_HEAD, PG_SWAPCACHE, page_memcg, page_set, page_test
from mmlab.model.rows import (
    COST_COMPRESS_PAGE, COST_DECOMPRESS_PAGE, MC_PARENT, MC_ZSWAPPED, MC_ZSWAP_BYTES, MC_ZSWAP_DISK_SWAPINS, MC_ZSWAP_ENTRIES,
    MC_ZSWAP_FIRST, MC_ZSWAP_LAST, MC_ZSWAP_MAX_BYTES, MC_ZSWAP_NO_WRITEBACK, MEMCG_STRIDE, NR_CLASSES, SC_NEXT_EVENT_NS, SC_NOW_NS,
    SC_NR_MEMCGS, SC_TOTALRAM, ZSP_PAGES, ZSW_ACCEPT_PERCENT, ZSW_ENABLED, ZSW_FULL, ZSW_MAX_POOL_PERCENT, ZSW_POOL_LIMIT_HIT,
    ZSW_REJECT_ALLOC_FAIL, ZSW_REJECT_COMPRESS_POOR, ZSW_SHRINKER, ZSW_SHRINK_PENDING, ZSW_STORED,
)
from mmlab.model.vmstat import V_ZSWPIN, V_ZSWPOUT

POOL = 0  # of m.zs_pool


@leaf
def zswap_max_pages(m):
    """Pages that the pool may have."""
    return m.sc[SC_TOTALRAM] * m.zswap[ZSW_MAX_POOL_PERCENT] // 100


@leaf
def zswap_accept_thr_pages(m):
    """Pages at which a pool that was full takes pages again."""
    return zswap_max_pages(m) * m.zswap[ZSW_ACCEPT_PERCENT] // 100


@leaf
def zswap_check_limits(m):
    """1 while the pool is full: from its limit on until it has come down to the accept threshold."""
    if m.zs_pool[ZSP_PAGES] >= zswap_max_pages(m):
        m.zswap[ZSW_POOL_LIMIT_HIT] += 1
        m.zswap[ZSW_FULL] = 1
    elif m.zs_pool[ZSP_PAGES] <= zswap_accept_thr_pages(m):
        m.zswap[ZSW_FULL] = 0
    return m.zswap[ZSW_FULL]


@leaf
def over_zswap_limit(m, memcg):
    """The cgroup, of this one and its parents, that has as many bytes in zswap as memory.zswap.max allows; 0: none."""
    at = memcg
    while at > 0:
        if m.memcg[at * MEMCG_STRIDE + MC_ZSWAP_BYTES] >= m.memcg[at * MEMCG_STRIDE + MC_ZSWAP_MAX_BYTES]:
            return at
        at = m.memcg[at * MEMCG_STRIDE + MC_PARENT]
    return 0


@leaf
def may_write_back(m, memcg):
    """1 unless the cgroup or a parent forbids it (memory.zswap.writeback)."""
    at = memcg
    while at > 0:
        if m.memcg[at * MEMCG_STRIDE + MC_ZSWAP_NO_WRITEBACK]:
            return 0
        at = m.memcg[at * MEMCG_STRIDE + MC_PARENT]
    return 1


@leaf
def zswap_lru_add(m, memcg, slot):
    """To the young end of the cgroup's list."""
    row = memcg * MEMCG_STRIDE
    last = m.memcg[row + MC_ZSWAP_LAST]
    m.zswap_prev[slot] = last
    m.zswap_next[slot] = 0
    if last:
        m.zswap_next[last] = slot
    else:
        m.memcg[row + MC_ZSWAP_FIRST] = slot
    m.memcg[row + MC_ZSWAP_LAST] = slot
    m.memcg[row + MC_ZSWAP_ENTRIES] += 1


@leaf
def zswap_lru_del(m, memcg, slot):
    """Off the cgroup's list."""
    row = memcg * MEMCG_STRIDE
    before, after = np.int64(m.zswap_prev[slot]), np.int64(m.zswap_next[slot])
    if before:
        m.zswap_next[before] = after
    else:
        m.memcg[row + MC_ZSWAP_FIRST] = after
    if after:
        m.zswap_prev[after] = before
    else:
        m.memcg[row + MC_ZSWAP_LAST] = before
    m.memcg[row + MC_ZSWAP_ENTRIES] -= 1


@leaf
def zswap_bytes(m, content):
    """Bytes of a compressed page of a class."""
    return m.compress[NR_CLASSES + content]


@leaf
def _account(m, memcg, bytes_, entries):
    m.zswap[ZSW_STORED] += entries
    if memcg:
        charge_object(m, memcg, bytes_)
    at = memcg
    while at > 0:
        m.memcg[at * MEMCG_STRIDE + MC_ZSWAP_BYTES] += bytes_
        m.memcg[at * MEMCG_STRIDE + MC_ZSWAPPED] += entries
        at = m.memcg[at * MEMCG_STRIDE + MC_PARENT]


@leaf
def zswap_shrinker_count(m, memcg):
    """Entries of a cgroup that its shrinker could write back, in pages that this would free: those that were read from the device lately are
    spared, as many of them as there are entries count once. The root is judged by what its children have, as its own entries are not charged."""
    row = memcg * MEMCG_STRIDE
    if m.zswap[ZSW_SHRINKER] == 0 or may_write_back(m, memcg) == 0:
        return 0
    bytes_ = m.memcg[row + MC_ZSWAP_BYTES]
    stored = m.memcg[row + MC_ZSWAPPED]
    if memcg == 0:
        for child in range(1, m.sc[SC_NR_MEMCGS]):
            if m.memcg[child * MEMCG_STRIDE + MC_PARENT] == 0:
                bytes_ += m.memcg[child * MEMCG_STRIDE + MC_ZSWAP_BYTES]
                stored += m.memcg[child * MEMCG_STRIDE + MC_ZSWAPPED]
    freeable = m.memcg[row + MC_ZSWAP_ENTRIES]
    if stored == 0 or freeable == 0:
        return 0
    spared = min(freeable, m.memcg[row + MC_ZSWAP_DISK_SWAPINS])
    m.memcg[row + MC_ZSWAP_DISK_SWAPINS] -= spared
    return (freeable - spared) * (bytes_ >> 12) // stored


@kernel
def zswap_entry_free(m, slot):
    """The entry over a slot goes, with its object and its charge."""
    memcg = np.int64(m.swap_memcg[slot])
    bytes_ = zswap_bytes(m, np.int64(m.swap_class[slot]))
    zswap_lru_del(m, memcg, slot)
    zs_free(m, np.int64(m.zswap_entry[slot]), bytes_)
    m.zswap_entry[slot] = 0
    _account(m, memcg, -bytes_, -1)
    return 0


@leaf
def zswap_invalidate(m, slot):
    """The slot's data is worth nothing any more."""
    if m.zswap_entry[slot]:
        zswap_entry_free(m, slot)


@kernel
def zswap_store(m, pfn, slot, content):
    """Keep a page of a class compressed instead of writing it: 1, or 0 if the device has to take it; an older copy is gone in any case.

    A pool that is full asks for write-back by the shrink worker.
    """
    zswap_invalidate(m, slot)
    if m.zswap[ZSW_ENABLED] == 0 or page_test(m, pfn, PG_HEAD):
        return 0
    memcg = np.int64(m.swap_memcg[slot])
    if over_zswap_limit(m, memcg) and shrink_memcg(m, memcg) < 0:
        return 0
    if zswap_check_limits(m):
        m.zswap[ZSW_SHRINK_PENDING] = 1
        m.sc[SC_NEXT_EVENT_NS] = min(m.sc[SC_NEXT_EVENT_NS], m.sc[SC_NOW_NS])
        return 0
    m.sc[SC_NOW_NS] += m.cost[COST_COMPRESS_PAGE]
    bytes_ = zswap_bytes(m, content)
    if bytes_ >= 4096:
        m.zswap[ZSW_REJECT_COMPRESS_POOR] += 1
        return 0
    handle = zs_malloc(m, POOL, bytes_)
    if handle < 0:
        m.zswap[ZSW_REJECT_ALLOC_FAIL] += 1
        return 0
    m.zswap_entry[slot] = handle
    m.zswap_referenced[slot] = 1
    m.swap_class[slot] = content
    zswap_lru_add(m, memcg, slot)
    _account(m, memcg, bytes_, 1)
    count_folio_events(m, pfn, V_ZSWPOUT, 1)
    return 1


@kernel
def zswap_load(m, pfn, slot):
    """Decompress a slot's entry into a page: 1, or 0 if there is none. For a page in the swap cache the entry goes and the page is dirty."""
    if m.zswap_entry[slot] == 0:
        return 0
    m.sc[SC_NOW_NS] += m.cost[COST_DECOMPRESS_PAGE]
    count_folio_events(m, pfn, V_ZSWPIN, 1)
    if page_test(m, pfn, PG_SWAPCACHE):
        zswap_entry_free(m, slot)
        page_set(m, pfn, PG_DIRTY)
    return 1


@leaf
def zswap_folio_swapin(m, pfn):
    """A page was not in zswap and has to be read from its device: one that the shrinker had better left."""
    m.memcg[page_memcg(m, pfn) * MEMCG_STRIDE + MC_ZSWAP_DISK_SWAPINS] += 1
