"""Slots of the swap devices: giving them out, counting references, taking them back.

A slot is in use while PTEs (or a shmem tree) refer to it, m.swap_map, or a page in the swap cache lies over it. m.swap_cache has that page
as pfn << 1 | 1, or of one that left (shadow + 1) << 1, or 0; SLOT_HELD while a CPU's slot cache keeps it, which counts as used. Slots are
numbered through all devices: offset 1 of a device is slot SI_FIRST of its row; offset 0, its header, has no number but 0.
Models: mm/swapfile.c get_swap_pages(), scan_swap_map_slots(), swap_duplicate(), swap_free(), swap_range_free(); mm/swap_slots.c
folio_alloc_swap(), refill_swap_slots_cache(), free_swap_slot(), check_cache_active(). Left out: where a non-rotational device begins (a
random cluster), clusters by CPU.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.mm.page_counter import uncharge_swap
from mmlab.mm.zsmalloc import zs_free
from mmlab.mm.zswap import zswap_invalidate
from mmlab.model.rows import (
    MAX_SWAPFILES, SC_CPU, SC_NR_CPUS, SC_NR_SWAP_FREE, SC_NR_SWAP_SLOTS, SC_SWAP_FLAGS, SC_SWAPIN_HITS, SI_FIRST, SI_FLAGS, SI_INUSE, SI_NEXT, SI_PAGES,
    SI_PRIO, SI_RUN_LEFT, SLOT_HELD, SS_ACTIVE, SS_CUR, SS_DIRECT, SS_NR, SS_NR_RET, SS_RET, SS_SLOTS, SWAP_INFO_STRIDE, SWAP_ROTATIONAL,
    SWAP_SLOTS_CACHE_SIZE, SWAP_SLOTS_STRIDE, SWAP_SSD, SWAP_SYNCHRONOUS,
)

SWAPFILE_CLUSTER = 512
SWAPIN_FIRST_HITS = 4  # what the hit counter of read-ahead starts with, globally and in a VMA without history
ACTIVATE, DEACTIVATE = 5 * SWAP_SLOTS_CACHE_SIZE, 2 * SWAP_SLOTS_CACHE_SIZE  # free slots a CPU for slot caches to be worth it; to stay so


@kernel
def swapon(m, nr_slots, flags, prio):
    """Start using one more swap device of nr_slots pages, the header included, behind those of higher priority: its row, or -1.

    flags: SWAP_SSD, SWAP_SYNCHRONOUS. Devices come in the order of falling priority.
    """
    first = max(1, m.sc[SC_NR_SWAP_SLOTS])
    for device in range(MAX_SWAPFILES):
        row = device * SWAP_INFO_STRIDE
        if m.swap_info[row + SI_PAGES] == 0:
            m.swap_info[row + SI_FIRST] = m.swap_info[row + SI_NEXT] = first
            m.swap_info[row + SI_PAGES] = nr_slots - 1
            m.swap_info[row + SI_FLAGS] = flags
            m.swap_info[row + SI_PRIO] = prio
            m.sc[SC_NR_SWAP_SLOTS] = first + nr_slots - 1
            if device == 0:
                m.sc[SC_SWAPIN_HITS] = SWAPIN_FIRST_HITS
            m.sc[SC_NR_SWAP_FREE] += nr_slots - 1
            m.sc[SC_SWAP_FLAGS] |= flags | (0 if flags & SWAP_SSD else SWAP_ROTATIONAL)
            return device
    return -1


@leaf
def swap_device(m, slot):
    """Row number of the device that a slot is on."""
    device = 0
    while slot >= m.swap_info[device * SWAP_INFO_STRIDE + SI_FIRST] + m.swap_info[device * SWAP_INFO_STRIDE + SI_PAGES]:
        device += 1
    return device


@leaf
def swap_flags(m, slot):
    """SWAP_SSD, SWAP_SYNCHRONOUS of the device that a slot is on."""
    return m.swap_info[swap_device(m, slot) * SWAP_INFO_STRIDE + SI_FLAGS]


@leaf
def swap_count(m, slot):
    """References of PTEs and shmem trees to the slot."""
    return np.int64(m.swap_map[slot])


@leaf
def slot_in_use(m, slot):
    """1 if the slot is referred to, a cached page lies over it, or a CPU keeps it."""
    return 1 if np.int64(m.swap_map[slot]) > 0 or m.swap_cache[slot] & 1 or m.swap_cache[slot] == SLOT_HELD else 0


@kernel
def _start_of_run(m, first, end):
    """Where a new run begins: the lowest 512 free slots in a row of [first, end), or else the lowest free slot.

    Linux looks at one slot after the other. Looking at 512 of them from their end, and going on behind the first that is in use, finds the
    same, and passes by most slots where many are in use.
    """
    start = first
    while start + SWAPFILE_CLUSTER <= end:
        slot = start + SWAPFILE_CLUSTER - 1
        while slot >= start and slot_in_use(m, slot) == 0:
            slot -= 1
        if slot < start:
            return start
        start = slot + 1
    for slot in range(first, end):
        if slot_in_use(m, slot) == 0:
            return slot
    return -1


@leaf
def _scan_swap_map(m, device):
    """A free slot of a device that has one; it counts as used and is held.

    Slots ascend from the one before; after each 512 the search starts again at the bottom for 512 free ones in a row. O(slots) at worst.
    """
    row = device * SWAP_INFO_STRIDE
    first = m.swap_info[row + SI_FIRST]
    end = first + m.swap_info[row + SI_PAGES]
    slot = m.swap_info[row + SI_NEXT]
    left = m.swap_info[row + SI_RUN_LEFT]
    if left == 0:
        left = SWAPFILE_CLUSTER
        if m.swap_info[row + SI_PAGES] - m.swap_info[row + SI_INUSE] >= SWAPFILE_CLUSTER:
            slot = _start_of_run(m, first, end)
    if slot < first or slot >= end:
        slot = first
    while slot_in_use(m, slot):
        slot += 1
        if slot >= end:
            slot = first
    m.swap_info[row + SI_RUN_LEFT] = left - 1
    m.swap_info[row + SI_NEXT] = slot + 1
    m.swap_info[row + SI_INUSE] += 1
    m.sc[SC_NR_SWAP_FREE] -= 1
    m.swap_cache[slot] = SLOT_HELD
    return slot


@kernel
def get_swap_pages(m, nr, into):
    """Up to nr free slots of one device, that of the highest priority which has any, into m.swap_slots[into..]: how many.

    Devices of the same priority take turns: the least used of them serves.
    """
    for device in range(MAX_SWAPFILES):
        row = device * SWAP_INFO_STRIDE
        if m.swap_info[row + SI_PAGES] <= m.swap_info[row + SI_INUSE]:
            continue
        turn = device
        for other in range(device + 1, MAX_SWAPFILES):
            base = other * SWAP_INFO_STRIDE
            if m.swap_info[base + SI_PAGES] > m.swap_info[base + SI_INUSE] and m.swap_info[base + SI_PRIO] == m.swap_info[row + SI_PRIO]:
                if m.swap_info[base + SI_INUSE] < m.swap_info[turn * SWAP_INFO_STRIDE + SI_INUSE]:
                    turn = other
        free = m.swap_info[turn * SWAP_INFO_STRIDE + SI_PAGES] - m.swap_info[turn * SWAP_INFO_STRIDE + SI_INUSE]
        nr = min(nr, free)
        for i in range(nr):
            m.swap_slots[into + i] = _scan_swap_map(m, turn)
        return nr
    return 0


@leaf
def _range_free(m, slot):
    """A slot goes back to its device: what a zram device holds of it is dropped, the cgroup is no longer charged."""
    device = swap_device(m, slot)
    m.swap_cache[slot] = 0
    m.swap_info[device * SWAP_INFO_STRIDE + SI_INUSE] -= 1
    m.sc[SC_NR_SWAP_FREE] += 1
    if m.zram[slot]:
        zs_free(m, np.int64(m.zram[slot]), m.compress[np.int64(m.swap_class[slot])])
        m.zram[slot] = 0
    uncharge_swap(m, np.int64(m.swap_memcg[slot]), 1)
    m.swap_memcg[slot] = 0


@leaf
def _free_cached(m, base):
    """What a CPU has kept of freed slots goes back."""
    for i in range(m.swap_slots[base + SS_NR_RET]):
        _range_free(m, m.swap_slots[base + SS_RET + i])
    m.swap_slots[base + SS_NR_RET] = 0


@kernel
def check_cache_active(m):
    """1 if slots go through the CPUs' caches: while there are plenty; when they get few, all that is kept goes back."""
    free = m.sc[SC_NR_SWAP_FREE]
    if m.swap_slots[SS_ACTIVE] == 0:
        if free > ACTIVATE * m.sc[SC_NR_CPUS]:
            m.swap_slots[SS_ACTIVE] = 1
    elif free < DEACTIVATE * m.sc[SC_NR_CPUS]:
        m.swap_slots[SS_ACTIVE] = 0
        for cpu in range(m.sc[SC_NR_CPUS]):
            base = cpu * SWAP_SLOTS_STRIDE
            _free_cached(m, base)
            for i in range(m.swap_slots[base + SS_NR]):
                _range_free(m, m.swap_slots[base + SS_SLOTS + m.swap_slots[base + SS_CUR] + i])
            m.swap_slots[base + SS_NR] = 0
    return m.swap_slots[SS_ACTIVE]


