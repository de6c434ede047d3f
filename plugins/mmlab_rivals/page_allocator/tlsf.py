"""tlsf: two-level segregated fit over page frames: free blocks of any length, lists by size class, bounded search, immediate coalescing.

A class is a power of two in four parts (sizes 1, 2 and 3 by themselves); one word of bits says which of a zone's 36 lists hold something.
Blocks know their length at both ends, so a freed one finds its neighbours at once. A request of 2^order frames needs an aligned place: the
few first blocks of classes that may have one are looked at, then a block of twice the size, which has; what is left over at both ends
becomes free blocks of their own.
Models: Masmano, Ripoll, Crespo, Real, "TLSF: a new dynamic memory allocator for real-time systems", ECRTS 2004.
Left out: blocks across a 4 MiB boundary (no aligned request could use them as one), mobility types, per-CPU lists, highatomic reserve, boost.
Cost: O(1) for order 0; larger ones look at 8 blocks of each of four classes first. Memory: 4 bytes a frame.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del
from mmlab.kernels.zones import mod_zone_free, zone_free_exact, zone_of
from mmlab.model.const import ENOMEM, MAX_ORDER, NR_PAGE_ORDERS
from mmlab.model.page import page_next
from mmlab.model.rows import SC_MAX_PFN, Z_END_PFN, Z_FREE_HEADS, Z_START_PFN, ZONE_STRIDE
from mmlab.policies import PageAllocator
from mmlab_rivals.page_allocator.bits import has_block, lowest_bit
from mmlab_rivals.page_allocator.untyped import block_type, nr_free_blocks

REGION = 1 << MAX_ORDER
NR_CLASSES = 36
LOOK_AT = 8  # blocks of a class that may or may not have an aligned place
WRONG_BLOCK, WRONG_LIST, WRONG_BITMAP, WRONG_COUNT, WRONG_NR_FREE, UNMERGED = range(1, 7)


def new_state(params, machine):
    """head_size, tail_size: int16 by frame, a free block's frames at its first and last one, else 0. lists: a zone's bits, one a class that
    is not empty. nr_blocks: aligned runs of each order that free blocks fall into, 11 a zone: what buddyinfo shows."""
    sizes = machine.sizes
    return {
        "head_size": machine.page_column("int16"), "tail_size": machine.page_column("int16"),
        "lists": np.zeros(sizes.nr_zones, np.int64), "nr_blocks": np.zeros(sizes.nr_zones * NR_PAGE_ORDERS, np.int64),
    }  # fmt: skip


@leaf
def log2(size):
    """Floor of the binary logarithm of 1 .. 1024."""
    order = 0
    while size > 1:
        size >>= 1
        order += 1
    return order


@leaf
def size_class(size):
    """Number of the list for blocks of this size."""
    if size < 4:
        return size - 1
    level = log2(size)
    return 3 + (level - 2) * 4 + ((size >> (level - 2)) & 3)


@leaf
def list_head(m, zone, number):
    """Sentinel of a zone's list."""
    return m.zone[zone * ZONE_STRIDE + Z_FREE_HEADS] + number


@leaf
def count_runs(st, zone, pfn, size, sign):
    """Add the aligned runs that a free block falls into to the counts, or take them off."""
    end = pfn + size
    while pfn < end:
        order = 0
        while order < MAX_ORDER and pfn & ((2 << order) - 1) == 0 and pfn + (2 << order) <= end:
            order += 1
        st.nr_blocks[zone * NR_PAGE_ORDERS + order] += sign
        pfn += 1 << order


@kernel
def insert(m, st, zone, pfn, size):
    """A free block, to the head of its list."""
    st.head_size[pfn] = size
    st.tail_size[pfn + size - 1] = size
    number = size_class(size)
    list_add(m, list_head(m, zone, number), pfn)
    st.lists[zone] |= 1 << number
    count_runs(st, zone, pfn, size, 1)
    return 0


@kernel
def remove(m, st, zone, pfn, size):
    """A free block leaves its list."""
    st.head_size[pfn] = 0
    st.tail_size[pfn + size - 1] = 0
    number = size_class(size)
    list_del(m, pfn)
    head = list_head(m, zone, number)
    if page_next(m, head) == head:
        st.lists[zone] &= ~(1 << number)
    count_runs(st, zone, pfn, size, -1)
    return 0


@leaf
def aligned_place(st, pfn, order):
    """The first aligned place for 2^order frames in a free block, or -1."""
    place = (pfn + (1 << order) - 1) & ~((1 << order) - 1)
    return place if place + (1 << order) <= pfn + np.int64(st.head_size[pfn]) else -1


@kernel
def search(m, st, zone, order, first, last, most):
    """The first block with an aligned place in the lists [first, last), looking at no more than `most` of each: its first frame, or -1."""
    bits = st.lists[zone] & ((1 << last) - 1) & ~((1 << first) - 1)
    while bits:
        number = lowest_bit(bits & 0xFFFFFFFF) if bits & 0xFFFFFFFF else 32 + lowest_bit(bits >> 32)
        bits &= bits - 1
        head = list_head(m, zone, number)
        pfn = page_next(m, head)
        left = most
        while pfn != head and left > 0:
            if aligned_place(st, pfn, order) >= 0:
                return pfn
            pfn = page_next(m, pfn)
            left -= 1
    return -1


