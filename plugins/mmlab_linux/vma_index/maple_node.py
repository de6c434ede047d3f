"""Nodes of the maple tree: their layout, where they come from, and the way down to an address.

Models: include/linux/maple_tree.h struct maple_range_64, maple_arange_64; lib/maple_tree.c mas_walk(), mas_alloc_nodes(), ma_free_rcu().
Left out: encoded node pointers, parent pointers (a path from the root takes their place), copies for RCU readers (nodes change in place).

A node is NODE_WORDS words of st.node and is named by the first of them. Slot i covers the addresses from the slot below's pivot up to, not
including, its own pivot. A leaf's slot holds a VMA, or -1 for a gap; an inner node's slot holds a child, and beside it that child's largest
gap. Unused slots have pivot LIMIT, -1 and gap 0, so that a search needs no count.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.prefetch import prefetch
from mmlab.kernels.services import kmem_cache_alloc, kmem_cache_free
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_KERNEL
from mmlab.model.rows import CACHE_MAPLE_NODE, MM_INDEX, MM_STRIDE

# words of a node: 16 pivots, 16 slots (10 used in an inner node), 10 gaps (inner nodes only), then these
NODE_WORDS = 48
N_SLOT, N_GAP, N_COUNT, N_OBJ, N_NEXT = 16, 32, 42, 43, 44
NODE_BYTES = 256  # what the kernel's node takes

LEAF_SLOTS, INNER_SLOTS = 16, 10
LEAF_MIN, INNER_MIN = 6, 4
#: end of the last range of a tree
LIMIT = (1 << 63) - 1
# node & NODE_MASK is the node, but tells the compiler that no index is negative: loops over slots become vector instructions
NODE_MASK = (1 << 48) - 1

# words of m.mm from MM_INDEX on: root node (-1: empty), levels, nodes, nodes touched so far
T_ROOT, T_HEIGHT, T_NODES, T_TOUCHED, T_STORES = range(5)
# words of st.way, the last way down: the tree's row (-1: none), bounds of the leaf
W_ROW, W_START, W_END = range(3)


@leaf
def tree_row(mm):
    """First of the tree's words in m.mm."""
    return mm * MM_STRIDE + MM_INDEX


@leaf
def slots_of(is_leaf):
    """Most slots a node can hold."""
    return LEAF_SLOTS if is_leaf else INNER_SLOTS


@leaf
def min_slots(is_leaf):
    """Fewest slots a node other than the root holds: mt_min_slots."""
    return LEAF_MIN if is_leaf else INNER_MIN


@leaf
def slot_of(st, node, addr):
    """The slot that covers addr, which lies below the node's end: the number of pivots not above it."""
    base = node & NODE_MASK
    prefetch(st.node, base + N_SLOT)  # what is read next: the pivots and they come from memory together
    prefetch(st.node, base + N_SLOT + LEAF_SLOTS // 2)
    at = 0
    for k in range(LEAF_SLOTS):
        if st.node[base + k] <= addr:
            at += 1
    return at


@leaf
def slot_start(st, node, at, node_start):
    """Where slot `at` begins."""
    return st.node[node + at - 1] if at > 0 else node_start


@leaf
def max_gap(st, node, node_start, is_leaf):
    """The largest gap in or below the node."""
    base = node & NODE_MASK
    if not is_leaf:
        best = 0
        for k in range(INNER_SLOTS):
            best = max(best, st.node[base + N_GAP + k])
        return best
    best = st.node[base] - node_start if st.node[base + N_SLOT] < 0 else 0
    for k in range(1, st.node[base + N_COUNT]):
        gap = st.node[base + k] - st.node[base + k - 1]
        best = max(best, gap if st.node[base + N_SLOT + k] < 0 else 0)
    return best


@leaf
def forget_way(st):
    """Leaves are about to change their bounds or their place in the tree: the next way down begins at the root."""
    st.way[W_ROW] = -1


@kernel
def descend(m, st, row, addr):
    """Find the leaf that covers addr: from the root, unless the last way down led there. The leaf's level is the answer.

    Leaves node, slot and start of each level in st.path_*.
    """
    height = m.mm[row + T_HEIGHT]
    m.mm[row + T_TOUCHED] += height
    level = height - 1
    if st.way[W_ROW] != row or addr < st.way[W_START] or addr >= st.way[W_END]:
        node = m.mm[row + T_ROOT]
        start = 0
        end = LIMIT
        for k in range(level):
            at = slot_of(st, node, addr)
            st.path_node[k] = node
            st.path_slot[k] = at
            st.path_start[k] = start
            start = slot_start(st, node, at, start)
            end = st.node[node + at]
            node = st.node[node + N_SLOT + at]
        prefetch(st.node, node + N_COUNT)
        st.path_node[level] = node
        st.path_start[level] = start
        st.way[W_ROW] = row
        st.way[W_START] = start
        st.way[W_END] = end
    st.path_slot[level] = slot_of(st, st.path_node[level], addr)
    return level


@kernel
def update_gaps(m, st, row, level):
    """The node at this level of the path has changed: set the gaps above it, up to where nothing changes."""
    is_leaf = level == m.mm[row + T_HEIGHT] - 1
    while level > 0:
        gap = max_gap(st, st.path_node[level], st.path_start[level], is_leaf)
        word = st.path_node[level - 1] + N_GAP + st.path_slot[level - 1]
        if st.node[word] == gap:
            return 0
        st.node[word] = gap
        is_leaf = False
        level -= 1
    return 0


@kernel
def reserve_nodes(m, st, wanted):
    """Have that many nodes in hand before anything changes. 0, or -ENOMEM; reclaim may run, so the path must be walked again."""
    while st.nr_spare[0] < wanted:
        obj = kmem_cache_alloc(m, CACHE_MAPLE_NODE, GFP_KERNEL)
        if obj < 0:
            return -ENOMEM
        node = st.free_node[0]
        if node >= 0:
            st.free_node[0] = st.node[node + N_NEXT]
        else:
            node = st.top_node[0]
            if node + NODE_WORDS > len(st.node):
                kmem_cache_free(m, obj)
                return -ENOMEM
            st.top_node[0] = node + NODE_WORDS
        st.node[node + N_OBJ] = obj
        st.node[node + N_NEXT] = st.spare_node[0]
        st.spare_node[0] = node
        st.nr_spare[0] += 1
    return 0


@kernel
def free_node(m, st, node):
    """Give a node's object back."""
    kmem_cache_free(m, st.node[node + N_OBJ])
    st.node[node + N_NEXT] = st.free_node[0]
    st.free_node[0] = node
    return 0


@leaf
def take_node(m, st, row):
    """A reserved node for this tree; its slots are the caller's to fill."""
    node = st.spare_node[0]
    st.spare_node[0] = st.node[node + N_NEXT]
    st.nr_spare[0] -= 1
    m.mm[row + T_NODES] += 1
    return node


@leaf
def drop_node(m, st, row, node):
    """A node leaves its tree."""
    m.mm[row + T_NODES] -= 1
    free_node(m, st, node)


@kernel
def drop_spares(m, st):
    """Free what was reserved and not needed."""
    while st.nr_spare[0] > 0:
        node = st.spare_node[0]
        st.spare_node[0] = st.node[node + N_NEXT]
        st.nr_spare[0] -= 1
        free_node(m, st, node)
    return 0
