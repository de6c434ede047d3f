"""A B+ tree of VMAs: all of them in leaves, in order of vm_start, the leaves linked; inner nodes keep the largest gap below each child.

Unlike the maple tree it stores VMAs only, no gaps: 14 a leaf, 9 children an inner node, both of 256 bytes, from maple_node's cache. A full node is
split on the way down to an insertion; a node goes when it is empty, and none are joined (as databases do it). A look-up locks each node on
its way, hand over hand; a change locks the way down.
Models: nothing in Linux. Comer, "The Ubiquitous B-Tree", Computing Surveys 1979; Bayer and Schkolnick, "Concurrency of Operations on B-Trees",
Acta Informatica 1977. Cost: find, insert, erase O(log VMAs); find_gap O(log VMAs) but for gaps that only limits or a stack's guard make too small.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import kmem_cache_alloc, kmem_cache_free
from mmlab.model.const import (
    ENOMEM, VMA_STAT_BYTES, VMA_STAT_HEIGHT, VMA_STAT_NODES, VMA_STAT_READ_LOCKS, VMA_STAT_TOUCHED, VMA_STAT_WRITE_LOCKS,
)
from mmlab.model.gfp import GFP_KERNEL
from mmlab.model.layout import reserve
from mmlab.model.rows import CACHE_MAPLE_NODE, MM_INDEX, MM_STRIDE, VMA_END, VMA_START, VMA_STRIDE
from mmlab.policies import VmaIndex
from mmlab_rivals.vma_index.gap_search import guard_below

LEAF_SLOTS, INNER_SLOTS = 14, 9
NODE_BYTES = 256
MAX_HEIGHT = 32
# words of a node: header, then keys (the lowest vm_start a slot may hold; the first of an inner node stands for everything below), slots
# (VMAs, or nodes), and the gaps below inner slots
NODE_WORDS = 48
B_COUNT, B_UP, B_BEFORE, B_AFTER, B_IS_LEAF, B_OBJ, B_KEY, B_SLOT, B_GAP = 0, 1, 2, 3, 4, 5, 6, 20, 34
# words of m.mm from MM_INDEX on; nodes are places in st.node, -1 none
T_ROOT, T_HEIGHT, T_NODES, T_FIRST, T_LAST, T_TOUCHED, T_READS, T_WRITES = range(8)


def new_state(params, machine):
    """node: the pool, free ones linked through B_AFTER (there are never more nodes than VMAs, but for a root or two a tree); spare, nr_spare:
    slab objects for a store that must not fail; place: node and slot that seek() or next_gap_below() has found."""
    nodes = len(machine.vma) // VMA_STRIDE + 2 * machine.sizes.nr_tasks
    small = {"free": np.full(1, -1, "int64"), "top": np.zeros(1, "int64"), "nr_spare": np.zeros(1, "int64"), "place": np.zeros(2, "int64")}
    return {"node": reserve(nodes * NODE_WORDS, "int64"), "spare": np.zeros(MAX_HEIGHT, "int64"), **small}


@leaf
def _row(mm):
    return mm * MM_STRIDE + MM_INDEX


@leaf
def _start(m, vma):
    return m.vma[vma * VMA_STRIDE + VMA_START]


@leaf
def _end(m, vma):
    return m.vma[vma * VMA_STRIDE + VMA_END]


# nodes ----------------------------------------------------------------------------------------------------------------------------------------
@kernel
def take_node(m, st, row, is_leaf):
    """An empty node, or -ENOMEM."""
    if st.nr_spare[0]:
        st.nr_spare[0] -= 1
        obj = st.spare[st.nr_spare[0]]
    else:
        obj = kmem_cache_alloc(m, CACHE_MAPLE_NODE, GFP_KERNEL)
    if obj < 0:
        return -ENOMEM
    node = st.free[0]
    if node >= 0:
        st.free[0] = st.node[node + B_AFTER]
    else:
        node = st.top[0]
        st.top[0] += NODE_WORDS
    st.node[node + B_COUNT], st.node[node + B_IS_LEAF], st.node[node + B_OBJ] = 0, is_leaf, obj
    st.node[node + B_UP] = st.node[node + B_BEFORE] = st.node[node + B_AFTER] = -1
    m.mm[row + T_NODES] += 1
    return node


@leaf
def drop_node(m, st, row, node):
    """Give a node back."""
    kmem_cache_free(m, st.node[node + B_OBJ])
    st.node[node + B_AFTER] = st.free[0]
    st.free[0] = node
    m.mm[row + T_NODES] -= 1


@kernel
def drop_spares(m, st):
    """Free what was reserved and not used."""
    while st.nr_spare[0]:
        st.nr_spare[0] -= 1
        kmem_cache_free(m, st.spare[st.nr_spare[0]])
    return 0


@kernel
def reserve_nodes(m, st, count):
    """Have so many objects for nodes at hand. 0, or -ENOMEM with none."""
    while st.nr_spare[0] < count:
        obj = kmem_cache_alloc(m, CACHE_MAPLE_NODE, GFP_KERNEL)
        if obj < 0:
            drop_spares(m, st)
            return -ENOMEM
        st.spare[st.nr_spare[0]] = obj
        st.nr_spare[0] += 1
    return 0


@leaf
def copy_slot(st, to, to_at, node, at):
    """One slot with all that belongs to it."""
    st.node[to + B_KEY + to_at] = st.node[node + B_KEY + at]
    st.node[to + B_SLOT + to_at] = st.node[node + B_SLOT + at]
    if st.node[node + B_IS_LEAF] == 0:
        st.node[to + B_GAP + to_at] = st.node[node + B_GAP + at]
        st.node[st.node[node + B_SLOT + at] + B_UP] = to


@kernel
def open_slot(st, node, at, key, slot):
    """Room for a slot in a node that is not full."""
    for i in range(st.node[node + B_COUNT], at, -1):
        copy_slot(st, node, i, node, i - 1)
    st.node[node + B_KEY + at], st.node[node + B_SLOT + at] = key, slot
    if st.node[node + B_IS_LEAF] == 0:
        st.node[slot + B_UP] = node
    st.node[node + B_COUNT] += 1
    return 0


@kernel
def close_slot(st, node, at):
    """Take a slot out."""
    st.node[node + B_COUNT] -= 1
    for i in range(at, st.node[node + B_COUNT]):
        copy_slot(st, node, i, node, i + 1)
    return 0


@leaf
def place_in_parent(st, node):
    """Which slot of its parent a node is in."""
    up = st.node[node + B_UP]
    at = 0
    while st.node[up + B_SLOT + at] != node:
        at += 1
    return at


@leaf
def slot_of(st, node, addr):
    """The last slot whose key is at most addr; in a leaf -1 if there is none, in an inner node the first then."""
    at = st.node[node + B_COUNT] - 1
    lowest = -1 if st.node[node + B_IS_LEAF] else 0
    while at > lowest and st.node[node + B_KEY + at] > addr:
        at -= 1
    return at


@kernel
def leaf_of(m, st, row, addr):
    """The leaf in which an address belongs, or -1 in an empty tree."""
    node = m.mm[row + T_ROOT]
    for _ in range(m.mm[row + T_HEIGHT] - 1):
        node = st.node[node + B_SLOT + slot_of(st, node, addr)]
    m.mm[row + T_TOUCHED] += m.mm[row + T_HEIGHT]
    return node


@leaf
def vma_before(st, node, at):
    """The VMA in front of slot `at` of a leaf, or -1."""
    if at > 0:
        return st.node[node + B_SLOT + at - 1]
    before = st.node[node + B_BEFORE]
    return st.node[before + B_SLOT + st.node[before + B_COUNT] - 1] if before >= 0 else -1


# gaps -----------------------------------------------------------------------------------------------------------------------------------------
@leaf
def gap_below(m, st, node, at):
    """Free bytes below the VMA in slot `at` of a leaf."""
    before = vma_before(st, node, at)
    return _start(m, st.node[node + B_SLOT + at]) - (_end(m, before) if before >= 0 else 0)


@kernel
def largest_gap(m, st, node):
    """Of all VMAs in or below a node."""
    best = 0
    for at in range(st.node[node + B_COUNT]):
        best = max(best, gap_below(m, st, node, at) if st.node[node + B_IS_LEAF] else st.node[node + B_GAP + at])
    return best


@kernel
def update_gaps(m, st, row, node):
    """Something in the node has changed: set the values above it."""
    while node >= 0 and st.node[node + B_UP] >= 0:
        up = st.node[node + B_UP]
        st.node[up + B_GAP + place_in_parent(st, node)] = largest_gap(m, st, node)
        m.mm[row + T_TOUCHED] += 1
        node = up
    return 0


# look-ups -------------------------------------------------------------------------------------------------------------------------------------
@kernel
def init_mm(m, st, mm):
    """An empty tree, which takes no memory."""
    row = _row(mm)
    for word in range(T_WRITES + 1):
        m.mm[row + word] = 0
    m.mm[row + T_ROOT] = m.mm[row + T_FIRST] = m.mm[row + T_LAST] = -1
    return 0


@kernel
def destroy_mm(m, st, mm):
    """Free all nodes, the leaves of each level's first way down first."""
    row = _row(mm)
    while m.mm[row + T_ROOT] >= 0:
        node = m.mm[row + T_ROOT]
        while st.node[node + B_IS_LEAF] == 0 and st.node[node + B_COUNT] > 0:
            node = st.node[node + B_SLOT + st.node[node + B_COUNT] - 1]
        up = st.node[node + B_UP]
        if up >= 0:
            st.node[up + B_COUNT] -= 1
        else:
            m.mm[row + T_ROOT] = -1
        drop_node(m, st, row, node)
    m.mm[row + T_HEIGHT] = 0
    m.mm[row + T_FIRST] = m.mm[row + T_LAST] = -1
    return 0