@kernel
def take(m, st, zone, block, place, order):
    """Cut [place, place + 2^order) out of a free block; both rests stay free."""
    end = block + np.int64(st.head_size[block])
    remove(m, st, zone, block, end - block)
    if place > block:
        insert(m, st, zone, block, place - block)
    if place + (1 << order) < end:
        insert(m, st, zone, place + (1 << order), end - place - (1 << order))
    mod_zone_free(m, zone, -(1 << order))
    return place


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    """A block of the smallest class that has a place; migratetype and alloc_flags do not matter."""
    if has_block(st, zone, order) == 0:
        return -ENOMEM
    fits = size_class(1 << order)
    sure = size_class(2 << order) if order < MAX_ORDER else NR_CLASSES
    block = search(m, st, zone, order, fits, sure, LOOK_AT)
    if block < 0:
        block = search(m, st, zone, order, sure, NR_CLASSES, 1)
    if block < 0:
        block = search(m, st, zone, order, fits, sure, m.sc[SC_MAX_PFN])
    return take(m, st, zone, block, aligned_place(st, block, order), order)


@kernel
def give(m, st, zone, pfn, size):
    """Frames of one region become free and join the free blocks on both sides."""
    region = pfn & ~(REGION - 1)
    end = pfn + size
    if pfn > region:
        before = np.int64(st.tail_size[pfn - 1])
        if before and zone_of(m, pfn - 1) == zone:
            remove(m, st, zone, pfn - before, before)
            pfn -= before
    if end < region + REGION:
        behind = np.int64(st.head_size[end])
        if behind and zone_of(m, end) == zone:
            remove(m, st, zone, end, behind)
            end += behind
    insert(m, st, zone, pfn, end - pfn)
    return 0


@kernel
def init_range(m, st, zone, pfn, nr_pages):
    """Free memory of boot, cut at multiples of 4 MiB."""
    mod_zone_free(m, zone, nr_pages)
    end = pfn + nr_pages
    while pfn < end:
        size = min(end, (pfn & ~(REGION - 1)) + REGION) - pfn
        give(m, st, zone, pfn, size)
        pfn += size
    return 0


@kernel
def free(m, st, pfn, order):
    """The frames are free at once."""
    zone = zone_of(m, pfn)
    mod_zone_free(m, zone, 1 << order)
    return give(m, st, zone, pfn, 1 << order)


@kernel
def can_alloc(m, st, zone, order, alloc_flags):
    """1 if a free block has an aligned place of this size."""
    return has_block(st, zone, order)


@kernel
def is_free(m, st, pfn):
    """Where a free block begins, the aligned run there counts as a block."""
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN] or st.head_size[pfn] == 0:
        return 0
    order = log2(np.int64(st.head_size[pfn]))
    while pfn & ((1 << order) - 1):
        order -= 1
    return order + 1


@kernel
def isolate_free(m, st, pfn):
    """The aligned run at the beginning of a free block, taken."""
    found = is_free(m, st, pfn)
    if found:
        take(m, st, zone_of(m, pfn), pfn, pfn, found - 1)
    return found


@kernel
def check(m, st, zone):
    """Blocks fit together and are merged, each is on the list of its class, bits and counts follow. Cost: O(frames)."""
    end = m.zone[zone * ZONE_STRIDE + Z_END_PFN]
    pfn = m.zone[zone * ZONE_STRIDE + Z_START_PFN]
    frames = 0
    blocks = 0
    last_end = -1
    while pfn < end:
        size = np.int64(st.head_size[pfn])
        if size == 0:
            if st.tail_size[pfn]:
                return WRONG_BLOCK
            pfn += 1
            continue
        if pfn + size > end or np.int64(st.tail_size[pfn + size - 1]) != size or (pfn & (REGION - 1)) + size > REGION:
            return WRONG_BLOCK
        if pfn == last_end and pfn & (REGION - 1):
            return UNMERGED
        count_runs(st, zone, pfn, size, -1)
        frames += size
        blocks += 1
        pfn += size
        last_end = pfn
    wrong = 0
    for order in range(NR_PAGE_ORDERS):
        if st.nr_blocks[zone * NR_PAGE_ORDERS + order]:
            wrong = WRONG_COUNT
    for number in range(NR_CLASSES):  # what was taken off the counts above comes back from the lists
        head = list_head(m, zone, number)
        pfn = page_next(m, head)
        if (1 if pfn != head else 0) != (st.lists[zone] >> number) & 1:
            wrong = WRONG_BITMAP
        while pfn != head:
            size = np.int64(st.head_size[pfn])
            if size == 0 or size_class(size) != number:
                return WRONG_LIST
            count_runs(st, zone, pfn, size, 1)
            blocks -= 1
            pfn = page_next(m, pfn)
    if wrong:
        return wrong
    if blocks:
        return WRONG_LIST
    return 0 if frames == zone_free_exact(m, zone) else WRONG_NR_FREE


TLSF = PageAllocator(
    name="tlsf", summary="two-level segregated fit: free blocks of any length by size class, merged at once", models="Masmano et al., ECRTS 2004",
    left_out="blocks across 4 MiB boundaries, mobility types, per-CPU lists, highatomic reserve, boost", new_state=new_state,
    init_range=init_range, alloc=alloc, free=free, can_alloc=can_alloc, is_free=is_free, isolate_free=isolate_free,
    nr_free_blocks=nr_free_blocks, block_type=block_type, check=check,
)  # fmt: skip
