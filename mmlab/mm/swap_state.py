"""The swap cache and reading pages back from swap, with cluster or VMA read-ahead.

Models: mm/swap_state.c add_to_swap(), delete_from_swap_cache(), swap_cache_get_folio(), swapin_nr_pages(), swap_cluster_readahead(),
swap_vma_readahead(), __read_swap_cache_async(); the synchronous path of mm/memory.c do_swap_page(). Left out: reading large folios back whole.
Pages of a window stay locked until all of it is read, so that reclaim during the allocations leaves them alone.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_folio_added
from mmlab.kernels.pte import walk_pte
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.kernels.zones import page_node
from mmlab.mm.page_cache import lock_page, unlock_page
from mmlab.mm.page_io import swap_read_folio, swap_read_unplug
from mmlab.mm.page_counter import charge_swap, mem_cgroup_charge, uncharge_swap
from mmlab.mm.swap_slots import SWAPIN_FIRST_HITS, slot_freed, swap_alloc, swap_alloc_cluster, swap_count, swap_device, swap_flags
from mmlab.mm.workingset import workingset_refault
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.page import (
    KIND_ANON, NO_MAPPING, PG_DIRTY, PG_HEAD, PG_READAHEAD, PG_SWAPBACKED, PG_SWAPCACHE, PG_UPTODATE, PG_WRITEBACK, add_refs,
    folio_nr_pages, page_clear, page_memcg, page_order, page_private, page_set, page_test, page_test_clear, set_page_kind, set_page_mapping,
    set_page_private,
)
from mmlab.model.rows import (
    PTE_SHIFT, PTE_SWAP, SC_NR_SWAP_SLOTS, SC_PAGE_CLUSTER, SC_SWAP_FLAGS, SC_SWAPIN_HITS, SC_SWAPIN_LAST, SC_SWAPIN_PREV, SI_FIRST,
    SI_PAGES, SWAP_INFO_STRIDE, SWAP_ROTATIONAL, SWAP_SSD, SWAP_SYNCHRONOUS, VMA_END, VMA_RA_ADDR, VMA_RA_HITS, VMA_RA_WIN, VMA_START,
    VMA_STRIDE,
)
from mmlab.model.vmstat import V_NR_FILE_PAGES, V_NR_SWAPCACHED, V_SWAP_RA, V_SWAP_RA_HIT, mod_node_state

SWAP_RA_ORDER_CEILING = 5
SWAP_RA_HITS_MAX = 63


@leaf
def swap_cache_get(m, slot):
    """The cached page over a slot, or -1; a look and nothing else."""
    entry = m.swap_cache[slot]
    return entry >> 1 if entry & 1 else -1


@leaf
def _add_to_swap_cache(m, pfn, slot):
    m.swap_cache[slot] = (pfn << 1) | 1
    page_set(m, pfn, PG_SWAPCACHE)
    set_page_private(m, pfn, slot)
    add_refs(m, pfn, 1)
    node = page_node(m, pfn)
    mod_node_state(m, node, V_NR_SWAPCACHED, 1)
    mod_node_state(m, node, V_NR_FILE_PAGES, 1)


@kernel
def add_to_swap(m, pfn):
    """Give an anonymous folio slots and put it into the swap cache, dirty: its (first) slot, or -1 when there is none.

    A large folio needs an aligned run of free slots, which only a non-rotational device keeps.
    """
    if page_test(m, pfn, PG_HEAD):
        return _add_large_to_swap(m, pfn)
    memcg = page_memcg(m, pfn)
    slot = swap_alloc(m)
    if slot < 0:
        return -1
    if memcg and charge_swap(m, memcg, 1) < 0:
        slot_freed(m, slot)
        return -1
    m.swap_memcg[slot] = memcg
    _add_to_swap_cache(m, pfn, slot)
    page_set(m, pfn, PG_DIRTY)
    return slot


@kernel
def _add_large_to_swap(m, head):
    order, memcg = page_order(m, head), page_memcg(m, head)
    nr = 1 << order
    if memcg and charge_swap(m, memcg, nr) < 0:
        return -1
    slot = swap_alloc_cluster(m, order) if m.sc[SC_SWAP_FLAGS] & (SWAP_SSD | SWAP_SYNCHRONOUS) else -1
    if slot < 0:
        uncharge_swap(m, memcg, nr)
        return -1
    for i in range(nr):
        m.swap_memcg[slot + i] = memcg
        m.swap_cache[slot + i] = ((head + i) << 1) | 1
    page_set(m, head, PG_SWAPCACHE | PG_DIRTY)
    set_page_private(m, head, slot)
    add_refs(m, head, 1)
    node = page_node(m, head)
    mod_node_state(m, node, V_NR_SWAPCACHED, nr)
    mod_node_state(m, node, V_NR_FILE_PAGES, nr)
    return slot


@leaf
def folio_swapped(m, pfn):
    """1 if anything still refers to a slot of the folio, which is in the swap cache."""
    slot = page_private(m, pfn)
    for i in range(folio_nr_pages(m, pfn)):
        if swap_count(m, slot + i) > 0:
            return 1
    return 0


@kernel
def delete_from_swap_cache(m, pfn, shadow):
    """Take a folio out of the swap cache and drop the cache's reference; slots without references are freed, others keep a shadow >= 0.

    Returns the folio's counts that are left; at 0 the caller frees it.
    """
    slot = page_private(m, pfn)
    nr = folio_nr_pages(m, pfn)
    page_clear(m, pfn, PG_SWAPCACHE)
    set_page_private(m, pfn, 0)
    node = page_node(m, pfn)
    mod_node_state(m, node, V_NR_SWAPCACHED, -nr)
    mod_node_state(m, node, V_NR_FILE_PAGES, -nr)
    for i in range(slot, slot + nr):
        m.swap_cache[i] = (shadow + 1) << 1 if shadow >= 0 else 0
        if swap_count(m, i) == 0:
            slot_freed(m, i)
    return add_refs(m, pfn, -1)


@kernel
def folio_free_swap(m, pfn):
    """Take a folio in the swap cache out of it, dirty, if nothing refers to its slots and it is not being written: 1, else 0."""
    if page_test(m, pfn, PG_WRITEBACK) or folio_swapped(m, pfn):
        return 0
    delete_from_swap_cache(m, pfn, -1)
    page_set(m, pfn, PG_DIRTY)
    return 1


@leaf
def _use_vma_readahead(m):
    """1 unless some device is rotational."""
    return 1 if m.sc[SC_SWAP_FLAGS] & SWAP_ROTATIONAL == 0 else 0


@kernel
def swap_cache_lookup(m, slot, vma, vpn):
    """The look-up of a fault: the cached page or -1. A page that read-ahead brought counts as a hit. vma -1: no VMA (shmem)."""
    pfn = swap_cache_get(m, slot)
    if pfn < 0:
        return -1
    marked = page_test_clear(m, pfn, PG_READAHEAD)
    by_vma = vma >= 0 and _use_vma_readahead(m) != 0
    if by_vma:
        row = vma * VMA_STRIDE
        hits = _vma_hits(m, vma)
        m.vma[row + VMA_RA_HITS] = min(hits + 1, SWAP_RA_HITS_MAX) if marked else hits
        m.vma[row + VMA_RA_ADDR] = vpn << 12
    if marked:
        m.vmstat[V_SWAP_RA_HIT] += 1
        if not by_vma:
            m.sc[SC_SWAPIN_HITS] += 1
    return pfn


@leaf
def _vma_hits(m, vma):
    """Hits since the VMA's last window; a VMA without any history counts as one with four."""
    row = vma * VMA_STRIDE
    hits = m.vma[row + VMA_RA_HITS]
    if hits == 0 and m.vma[row + VMA_RA_WIN] == 0 and m.vma[row + VMA_RA_ADDR] <= 0:
        return SWAPIN_FIRST_HITS
    return hits


