"""Does a maple tree keep its rules?

Models: lib/maple_tree.c mt_validate(). Left out: parent pointers. Cost: O(slots * height).
"""

from mmlab.kernels.jit import kernel
from mmlab.model.rows import VMA_END, VMA_START, VMA_STRIDE
from mmlab_linux.vma_index.maple_node import (
    INNER_SLOTS, LEAF_SLOTS, LIMIT, N_COUNT, N_GAP, N_SLOT, T_HEIGHT, T_NODES, T_ROOT, max_gap, min_slots, slot_of, slot_start, slots_of,
    tree_row,
)

(
    BAD_EMPTY, BAD_COUNT, BAD_PIVOTS, BAD_PADDING, BAD_END, BAD_CHILD, BAD_GAP, BAD_VMA, BAD_NEIGHBOURS, BAD_NODES,
) = range(1, 11)


@kernel
def _check_node(m, st, node, start, end, is_leaf, is_root):
    """One node that covers [start, end)."""
    count = st.node[node + N_COUNT]
    if count > slots_of(is_leaf) or count < (2 if is_root else min_slots(is_leaf)):
        return BAD_COUNT
    below = start
    for k in range(count):
        pivot = st.node[node + k]
        slot = st.node[node + N_SLOT + k]
        if pivot <= below:
            return BAD_PIVOTS
        if is_leaf and slot >= 0 and (m.vma[slot * VMA_STRIDE + VMA_START] != below or m.vma[slot * VMA_STRIDE + VMA_END] != pivot):
            return BAD_VMA
        if not is_leaf and slot < 0:
            return BAD_CHILD
        below = pivot
    if below != end:
        return BAD_END
    for k in range(count, LEAF_SLOTS):
        if st.node[node + k] != LIMIT or st.node[node + N_SLOT + k] != -1:
            return BAD_PADDING
        if not is_leaf and k < INNER_SLOTS and st.node[node + N_GAP + k] != 0:
            return BAD_PADDING
    return 0


@kernel
def _check_neighbours(st, node, below_is_gap):
    """0 or 1: whether the leaf ends in a gap; -1: two gaps touch."""
    for k in range(st.node[node + N_COUNT]):
        is_gap = 1 if st.node[node + N_SLOT + k] < 0 else 0
        if is_gap and below_is_gap:
            return -1
        below_is_gap = is_gap
    return below_is_gap


@kernel
def check(m, st, mm):
    """Visit leaf by leaf, checking each node on the way when it is entered at its start. 0, or the number of the broken rule (BAD_*)."""
    row = tree_row(mm)
    root = m.mm[row + T_ROOT]
    height = m.mm[row + T_HEIGHT]
    if root < 0:
        return BAD_EMPTY if height != 0 or m.mm[row + T_NODES] != 0 else 0
    addr = 0
    nodes = 0
    is_gap = 0
    while addr < LIMIT:
        node = root
        start = 0
        end = LIMIT
        gap = -1
        for level in range(height):
            is_leaf = level == height - 1
            if start == addr:
                nodes += 1
                code = _check_node(m, st, node, start, end, is_leaf, level == 0)
                if code != 0:
                    return code
            if gap >= 0 and gap != max_gap(st, node, start, is_leaf):
                return BAD_GAP
            at = slot_of(st, node, addr)
            if not is_leaf:
                gap = st.node[node + N_GAP + at]
                start = slot_start(st, node, at, start)
                end = st.node[node + at]
                node = st.node[node + N_SLOT + at]
        is_gap = _check_neighbours(st, node, is_gap)
        if is_gap < 0:
            return BAD_NEIGHBOURS
        addr = end
    return BAD_NODES if nodes != m.mm[row + T_NODES] else 0