@kernel
def swap_alloc(m):
    """folio_alloc_swap() of a single page: a free slot, or -1 if swap is full. The caller puts a page or a reference there at once."""
    base = m.sc[SC_CPU] * SWAP_SLOTS_STRIDE
    slot = -1
    if check_cache_active(m):
        if m.swap_slots[base + SS_NR] == 0:
            m.swap_slots[base + SS_CUR] = 0
            m.swap_slots[base + SS_NR] = get_swap_pages(m, SWAP_SLOTS_CACHE_SIZE, base + SS_SLOTS)
        if m.swap_slots[base + SS_NR] > 0:
            slot = m.swap_slots[base + SS_SLOTS + m.swap_slots[base + SS_CUR]]
            m.swap_slots[base + SS_CUR] += 1
            m.swap_slots[base + SS_NR] -= 1
    if slot < 0:
        if get_swap_pages(m, 1, base + SS_SLOTS) == 0:
            return -1
        slot = m.swap_slots[base + SS_SLOTS]
    m.swap_cache[slot] = 0
    return slot


@kernel
def swap_alloc_cluster(m, order):
    """The lowest aligned run of 2^order free slots of a non-rotational device, or -1. They count as used; the caller puts a folio there at
    once. O(slots)."""
    nr = 1 << order
    for device in range(MAX_SWAPFILES):
        row = device * SWAP_INFO_STRIDE
        if m.swap_info[row + SI_PAGES] == 0 or m.swap_info[row + SI_FLAGS] & (SWAP_SSD | SWAP_SYNCHRONOUS) == 0:
            continue
        first = m.swap_info[row + SI_FIRST] - 1 + nr  # the header takes a part of the first run
        end = m.swap_info[row + SI_FIRST] + m.swap_info[row + SI_PAGES]
        while first + nr <= end:
            at = first
            while at < first + nr and slot_in_use(m, at) == 0:
                at += 1
            if at == first + nr:
                for slot in range(first, first + nr):
                    m.swap_cache[slot] = 0
                m.swap_info[row + SI_INUSE] += nr
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