@leaf
def window_pages(prev, offset, hits, max_pages, last_window):
    """Size of a read-ahead window (a power of two): by the hits since the last one, at most max_pages, at least half of the last."""
    pages = 4
    if hits == 0:
        pages = 2 if offset == prev + 1 or offset == prev - 1 else 1
    else:
        while pages < hits + 2:
            pages <<= 1
    return max(min(pages, max_pages), last_window // 2)


@leaf
def swapin_nr_pages(m, slot):
    """Pages of the cluster window for a miss at this slot; takes the hit counter and zeroes it."""
    max_pages = 1 << m.sc[SC_PAGE_CLUSTER]
    if max_pages == 1:
        return 1
    hits = m.sc[SC_SWAPIN_HITS]
    m.sc[SC_SWAPIN_HITS] = 0
    pages = window_pages(m.sc[SC_SWAPIN_PREV], slot, hits, max_pages, m.sc[SC_SWAPIN_LAST])
    if hits == 0:
        m.sc[SC_SWAPIN_PREV] = slot
    m.sc[SC_SWAPIN_LAST] = pages
    return pages


@kernel
def alloc_swap_page(m, slot, cached):
    """A new page for what a slot holds: its pfn, or -ENOMEM (also if an OOM kill freed the slot). cached: in the swap cache, locked."""
    pfn = alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0, -1)
    if pfn < 0:
        return -ENOMEM
    if mem_cgroup_charge(m, pfn, np.int64(m.swap_memcg[slot]), GFP_HIGHUSER_MOVABLE, 1) < 0:
        free_pages(m, pfn, 0)
        return -ENOMEM
    if swap_count(m, slot) == 0 or m.swap_cache[slot] & 1:  # reclaim for the charge, or a kill, changed it
        free_pages(m, pfn, 0)
        return -ENOMEM
    shadow = (m.swap_cache[slot] >> 1) - 1
    set_page_kind(m, pfn, KIND_ANON)
    set_page_mapping(m, pfn, NO_MAPPING)
    page_set(m, pfn, PG_SWAPBACKED | PG_UPTODATE)
    if cached:
        _add_to_swap_cache(m, pfn, slot)
        lock_page(m, pfn)
    if shadow >= 0:
        workingset_refault(m, pfn, shadow, 0)
    reclaimer_folio_added(m, pfn)
    return pfn