@kernel
def seek(m, st, row, addr):
    """The lowest VMA with vm_end > addr, whose leaf and slot are in st.place then, or -1."""
    node = leaf_of(m, st, row, addr)
    if node < 0:
        return -1
    at = slot_of(st, node, addr)
    if at < 0 and st.node[node + B_BEFORE] >= 0:
        node = st.node[node + B_BEFORE]
        at = st.node[node + B_COUNT] - 1
    if at < 0 or _end(m, st.node[node + B_SLOT + at]) <= addr:
        at += 1
    if at == st.node[node + B_COUNT]:
        node = st.node[node + B_AFTER]
        at = 0
    if node < 0:
        return -1
    st.place[0], st.place[1] = node, at
    return st.node[node + B_SLOT + at]


@kernel
def find(m, st, mm, addr):
    """The lowest VMA with vm_end > addr, or -1."""
    row = _row(mm)
    m.mm[row + T_READS] += m.mm[row + T_HEIGHT]
    return seek(m, st, row, addr)


@kernel
def find_prev(m, st, mm, addr):
    """The highest VMA with vm_start < addr, or -1."""
    row = _row(mm)
    m.mm[row + T_READS] += m.mm[row + T_HEIGHT]
    node = leaf_of(m, st, row, addr - 1)
    return vma_before(st, node, slot_of(st, node, addr - 1) + 1) if node >= 0 else -1


