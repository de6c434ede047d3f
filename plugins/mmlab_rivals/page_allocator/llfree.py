"""llfree: the page-frame allocator LLFree: bit fields below, counters of trees above, and every CPU works in a tree of its own.

512 frames are a child: a bit field, searched 64 frames at a time, and a count of its free frames. 32 children are a tree (64 MiB) with one
counter. A CPU reserves a tree and takes that tree's whole count; when that is used up it reserves another one: the nearest that is partly
free, seen from the beginning of the counters' cache line, else one that is free, else any. So the same trees are filled again and again, what
is freed elsewhere is left to become free as a whole, and huge frames come back. A CPU that frees into one tree again and again reserves that tree.
Models: Wrenger, Rommel, Halbuer, Dietrich, Lohmann, "LLFree: Scalable and Optionally-Persistent Page-Frame Allocation", USENIX ATC 2023.
Left out: atomic updates and their retries, persistence, migratetypes (the paper's has none), highatomic reserve, watermark boost.
Cost: O(1) as a rule, O(trees) to reserve, O(frames / 32) for a block that only fragmented trees have. Memory: under 1/4 byte a frame.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import mod_zone_free, zone_free_exact, zone_of
from mmlab.model.const import ENOMEM, MAX_ORDER, NR_PAGE_ORDERS
from mmlab.model.rows import SC_CPU, SC_NR_CPUS, SC_NR_ZONES
from mmlab.policies import PageAllocator
from mmlab_rivals.page_allocator.bits import (
    WORD, WORD_MASK, WORD_ORDER, bit_of, count_bits, count_blocks_again, count_cut, fold, has_block, is_free, lowest_bit,
    maximal_run, run_free, set_bits, zone_end, zone_start,
)  # fmt: skip
from mmlab_rivals.page_allocator.untyped import block_type, nr_free_blocks

CHILD_ORDER = 9
CHILD = 1 << CHILD_ORDER
CHILDREN = 32  # a tree
TREE_ORDER = 14
TREE = 1 << TREE_ORDER
ALMOST_ALLOCATED = 1 << MAX_ORDER  # a tree with no more free frames is not worth reserving
ALMOST_FREE = TREE - ALMOST_ALLOCATED  # and one with more counts as free
TREES_A_LINE = 32  # counters in a cache line, where a search begins: so it comes back to the same trees again and again
LAST_FREES = 4  # so many frees in a row into one tree reserve it
WRONG_CHILD, WRONG_TREE, WRONG_BLOCKS, WRONG_NR_FREE = 1, 2, 3, 4


def new_state(params, machine):
    """bits, nr_blocks: see bits.py. child: free frames of a child; tree_free: free frames of a tree that nobody reserved (or that were freed
    since), tree_owner: CPU + 1 that reserved it. first_tree, nr_trees: a zone's trees; zones share none. By (CPU, zone): local_tree (-1),
    local_free: what the CPU took of its tree's count, local_start: where its search begins, freed_tree and freed_times: its last frees."""
    sizes = machine.sizes
    trees = (sizes.nr_frames >> TREE_ORDER) + 2 * sizes.nr_zones
    rows = sizes.nr_cpus * sizes.nr_zones
    return {
        "bits": np.zeros(sizes.nr_frames >> WORD_ORDER, np.uint32),
        "nr_blocks": np.zeros(sizes.nr_zones * NR_PAGE_ORDERS, np.int64),
        "child": np.zeros(trees * CHILDREN, np.int16),
        "tree_free": np.zeros(trees, np.int64),
        "tree_owner": np.zeros(trees, np.int64),
        "first_tree": np.zeros(sizes.nr_zones, np.int64),
        "nr_trees": np.zeros(sizes.nr_zones, np.int64),
        "local_tree": np.full(rows, -1, np.int64),
        "local_free": np.zeros(rows, np.int64),
        "local_start": np.zeros(rows, np.int64),
        "freed_tree": np.full(rows, -1, np.int64),
        "freed_times": np.zeros(rows, np.int64),
    }


@leaf
def tree_of(m, st, zone, pfn):
    """The tree that a frame of the zone belongs to."""
    return st.first_tree[zone] + (pfn >> TREE_ORDER) - (zone_start(m, zone) >> TREE_ORDER)


@leaf
def child_of(m, st, zone, pfn):
    """The child that a frame of the zone belongs to."""
    return tree_of(m, st, zone, pfn) * CHILDREN + ((pfn >> CHILD_ORDER) & (CHILDREN - 1))