@kernel
def _read_swap_page(m, slot, cached):
    """alloc_swap_page(), filled from the device or from what is before it."""
    pfn = alloc_swap_page(m, slot, cached)
    if pfn >= 0:
        swap_read_folio(m, pfn, slot)
    return pfn


@leaf
def _wants_reading(m, slot):
    """1 if read-ahead may read the slot: in use, and no page over it yet."""
    return 1 if slot > 0 and slot < m.sc[SC_NR_SWAP_SLOTS] and swap_count(m, slot) > 0 and m.swap_cache[slot] & 1 == 0 else 0


@leaf
def _read_one(m, slot, wanted):
    """Read a slot of a window into the swap cache; all but the wanted one are marked. Returns 1 if a page was read."""
    if _wants_reading(m, slot) == 0:
        return 0
    pfn = _read_swap_page(m, slot, 1)
    if pfn < 0:
        return 0
    if slot != wanted:
        page_set(m, pfn, PG_READAHEAD)
        m.vmstat[V_SWAP_RA] += 1
    return 1


@leaf
def _unlock(m, slot):
    pfn = swap_cache_get(m, slot)
    if pfn >= 0:
        unlock_page(m, pfn)


@kernel
def read_swap_cache_async(m, slot):
    """Read one slot into the swap cache if it is in use and not there: 1 if it was read."""
    read = _read_one(m, slot, slot)
    if read:
        _unlock(m, slot)
        swap_read_unplug(m)
    return read


@leaf
def _swap_end(m, slot):
    """What a read ends with: the page over the slot, or -ENOMEM if there was no memory for it."""
    pfn = swap_cache_get(m, slot)
    return pfn if pfn >= 0 else -ENOMEM