# changes --------------------------------------------------------------------------------------------------------------------------------------
@kernel
def split(m, st, row, node):
    """The upper half of a full node whose parent is not full becomes a node of its own. 0, or -ENOMEM."""
    right = take_node(m, st, row, st.node[node + B_IS_LEAF])
    if right < 0:
        return -ENOMEM
    count = st.node[node + B_COUNT]
    half = count // 2
    for at in range(half, count):
        copy_slot(st, right, at - half, node, at)
    st.node[node + B_COUNT], st.node[right + B_COUNT] = half, count - half
    if st.node[node + B_IS_LEAF]:
        after = st.node[node + B_AFTER]
        st.node[right + B_BEFORE], st.node[right + B_AFTER] = node, after
        st.node[node + B_AFTER] = right
        if after >= 0:
            st.node[after + B_BEFORE] = right
        else:
            m.mm[row + T_LAST] = right
    up = st.node[node + B_UP]
    at = place_in_parent(st, node)
    open_slot(st, up, at + 1, st.node[right + B_KEY], right)
    st.node[up + B_GAP + at] = largest_gap(m, st, node)
    st.node[up + B_GAP + at + 1] = largest_gap(m, st, right)
    return 0


@leaf
def is_full(st, node):
    """1 if a node has no room for another slot."""
    return 1 if st.node[node + B_COUNT] == (LEAF_SLOTS if st.node[node + B_IS_LEAF] else INNER_SLOTS) else 0


