"""A bit a frame, 1 free, in words of 32: what the bitmap allocators have in common.

`st.bits` is uint32, frame pfn in bit pfn & 31 of word pfn >> 5. `st.nr_blocks` counts, for each zone and order, the maximal free aligned
runs: those that are not half of a larger one (up to MAX_ORDER). That is what buddyinfo shows for such an allocator.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import zone_of
from mmlab.model.const import MAX_ORDER, NR_PAGE_ORDERS
from mmlab.model.rows import SC_MAX_PFN, Z_END_PFN, Z_START_PFN, ZONE_STRIDE

WORD_ORDER = 5  # frames a word: 32
WORD = 1 << WORD_ORDER
WORD_MASK = (1 << WORD) - 1


@leaf
def zone_start(m, zone):
    """The zone's first frame."""
    return m.zone[zone * ZONE_STRIDE + Z_START_PFN]


@leaf
def zone_end(m, zone):
    """First frame behind the zone."""
    return m.zone[zone * ZONE_STRIDE + Z_END_PFN]


@leaf
def fold(bits, order):
    """A set bit for every free aligned run of 2^order frames of a word, at the run's first frame."""
    if order >= 1:
        bits &= (bits >> 1) & 0x55555555
    if order >= 2:
        bits &= (bits >> 2) & 0x11111111
    if order >= 3:
        bits &= (bits >> 4) & 0x01010101
    if order >= 4:
        bits &= (bits >> 8) & 0x00010001
    if order >= 5:
        bits &= (bits >> 16) & 1
    return bits


@leaf
def largest_run(bits):
    """Order + 1 of the largest free aligned run in a word, 0 for none."""
    if bits == WORD_MASK:
        return WORD_ORDER + 1
    found = 0
    while found <= WORD_ORDER and fold(bits, found) != 0:
        found += 1
    return found


@leaf
def lowest_bit(bits):
    """Number of the lowest set bit of a word that is not 0."""
    at = 0
    if bits & 0xFFFF == 0:
        bits >>= 16
        at += 16
    if bits & 0xFF == 0:
        bits >>= 8
        at += 8
    if bits & 0xF == 0:
        bits >>= 4
        at += 4
    if bits & 3 == 0:
        bits >>= 2
        at += 2
    return at if bits & 1 else at + 1


@leaf
def count_bits(bits):
    """How many bits of a word are set."""
    bits = (bits & 0x55555555) + ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits & 0x0F0F0F0F) + ((bits >> 4) & 0x0F0F0F0F)
    bits = (bits & 0x00FF00FF) + ((bits >> 8) & 0x00FF00FF)
    return (bits & 0xFFFF) + (bits >> 16)


@leaf
def bit_of(st, pfn):
    """1 if the frame is free."""
    return (np.int64(st.bits[pfn >> WORD_ORDER]) >> (pfn & (WORD - 1))) & 1


@leaf
def run_free(st, pfn, order):
    """1 if the aligned range of 2^order frames at pfn is free; looked up in the words alone."""
    if order < WORD_ORDER:
        return (fold(np.int64(st.bits[pfn >> WORD_ORDER]), order) >> (pfn & (WORD - 1))) & 1
    word = pfn >> WORD_ORDER
    last = word + (1 << (order - WORD_ORDER))
    while word < last and np.int64(st.bits[word]) == WORD_MASK:
        word += 1
    return 1 if word == last else 0


@leaf
def set_bits(st, pfn, order, free):
    """Mark an aligned range of 2^order frames."""
    word = pfn >> WORD_ORDER
    if order < WORD_ORDER:
        mask = ((1 << (1 << order)) - 1) << (pfn & (WORD - 1))
        bits = np.int64(st.bits[word])
        st.bits[word] = bits | mask if free else bits & ~mask
    else:
        for w in range(word, word + (1 << (order - WORD_ORDER))):
            st.bits[w] = WORD_MASK if free else 0


@leaf
def count_cut(st, zone, order, whole):
    """The counts when a range of 2^order frames leaves a maximal free run of 2^whole."""
    st.nr_blocks[zone * NR_PAGE_ORDERS + whole] -= 1
    for left in range(order, whole):
        st.nr_blocks[zone * NR_PAGE_ORDERS + left] += 1


@leaf
def has_block(st, zone, order):
    """1 if the zone has a free aligned run of 2^order frames."""
    for larger in range(order, NR_PAGE_ORDERS):
        if st.nr_blocks[zone * NR_PAGE_ORDERS + larger] > 0:
            return 1
    return 0


@kernel
def maximal_run(st, pfn, start, end):
    """Order of the maximal free aligned run within [start, end) that the free frame pfn lies in."""
    order = 0
    while order < MAX_ORDER:
        first = pfn & ~((2 << order) - 1)
        if first < start or first + (2 << order) > end or run_free(st, first, order + 1) == 0:
            break
        order += 1
    return order


@kernel
def free_at(st, pfn, start, end):
    """Order + 1 of the maximal free aligned run that begins at pfn, 0 if none does."""
    if bit_of(st, pfn) == 0:
        return 0
    order = maximal_run(st, pfn, start, end)
    return order + 1 if pfn & ((1 << order) - 1) == 0 else 0


@kernel
def count_blocks_again(st, zone, start, end):
    """Free frames of a zone [start, end), or -1 if the counts of maximal runs are not those of the bits. Cost: O(frames)."""
    frames = 0
    pages = 0
    pfn = start
    while pfn < end:
        order = free_at(st, pfn, start, end) - 1
        if order < 0:
            pfn += 1
            continue
        frames += 1 << order
        pfn += 1 << order
    for order in range(NR_PAGE_ORDERS):
        pages += st.nr_blocks[zone * NR_PAGE_ORDERS + order] << order
    return frames if pages == frames else -1


@kernel
def is_free(m, st, pfn):
    """A maximal free aligned run counts as a block."""
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN] or bit_of(st, pfn) == 0:
        return 0
    zone = zone_of(m, pfn)
    return free_at(st, pfn, zone_start(m, zone), zone_end(m, zone))
