"""first_fit: a bitmap of free frames; a request gets the lowest free aligned run. No per-CPU lists, no mobility types.

A tree over the words of the bitmap holds, for each aligned range, the order + 1 of the largest free aligned run inside, so that a search
takes O(log frames) steps. It stands against buddy's habits: what address-ordered first fit does to fragmentation, and what it costs.
Models: the classic first-fit rule (Knuth, The Art of Computer Programming 1, 2.5), restricted to powers of two, as struct page users need.
Left out: page mobility, per-CPU caching, highatomic reserve, watermark boost. Cost: O(log frames + 2^order / 32). Memory: 1/4 byte a frame.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import mod_zone_free, zone_free_exact, zone_of
from mmlab.model.const import ENOMEM, MAX_ORDER, NR_PAGE_ORDERS
from mmlab.model.rows import SC_MAX_PFN, Z_END_PFN, Z_START_PFN, ZONE_STRIDE
from mmlab.policies import PageAllocator
from mmlab_rivals.page_allocator.bits import WORD, WORD_MASK, WORD_ORDER, count_cut, fold, has_block, largest_run, lowest_bit
from mmlab_rivals.page_allocator.untyped import block_type, nr_free_blocks

WRONG_TREE, WRONG_COUNT, WRONG_NR_FREE = 1, 2, 3


def new_state(params, machine):
    """bits: a bit a frame, 1 free (uint32 words). tree: node 1 is the root, word w is node leaves + w; order + 1 of the largest free
    aligned run below. nr_blocks: maximal free aligned runs of each order, 11 a zone: what buddyinfo shows. All in all 1/4 byte a frame."""
    words = machine.sizes.nr_frames >> WORD_ORDER
    leaves = 1 << max(0, words - 1).bit_length()
    return {
        "bits": np.zeros(words, np.uint32),
        "tree": np.zeros(2 * leaves, np.uint8),
        "leaves": np.array([leaves], np.int64),
        "nr_blocks": np.zeros(machine.sizes.nr_zones * NR_PAGE_ORDERS, np.int64),
    }


@leaf
def joined(left, right, order):
    """What a node of 2^order frames holds, from its halves: two halves that are free are a larger run, up to MAX_ORDER."""
    if order <= MAX_ORDER and left == order and right == order:
        return order + 1
    return max(left, right)


@leaf
def range_free(m, st, zone, pfn, order):
    """1 if the aligned range of 2^order frames at pfn is free and lies in the zone."""
    base = zone * ZONE_STRIDE
    if pfn < m.zone[base + Z_START_PFN] or pfn + (1 << order) > m.zone[base + Z_END_PFN]:
        return 0
    if order >= WORD_ORDER:
        return 1 if st.tree[(st.leaves[0] + (pfn >> WORD_ORDER)) >> (order - WORD_ORDER)] == order + 1 else 0
    return (fold(np.int64(st.bits[pfn >> WORD_ORDER]), order) >> (pfn & (WORD - 1))) & 1


@kernel
def set_range(m, st, pfn, order, free):
    """Mark an aligned range and bring the tree up to date."""
    word = pfn >> WORD_ORDER
    if order < WORD_ORDER:
        mask = ((1 << (1 << order)) - 1) << (pfn & (WORD - 1))
        bits = np.int64(st.bits[word])
        bits = bits | mask if free else bits & ~mask
        st.bits[word] = bits
        node = st.leaves[0] + word
        st.tree[node] = largest_run(bits)
        level = WORD_ORDER
    else:
        for w in range(word, word + (1 << (order - WORD_ORDER))):
            st.bits[w] = WORD_MASK if free else 0
        first = st.leaves[0] + word
        last = first + (1 << (order - WORD_ORDER))
        for level in range(WORD_ORDER, order + 1):
            for node in range(first, last):
                st.tree[node] = level + 1 if free else 0
            first >>= 1
            last >>= 1
        node = (st.leaves[0] + word) >> (order - WORD_ORDER)
        level = order
    while node > 1:
        node >>= 1
        level += 1
        value = joined(np.int64(st.tree[2 * node]), np.int64(st.tree[2 * node + 1]), level)
        if value == np.int64(st.tree[node]):
            break
        st.tree[node] = value
    return 0


@kernel
def find_first(m, st, zone, order, low):
    """The lowest free aligned run of 2^order frames of the zone from frame `low` on, or -1."""
    size = 1 << order
    start = (max(low, m.zone[zone * ZONE_STRIDE + Z_START_PFN]) + size - 1) & ~(size - 1)
    end = m.zone[zone * ZONE_STRIDE + Z_END_PFN]
    if start + size > end:
        return -1
    inside = start & (WORD - 1)  # the zone may begin within a word
    if inside:
        runs = fold(np.int64(st.bits[start >> WORD_ORDER]), order) >> inside
        if runs:
            pfn = start + lowest_bit(runs)
            return pfn if pfn + size <= end else -1
        start += WORD - inside
    level = max(order, WORD_ORDER)
    node = (st.leaves[0] + (start >> WORD_ORDER)) >> (level - WORD_ORDER)
    while np.int64(st.tree[node]) <= order:  # nothing here: on to the next range on the right, the largest that begins there
        while node & 1:
            node >>= 1
            level += 1
            if node <= 1:
                return -1
        node += 1
    while level > order and level > WORD_ORDER:
        node *= 2
        level -= 1
        if np.int64(st.tree[node]) <= order:
            node += 1
    pfn = ((node << (level - WORD_ORDER)) - st.leaves[0]) << WORD_ORDER
    if order < WORD_ORDER:
        pfn += lowest_bit(fold(np.int64(st.bits[pfn >> WORD_ORDER]), order))
    return pfn if pfn + size <= end else -1


@kernel
def give(m, st, zone, pfn, order):
    """A range becomes free; the counts see it merge with what is free around it."""
    set_range(m, st, pfn, order, 1)
    while order < MAX_ORDER and range_free(m, st, zone, pfn & ~((2 << order) - 1), order + 1):
        st.nr_blocks[zone * NR_PAGE_ORDERS + order] -= 1
        pfn &= ~((2 << order) - 1)
        order += 1
    st.nr_blocks[zone * NR_PAGE_ORDERS + order] += 1
    return 0


@kernel
def init_range(m, st, zone, pfn, nr_pages):
    """Free memory of boot. Cost: O(nr_pages / 32)."""
    mod_zone_free(m, zone, nr_pages)
    end = pfn + nr_pages
    while pfn < end:
        order = MAX_ORDER
        while pfn & ((1 << order) - 1) or pfn + (1 << order) > end:
            order -= 1
        give(m, st, zone, pfn, order)
        pfn += 1 << order
    return 0


@kernel
def take(m, st, zone, pfn, order):
    """A free range is handed out."""
    whole = order
    while whole < MAX_ORDER and range_free(m, st, zone, pfn & ~((2 << whole) - 1), whole + 1):
        whole += 1
    count_cut(st, zone, order, whole)
    set_range(m, st, pfn, order, 0)
    mod_zone_free(m, zone, -(1 << order))
    return pfn


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    """The lowest free aligned run; migratetype and alloc_flags do not matter."""
    pfn = find_first(m, st, zone, order, 0)
    return take(m, st, zone, pfn, order) if pfn >= 0 else -ENOMEM


@kernel
def free(m, st, pfn, order):
    """The frames are free at once."""
    zone = zone_of(m, pfn)
    mod_zone_free(m, zone, 1 << order)
    return give(m, st, zone, pfn, order)


@kernel
def can_alloc(m, st, zone, order, alloc_flags):
    """1 if a run of this size exists."""
    return has_block(st, zone, order)


@kernel
def is_free(m, st, pfn):
    """A maximal free aligned run counts as a block."""
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN] or (np.int64(st.bits[pfn >> WORD_ORDER]) >> (pfn & (WORD - 1))) & 1 == 0:
        return 0
    zone = zone_of(m, pfn)
    order = 0
    while order < MAX_ORDER and range_free(m, st, zone, pfn & ~((2 << order) - 1), order + 1):
        order += 1
        if pfn & ((1 << order) - 1):
            return 0
    return order + 1


@kernel
def isolate_free(m, st, pfn):
    """The maximal free run that begins at pfn, taken."""
    found = is_free(m, st, pfn)
    if found:
        take(m, st, zone_of(m, pfn), pfn, found - 1)
    return found


@kernel
def check(m, st, zone):
    """The tree follows from the bits, the counts from the tree, and NR_FREE from the counts. Cost: O(frames / 32 + free blocks)."""
    for word in range(m.sc[SC_MAX_PFN] >> WORD_ORDER):
        if np.int64(st.tree[st.leaves[0] + word]) != largest_run(np.int64(st.bits[word])):
            return WRONG_TREE
    first = st.leaves[0]
    level = WORD_ORDER
    while first > 1:
        first >>= 1
        level += 1
        for node in range(first, 2 * first):
            if np.int64(st.tree[node]) != joined(np.int64(st.tree[2 * node]), np.int64(st.tree[2 * node + 1]), level):
                return WRONG_TREE
    free_pages = 0
    for order in range(NR_PAGE_ORDERS):
        free_pages += st.nr_blocks[zone * NR_PAGE_ORDERS + order] << order
    if free_pages != zone_free_exact(m, zone):
        return WRONG_NR_FREE
    pfn = m.zone[zone * ZONE_STRIDE + Z_START_PFN]
    while pfn < m.zone[zone * ZONE_STRIDE + Z_END_PFN]:
        order = 0
        if range_free(m, st, zone, pfn, 0) == 0:
            pfn += 1
            continue
        while order < MAX_ORDER and pfn & ((2 << order) - 1) == 0 and range_free(m, st, zone, pfn, order + 1):
            order += 1
        free_pages -= 1 << order
        pfn += 1 << order
    return WRONG_COUNT if free_pages else 0


FIRST_FIT = PageAllocator(
    name="first_fit", summary="bitmap: the lowest free aligned run, no per-CPU lists, no mobility types",
    models="Knuth TAOCP 1, 2.5 (first fit)", left_out="page mobility, per-CPU lists, highatomic reserve, boost", new_state=new_state,
    init_range=init_range, alloc=alloc, free=free, can_alloc=can_alloc, is_free=is_free, nr_free_blocks=nr_free_blocks,
    block_type=block_type, isolate_free=isolate_free, check=check,
)