@kernel
def swap_cluster_readahead(m, slot):
    """Read the aligned block of slots around a miss: pfn of the slot's page in the swap cache, or -ENOMEM."""
    row = swap_device(m, slot) * SWAP_INFO_STRIDE
    header = m.swap_info[row + SI_FIRST] - 1  # the device's offset 0
    window = swapin_nr_pages(m, slot)
    first = max(header + ((slot - header) & ~(window - 1)), header + 1)
    end = min(header + ((slot - header) | (window - 1)), header + m.swap_info[row + SI_PAGES]) + 1
    for other in range(first, end):
        _read_one(m, other, slot)
    if swap_cache_get(m, slot) < 0:
        _read_one(m, slot, slot)
    for other in range(first, end):
        _unlock(m, other)
    swap_read_unplug(m)
    return _swap_end(m, slot)


@kernel
def swap_vma_readahead(m, slot, mm, vma, vpn):
    """Read what the PTEs around a miss hold: pfn of the slot's page in the swap cache, or -ENOMEM."""
    row = vma * VMA_STRIDE
    max_window = 1 << min(m.sc[SC_PAGE_CLUSTER], SWAP_RA_ORDER_CEILING)
    first = vpn
    end = vpn + 1
    if max_window > 1:
        prev = max(0, m.vma[row + VMA_RA_ADDR]) >> 12
        window = window_pages(prev, vpn, _vma_hits(m, vma), max_window, m.vma[row + VMA_RA_WIN])
        m.vma[row + VMA_RA_ADDR] = vpn << 12
        m.vma[row + VMA_RA_WIN] = window
        m.vma[row + VMA_RA_HITS] = 0
        if vpn == prev + 1:
            end = vpn + window
        elif vpn == prev - 1:
            first = vpn - window + 1
        else:
            first = vpn - (window - 1) // 2
            end = first + window
        first = max(first, m.vma[row + VMA_START] >> 12, vpn >> 9 << 9)
        end = min(end, m.vma[row + VMA_END] >> 12, ((vpn >> 9) + 1) << 9)
    table = walk_pte(m, mm, first)
    if table >= 0:
        for entry_slot in range(table, table + end - first):
            if m.pt[entry_slot] & PTE_SWAP:
                _read_one(m, m.pt[entry_slot] >> PTE_SHIFT, slot)
    if swap_cache_get(m, slot) < 0:
        _read_one(m, slot, slot)
    if table >= 0:
        for entry_slot in range(table, table + end - first):
            if m.pt[entry_slot] & PTE_SWAP:
                _unlock(m, m.pt[entry_slot] >> PTE_SHIFT)
    _unlock(m, slot)
    swap_read_unplug(m)
    if swap_flags(m, slot) & SWAP_SYNCHRONOUS == 0:
        swap_cache_lookup(m, slot, vma, vpn)  # the fault dropped its locks to wait for the read: it starts again
    return _swap_end(m, slot)


@kernel
def swapin_readahead(m, slot, mm, vma, vpn):
    """The page behind a swap entry: from the swap cache, or read, with read-ahead by the device's kind. Its pfn, or -ENOMEM.

    The page is in the swap cache (one reference), except from a synchronous device whose slot has one reference: then it has none, and
    the caller's swap_free() frees the slot. vma -1 (shmem): always by slots. A slot that vanished meanwhile gives -ENOMEM.
    """
    cached = swap_cache_lookup(m, slot, vma, vpn)
    if cached >= 0:
        return cached
    if vma >= 0 and swap_count(m, slot) == 1 and m.sc[SC_SWAP_FLAGS] & SWAP_SYNCHRONOUS and swap_flags(m, slot) & SWAP_SYNCHRONOUS:
        return _read_swap_page(m, slot, 0)
    if vma >= 0 and _use_vma_readahead(m):
        return swap_vma_readahead(m, slot, mm, vma, vpn)
    return swap_cluster_readahead(m, slot)