@leaf
def tree_start(m, st, zone, tree):
    """First frame of a tree's aligned range (the zone may begin behind it)."""
    return ((zone_start(m, zone) >> TREE_ORDER) + tree - st.first_tree[zone]) << TREE_ORDER


@kernel
def init(m, st):
    """Number the zones' trees."""
    trees = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        st.first_tree[zone] = trees
        st.nr_trees[zone] = ((zone_end(m, zone) - 1) >> TREE_ORDER) - (zone_start(m, zone) >> TREE_ORDER) + 1
        trees += st.nr_trees[zone]
    return 0


@leaf
def whole_run(m, st, zone, pfn):
    """Order of the maximal free run around a free frame; a child that is free as a whole needs no look at its bits."""
    if np.int64(st.child[child_of(m, st, zone, pfn)]) < CHILD:
        return maximal_run(st, pfn, zone_start(m, zone), zone_end(m, zone))
    first = pfn & ~((2 << CHILD_ORDER) - 1)
    if first < zone_start(m, zone) or first + 2 * CHILD > zone_end(m, zone):
        return CHILD_ORDER
    return CHILD_ORDER + 1 if np.int64(st.child[child_of(m, st, zone, pfn ^ CHILD)]) == CHILD else CHILD_ORDER


@leaf
def add_to_children(m, st, zone, pfn, order, sign):
    """The children's counts when 2^order frames at pfn become free (sign 1) or used (-1)."""
    child = child_of(m, st, zone, pfn)
    if order <= CHILD_ORDER:
        st.child[child] = np.int64(st.child[child]) + sign * (1 << order)
    else:
        for i in range(1 << (order - CHILD_ORDER)):
            st.child[child + i] = np.int64(st.child[child + i]) + sign * CHILD