@kernel
def slot_freed(m, slot):
    """free_swap_slot(): nobody uses the slot any more. Its shadow and zswap's copy are gone; the CPU keeps it until it has 64.

    SS_DIRECT: it goes back at once.
    """
    zswap_invalidate(m, slot)
    if m.swap_slots[SS_ACTIVE] == 0 or m.swap_slots[SS_DIRECT]:
        _range_free(m, slot)
        return 0
    base = m.sc[SC_CPU] * SWAP_SLOTS_STRIDE
    if m.swap_slots[base + SS_NR_RET] >= SWAP_SLOTS_CACHE_SIZE:
        _free_cached(m, base)
    m.swap_slots[base + SS_RET + m.swap_slots[base + SS_NR_RET]] = slot
    m.swap_slots[base + SS_NR_RET] += 1
    m.swap_cache[slot] = SLOT_HELD
    return 0


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
    """0, or a code > 0: 1 a negative count, 2 the number of free slots is wrong, 3 a device's number of used slots is wrong."""
    free = 0
    for slot in range(1, m.sc[SC_NR_SWAP_SLOTS]):
        if np.int64(m.swap_map[slot]) < 0:
            return 1
        if slot_in_use(m, slot) == 0:
            free += 1
    inuse = 0
    for device in range(MAX_SWAPFILES):
        inuse += m.swap_info[device * SWAP_INFO_STRIDE + SI_INUSE]
    if free + inuse != max(0, m.sc[SC_NR_SWAP_SLOTS] - 1):
        return 3
    return 0 if free == m.sc[SC_NR_SWAP_FREE] else 2