@kernel
def make_room(m, st, row, addr):
    """The leaf in which an address belongs, with room for a VMA; -ENOMEM leaves a tree that holds what it held."""
    root = m.mm[row + T_ROOT]
    if root < 0 or is_full(st, root):
        above = take_node(m, st, row, 1 if root < 0 else 0)
        if above < 0:
            return -ENOMEM
        if root < 0:
            m.mm[row + T_FIRST] = m.mm[row + T_LAST] = above
        else:
            open_slot(st, above, 0, 0, root)
            st.node[above + B_GAP] = largest_gap(m, st, root)
        m.mm[row + T_ROOT] = above
        m.mm[row + T_HEIGHT] += 1
    node = m.mm[row + T_ROOT]
    while True:
        m.mm[row + T_TOUCHED] += 1
        m.mm[row + T_WRITES] += 1
        if is_full(st, node):  # never the root
            if split(m, st, row, node) < 0:
                return -ENOMEM
            node = st.node[node + B_UP]
            node = st.node[node + B_SLOT + slot_of(st, node, addr)]
        if st.node[node + B_IS_LEAF]:
            return node
        node = st.node[node + B_SLOT + slot_of(st, node, addr)]


@kernel
def lower_roots(m, st, row):
    """Roots with a single child go: a failed insertion may leave one, an erasure does."""
    while m.mm[row + T_HEIGHT] > 1 and st.node[m.mm[row + T_ROOT] + B_COUNT] == 1:
        root = m.mm[row + T_ROOT]
        m.mm[row + T_ROOT] = st.node[root + B_SLOT]
        st.node[m.mm[row + T_ROOT] + B_UP] = -1
        m.mm[row + T_HEIGHT] -= 1
        drop_node(m, st, row, root)
    return 0


@kernel
def store(m, st, row, vma):
    """Insert by the bounds in the VMA's row. 0, or -ENOMEM."""
    start = _start(m, vma)
    node = make_room(m, st, row, start)
    if node < 0:
        lower_roots(m, st, row)
        return -ENOMEM
    at = slot_of(st, node, start) + 1
    open_slot(st, node, at, start, vma)
    update_gaps(m, st, row, node)
    if at + 1 == st.node[node + B_COUNT]:
        update_gaps(m, st, row, st.node[node + B_AFTER])
    return 0


@kernel
def remove(m, st, row, vma):
    """Take a VMA out, and nodes that are empty then."""
    node = leaf_of(m, st, row, _start(m, vma))
    m.mm[row + T_WRITES] += m.mm[row + T_HEIGHT]
    at = slot_of(st, node, _start(m, vma))
    close_slot(st, node, at)
    after = node if at < st.node[node + B_COUNT] else st.node[node + B_AFTER]
    if st.node[node + B_COUNT] == 0:
        before, behind = st.node[node + B_BEFORE], st.node[node + B_AFTER]
        if before >= 0:
            st.node[before + B_AFTER] = behind
        else:
            m.mm[row + T_FIRST] = behind
        if behind >= 0:
            st.node[behind + B_BEFORE] = before
        else:
            m.mm[row + T_LAST] = before
    while node >= 0 and st.node[node + B_COUNT] == 0:
        up = st.node[node + B_UP]
        if up >= 0:
            close_slot(st, up, place_in_parent(st, node))
        else:
            m.mm[row + T_ROOT], m.mm[row + T_HEIGHT] = -1, 0
        drop_node(m, st, row, node)
        node = up
    if node >= 0:
        update_gaps(m, st, row, node)
        if st.node[node + B_COUNT] and after >= 0:
            update_gaps(m, st, row, after)
        lower_roots(m, st, row)
    return 0