@leaf
def find_in_words(m, st, zone, child_pfn, order, word):
    """A free aligned run of up to 64 frames' order and beyond in a child, from the word given round to it again: pfn, or -1."""
    step = 1 if order <= WORD_ORDER else 1 << (order - WORD_ORDER)
    words = CHILD >> WORD_ORDER
    first = child_pfn >> WORD_ORDER
    word &= ~(step - 1)
    for _ in range(words // step):
        bits = np.int64(st.bits[first + word])
        if bits:
            base = (first + word) << WORD_ORDER
            if base < zone_start(m, zone):
                bits &= WORD_MASK << min(zone_start(m, zone) - base, WORD)
            if base + WORD > zone_end(m, zone):
                bits &= (1 << max(zone_end(m, zone) - base, 0)) - 1
            if order <= WORD_ORDER:
                runs = fold(bits & WORD_MASK, order)
                if runs:
                    return base + lowest_bit(runs)
            elif bits == WORD_MASK and base + (1 << order) <= zone_end(m, zone) and run_free(st, base, order):
                return base
        word = (word + step) & (words - 1)
    return -1


@kernel
def find_in_tree(m, st, zone, tree, start, order):
    """A free aligned run of a tree, looked for from frame `start` on, round to it again: pfn, or -1."""
    first = tree_start(m, st, zone, tree)
    child = (start >> CHILD_ORDER) & (CHILDREN - 1)
    if order > CHILD_ORDER:
        child &= ~1
    for i in range(CHILDREN):
        free = np.int64(st.child[tree * CHILDREN + child])
        pfn = -1
        if order < CHILD_ORDER:
            if free >= 1 << order:
                word = (start >> WORD_ORDER) & ((CHILD >> WORD_ORDER) - 1) if i == 0 else 0
                pfn = find_in_words(m, st, zone, first + (child << CHILD_ORDER), order, word)
        elif free == CHILD and (order == CHILD_ORDER or (child & 1 == 0 and np.int64(st.child[tree * CHILDREN + child + 1]) == CHILD)):
            pfn = first + (child << CHILD_ORDER)
        if pfn >= 0:
            return pfn
        child = (child + 1) & (CHILDREN - 1)
    return -1


@leaf
def release(st, row):
    """A CPU gives its tree back, with what is left of the count."""
    old = st.local_tree[row]
    if old >= 0:
        st.tree_free[old] += st.local_free[row]
        st.tree_owner[old] = 0
    st.local_tree[row] = -1
    st.local_free[row] = 0


@leaf
def reserve(m, st, zone, row, cpu, tree):
    """A tree and all of its count become the CPU's."""
    release(st, row)
    st.local_tree[row] = tree
    st.local_free[row] = st.tree_free[tree]
    st.local_start[row] = tree_start(m, st, zone, tree)
    st.tree_free[tree] = 0
    st.tree_owner[tree] = cpu + 1


@kernel
def find_tree(m, st, zone, start, low, high):
    """The tree nearest to number `start` of the zone (below first) that nobody reserved and that has low .. high free frames, or -1."""
    trees = st.nr_trees[zone]
    for i in range(trees):
        off = (i + 1) >> 1
        at = (start + off) % trees if i & 1 == 0 else (start - off + trees) % trees
        tree = st.first_tree[zone] + at
        if st.tree_owner[tree] == 0 and st.tree_free[tree] >= low and st.tree_free[tree] <= high:
            return tree
    return -1


@kernel
def choose_tree(m, st, zone, start, order, free_first):
    """The tree to reserve next: partly free, free, any; free_first: the last one had no block of the size. -1: none."""
    start -= start % TREES_A_LINE
    tree = -1
    if free_first:
        tree = find_tree(m, st, zone, start, ALMOST_FREE + 1, TREE)
    if tree < 0:
        tree = find_tree(m, st, zone, start, max(ALMOST_ALLOCATED, 1 << order), ALMOST_FREE)
    if tree < 0 and free_first == 0:
        tree = find_tree(m, st, zone, start, ALMOST_FREE + 1, TREE)
    return tree if tree >= 0 else find_tree(m, st, zone, start, 1 << order, TREE)


@kernel
def find_anywhere(m, st, zone, order):
    """The lowest run of the size, whoever reserved its tree: pfn, or -1."""
    for tree in range(st.first_tree[zone], st.first_tree[zone] + st.nr_trees[zone]):
        pfn = find_in_tree(m, st, zone, tree, 0, order)
        if pfn >= 0:
            return pfn
    return -1


@kernel
def take(m, st, zone, pfn, order):
    """A free run is handed out; its tree's count is the owner's first."""
    tree = tree_of(m, st, zone, pfn)
    left = 1 << order
    if st.tree_owner[tree]:
        row = (st.tree_owner[tree] - 1) * m.sc[SC_NR_ZONES] + zone
        taken = min(left, st.local_free[row])
        st.local_free[row] -= taken
        left -= taken
    st.tree_free[tree] -= left
    count_cut(st, zone, order, whole_run(m, st, zone, pfn))
    set_bits(st, pfn, order, 0)
    add_to_children(m, st, zone, pfn, order, -1)
    mod_zone_free(m, zone, -(1 << order))
    return pfn


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    """From the CPU's tree, from another one that it reserves, at last from any; migratetype and alloc_flags do not matter."""
    if has_block(st, zone, order) == 0:
        return -ENOMEM
    cpu = m.sc[SC_CPU]
    row = cpu * m.sc[SC_NR_ZONES] + zone
    fragmented = 0
    pfn = -1
    for _ in range(3):
        tree = st.local_tree[row]
        if tree >= 0:
            if st.local_free[row] < 1 << order and st.local_free[row] + st.tree_free[tree] > ALMOST_ALLOCATED:
                st.local_free[row] += st.tree_free[tree]  # what other CPUs freed meanwhile
                st.tree_free[tree] = 0
            if st.local_free[row] >= 1 << order:
                pfn = find_in_tree(m, st, zone, tree, st.local_start[row], order)
                if pfn >= 0:
                    break
                fragmented = 1
            start = tree - st.first_tree[zone]
        else:
            start = st.nr_trees[zone] // m.sc[SC_NR_CPUS] * cpu
        tree = choose_tree(m, st, zone, start, order, fragmented)
        if tree < 0:
            break
        reserve(m, st, zone, row, cpu, tree)
    if pfn < 0:
        pfn = find_anywhere(m, st, zone, order)
    elif order <= WORD_ORDER:
        st.local_start[row] = pfn
    return take(m, st, zone, pfn, order)


@kernel
def count_join(m, st, zone, pfn, order):
    """The counts when a run, whose bits are set, joins what is free around it."""
    whole = whole_run(m, st, zone, pfn)
    for larger in range(order, whole):  # the other half of each level was a run of its own
        st.nr_blocks[zone * NR_PAGE_ORDERS + larger] -= 1
    st.nr_blocks[zone * NR_PAGE_ORDERS + whole] += 1


@leaf
def put(m, st, zone, pfn, order):
    """Frames become free, in their child and in the bits."""
    set_bits(st, pfn, order, 1)
    add_to_children(m, st, zone, pfn, order, 1)
    count_join(m, st, zone, pfn, order)
    mod_zone_free(m, zone, 1 << order)


@kernel
def init_range(m, st, zone, pfn, nr_pages):
    """Free memory of boot. Cost: O(nr_pages / 32)."""
    end = pfn + nr_pages
    while pfn < end:
        order = MAX_ORDER
        while pfn & ((1 << order) - 1) or pfn + (1 << order) > end:
            order -= 1
        st.tree_free[tree_of(m, st, zone, pfn)] += 1 << order
        put(m, st, zone, pfn, order)
        pfn += 1 << order
    return 0


@kernel
def free(m, st, pfn, order):
    """The frames are free at once; the count goes to the CPU whose tree it is, if that is this one."""
    zone = zone_of(m, pfn)
    cpu = m.sc[SC_CPU]
    row = cpu * m.sc[SC_NR_ZONES] + zone
    tree = tree_of(m, st, zone, pfn)
    put(m, st, zone, pfn, order)
    if st.local_tree[row] == tree:
        st.local_free[row] += 1 << order
    else:
        st.tree_free[tree] += 1 << order
        if st.freed_tree[row] == tree and st.freed_times[row] >= LAST_FREES and st.tree_owner[tree] == 0 and st.tree_free[tree] > ALMOST_ALLOCATED:
            reserve(m, st, zone, row, cpu, tree)
    st.freed_times[row] = st.freed_times[row] + 1 if st.freed_tree[row] == tree else 1
    st.freed_tree[row] = tree
    return 0


@kernel
def can_alloc(m, st, zone, order, alloc_flags):
    """1 if a run of this size exists."""
    return has_block(st, zone, order)


@kernel
def drain(m, st, zone, cpu):
    """The CPU gives its tree back. No page was hidden there: 0."""
    release(st, cpu * m.sc[SC_NR_ZONES] + zone)
    return 0


@kernel
def isolate_free(m, st, pfn):
    """The maximal free run that begins at pfn, taken."""
    found = is_free(m, st, pfn)
    if found:
        take(m, st, zone_of(m, pfn), pfn, found - 1)
    return found


@kernel
def check(m, st, zone):
    """Children count their bits, trees and CPUs' counts their children, NR_FREE everything. Cost: O(frames)."""
    for tree in range(st.first_tree[zone], st.first_tree[zone] + st.nr_trees[zone]):
        of_tree = 0
        for child in range(CHILDREN):
            first = tree_start(m, st, zone, tree) + child * CHILD
            frames = 0
            if first >= zone_start(m, zone) and first + CHILD <= zone_end(m, zone):
                for word in range(first >> WORD_ORDER, (first + CHILD) >> WORD_ORDER):
                    frames += count_bits(np.int64(st.bits[word]))
            else:
                for pfn in range(max(first, zone_start(m, zone)), min(first + CHILD, zone_end(m, zone))):
                    frames += bit_of(st, pfn)
            if frames != np.int64(st.child[tree * CHILDREN + child]):
                return WRONG_CHILD
            of_tree += frames
        counted = st.tree_free[tree]
        if st.tree_owner[tree]:
            row = (st.tree_owner[tree] - 1) * m.sc[SC_NR_ZONES] + zone
            if st.local_tree[row] != tree:
                return WRONG_TREE
            counted += st.local_free[row]
        if counted != of_tree:
            return WRONG_TREE
    frames = count_blocks_again(st, zone, zone_start(m, zone), zone_end(m, zone))
    if frames < 0:
        return WRONG_BLOCKS
    return 0 if frames == zone_free_exact(m, zone) else WRONG_NR_FREE


LLFREE = PageAllocator(
    name="llfree", summary="LLFree: a tree of 64 MiB reserved by each CPU, bit fields below, no mobility types", models="Wrenger et al., USENIX ATC 2023",
    left_out="atomics and their retries, persistence, migratetypes, highatomic reserve, boost", new_state=new_state,
    init=init, init_range=init_range, alloc=alloc, free=free, can_alloc=can_alloc, drain=drain, is_free=is_free, isolate_free=isolate_free,
    nr_free_blocks=nr_free_blocks, block_type=block_type, check=check,
)  # fmt: skip
