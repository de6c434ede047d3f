"""Slots of the swap device: giving them out in runs, counting references, taking them back.

A slot is in use while PTEs (or a shmem tree) refer to it, m.swap_map, or a page in the swap cache lies over it. m.swap_cache has that page
as pfn << 1 | 1, or of one that left (shadow + 1) << 1, or 0. Slot 0 is the device's header; m.swap_map[0] holds how many slots the current
run still has.
Models: mm/swapfile.c scan_swap_map_slots(), swap_duplicate(), swap_free(). Left out: per-CPU slot caches, clusters of non-rotational
devices and their random start, several devices.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.mm.page_counter import uncharge_swap
from mmlab.model.rows import SC_NR_SWAP_FREE, SC_NR_SWAP_SLOTS, SC_SWAP_NEXT

SWAPFILE_CLUSTER = 512


@leaf
def swap_count(m, slot):
    """References of PTEs and shmem trees to the slot."""
    return np.int64(m.swap_map[slot])


@leaf
def slot_in_use(m, slot):
    """1 if the slot is referred to or a cached page lies over it."""
    return 1 if np.int64(m.swap_map[slot]) > 0 or m.swap_cache[slot] & 1 else 0


@leaf
def _start_of_run(m):
    """Where a new run begins: the lowest 512 free slots in a row, or else the lowest free slot."""
    lowest = -1
    length = 0
    for slot in range(1, m.sc[SC_NR_SWAP_SLOTS]):
        if slot_in_use(m, slot):
            length = 0
            continue
        if lowest < 0:
            lowest = slot
        length += 1
        if length == SWAPFILE_CLUSTER:
            return slot - SWAPFILE_CLUSTER + 1
    return lowest


@kernel
def swap_alloc(m):
    """A free slot, or -1 if the device is full. It counts as taken; the caller puts a page or a reference there at once.

    Slots ascend from the one before; after each 512 the search starts again at the bottom for 512 free ones in a row. O(slots) at worst.
    """
    if m.sc[SC_NR_SWAP_FREE] <= 0:
        return -1
    nr_slots = m.sc[SC_NR_SWAP_SLOTS]
    left = np.int64(m.swap_map[0])
    slot = m.sc[SC_SWAP_NEXT]
    if left == 0:
        left = SWAPFILE_CLUSTER
        if m.sc[SC_NR_SWAP_FREE] >= SWAPFILE_CLUSTER:
            slot = _start_of_run(m)
    if slot < 1 or slot >= nr_slots:
        slot = 1
    for _ in range(nr_slots - 1):
        if slot_in_use(m, slot) == 0:
            m.swap_map[0] = left - 1
            m.sc[SC_SWAP_NEXT] = slot + 1
            m.sc[SC_NR_SWAP_FREE] -= 1
            m.swap_cache[slot] = 0
            return slot
        slot += 1
        if slot >= nr_slots:
            slot = 1
    return -1


@kernel
def swap_alloc_cluster(m, order):
    """The lowest aligned run of 2^order free slots, or -1. They count as taken; the caller puts a folio there at once. O(slots)."""
    nr = 1 << order
    first = nr  # the header takes a part of the first run
    while first + nr <= m.sc[SC_NR_SWAP_SLOTS]:
        at = first
        while at < first + nr and slot_in_use(m, at) == 0:
            at += 1
        if at == first + nr:
            for slot in range(first, first + nr):
                m.swap_cache[slot] = 0
            m.sc[SC_NR_SWAP_FREE] -= nr
            return first
        first += nr
    return -1


@leaf
def swap_dup(m, slot):
    """One more reference to the slot; returns how many there are now."""
    count = np.int64(m.swap_map[slot]) + 1
    m.swap_map[slot] = count
    return count


@leaf
def slot_freed(m, slot):
    """Nobody uses the slot any more: forget its shadow and count it free."""
    m.swap_cache[slot] = 0
    m.sc[SC_NR_SWAP_FREE] += 1
    uncharge_swap(m, np.int64(m.swap_memcg[slot]), 1)
    m.swap_memcg[slot] = 0


@leaf
def swap_free(m, slot):
    """One reference less; the slot is free once none is left and no cached page lies over it. Returns the references left."""
    count = np.int64(m.swap_map[slot]) - 1
    m.swap_map[slot] = count
    if count == 0 and m.swap_cache[slot] & 1 == 0:
        slot_freed(m, slot)
    return count


@kernel
def check_swap(m):
    """0, or a code > 0: 1 a negative count, 2 the number of free slots is wrong."""
    free = 0
    for slot in range(1, m.sc[SC_NR_SWAP_SLOTS]):
        if np.int64(m.swap_map[slot]) < 0:
            return 1
        if slot_in_use(m, slot) == 0:
            free += 1
    return 0 if free == m.sc[SC_NR_SWAP_FREE] else 2