@kernel
def insert(m, st, mm, vma):
    """Store a VMA."""
    return store(m, st, _row(mm), vma)


@kernel
def erase(m, st, mm, vma):
    """As the row still has its bounds."""
    return remove(m, st, _row(mm), vma)


@kernel
def resize(m, st, mm, vma, vm_start, vm_end):
    """New bounds in place while the order of VMAs and the leaves' keys allow it, else out and in again."""
    row = _row(mm)
    old_start = _start(m, vma)
    node = leaf_of(m, st, row, old_start)
    at = slot_of(st, node, old_start)
    before = vma_before(st, node, at)
    after = st.node[node + B_SLOT + at + 1] if at + 1 < st.node[node + B_COUNT] else -1
    if after < 0 and st.node[node + B_AFTER] >= 0:
        after = st.node[st.node[node + B_AFTER] + B_SLOT]
    stays = (before < 0 or vm_start >= _end(m, before)) and (after < 0 or vm_end <= _start(m, after))
    stays = stays and leaf_of(m, st, row, vm_start) == node
    if stays:
        m.mm[row + T_WRITES] += m.mm[row + T_HEIGHT]
        m.vma[vma * VMA_STRIDE + VMA_START] = vm_start
        m.vma[vma * VMA_STRIDE + VMA_END] = vm_end
        st.node[node + B_KEY + at] = vm_start
        update_gaps(m, st, row, node)
        if at + 1 == st.node[node + B_COUNT]:
            update_gaps(m, st, row, st.node[node + B_AFTER])
        return 0
    if reserve_nodes(m, st, m.mm[row + T_HEIGHT] + 2) < 0:
        return -ENOMEM
    remove(m, st, row, vma)
    m.vma[vma * VMA_STRIDE + VMA_START] = vm_start
    m.vma[vma * VMA_STRIDE + VMA_END] = vm_end
    store(m, st, row, vma)
    return drop_spares(m, st)


# find_gap -------------------------------------------------------------------------------------------------------------------------------------
@kernel
def next_gap_below(m, st, row, length):
    """The highest VMA below the one in st.place with `length` free bytes below it, put there, or -1."""
    node, at = st.place[0], st.place[1] - 1
    while True:
        while at >= 0 and (gap_below(m, st, node, at) if st.node[node + B_IS_LEAF] else st.node[node + B_GAP + at]) < length:
            at -= 1
        m.mm[row + T_TOUCHED] += 1
        if at < 0:
            if st.node[node + B_UP] < 0:
                return -1
            at = place_in_parent(st, node) - 1
            node = st.node[node + B_UP]
        elif st.node[node + B_IS_LEAF]:
            st.place[0], st.place[1] = node, at
            return st.node[node + B_SLOT + at]
        else:
            node = st.node[node + B_SLOT + at]
            at = st.node[node + B_COUNT] - 1


@kernel
def find_gap(m, st, mm, length, low, high):
    """From the top, through nodes whose gap is large enough. Where a stack's guard reaches into the gap, begin again below the guard."""
    row = _row(mm)
    m.mm[row + T_READS] += m.mm[row + T_HEIGHT]
    low = max(0, low)
    vma = seek(m, st, row, high - 1) if length > 0 else -1
    if length > 0 and vma < 0 and high - low >= length:
        last = m.mm[row + T_LAST]
        gap_start = _end(m, vma_before(st, last, st.node[last + B_COUNT])) if last >= 0 else 0
        if high - max(gap_start, low) >= length:
            return high - length
        if last < 0 or gap_start <= low:
            return -ENOMEM
        st.place[0], st.place[1] = last, st.node[last + B_COUNT]
        vma = next_gap_below(m, st, row, length)
    while vma >= 0 and length > 0 and high - low >= length:
        before = vma_before(st, st.place[0], st.place[1])
        gap_start = _end(m, before) if before >= 0 else 0
        top = min(_start(m, vma), high)
        if top - max(gap_start, low) >= length:
            guard = guard_below(m, vma)
            if guard >= top:
                return top - length
            high = guard
            vma = seek(m, st, row, high - 1)
        else:
            vma = next_gap_below(m, st, row, length) if gap_start > low else -1
    return -ENOMEM


# what it costs, and whether it is sound -------------------------------------------------------------------------------------------------------
@kernel
def stat(m, st, mm, what):
    """Nodes, levels, bytes of nodes; nodes touched; nodes locked by look-ups and by changes."""
    row = _row(mm)
    if what == VMA_STAT_NODES:
        return m.mm[row + T_NODES]
    if what == VMA_STAT_HEIGHT:
        return m.mm[row + T_HEIGHT]
    if what == VMA_STAT_BYTES:
        return m.mm[row + T_NODES] * NODE_BYTES
    if what == VMA_STAT_READ_LOCKS:
        return m.mm[row + T_READS]
    if what == VMA_STAT_WRITE_LOCKS:
        return m.mm[row + T_WRITES]
    return m.mm[row + T_TOUCHED] if what == VMA_STAT_TOUCHED else 0


@kernel
def check(m, st, mm):
    """1: order, overlap or a row that differs; 2: a leaf's links; 3: a gap value; 4: a key that does not lead to its leaf; 5: a leaf at another
    depth; 6: the count of nodes."""
    row = _row(mm)
    leaf_node, before_leaf, before = m.mm[row + T_FIRST], -1, -1
    nodes = 0
    while leaf_node >= 0 and nodes <= m.mm[row + T_NODES]:
        if st.node[leaf_node + B_BEFORE] != before_leaf or st.node[leaf_node + B_COUNT] < 1 or st.node[leaf_node + B_IS_LEAF] == 0:
            return 2
        for at in range(st.node[leaf_node + B_COUNT]):
            vma = st.node[leaf_node + B_SLOT + at]
            if st.node[leaf_node + B_KEY + at] != _start(m, vma) or _end(m, vma) <= _start(m, vma) or (before >= 0 and _end(m, before) > _start(m, vma)):
                return 1
            if leaf_of(m, st, row, _start(m, vma)) != leaf_node:
                return 4
            before = vma
        m.mm[row + T_TOUCHED] -= st.node[leaf_node + B_COUNT] * m.mm[row + T_HEIGHT]  # a check touches nothing
        nodes += 1
        depth, node, first = 1, leaf_node, True
        while st.node[node + B_UP] >= 0:
            up, at = st.node[node + B_UP], place_in_parent(st, node)
            if st.node[up + B_GAP + at] != largest_gap(m, st, node):
                return 3
            first = first and at == 0
            nodes += 1 if first else 0
            depth += 1
            node = up
        if depth != m.mm[row + T_HEIGHT] or node != m.mm[row + T_ROOT]:
            return 5
        before_leaf, leaf_node = leaf_node, st.node[leaf_node + B_AFTER]
    return 6 if nodes != m.mm[row + T_NODES] or before_leaf != m.mm[row + T_LAST] else 0


BPLUS_TREE = VmaIndex(
    name="bplus_tree",
    summary="a B+ tree: VMAs in linked leaves of 14, the largest gap below each child, nodes locked hand over hand",
    models="nothing in Linux: Comer 1979",
    left_out="joins of nodes that are not empty",
    level="L0",
    new_state=new_state,
    init_mm=init_mm,
    destroy_mm=destroy_mm,
    find=find,
    find_prev=find_prev,
    insert=insert,
    erase=erase,
    resize=resize,
    find_gap=find_gap,
    stat=stat,
    check=check,
)
