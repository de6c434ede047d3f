"""What happens when a node of the maple tree gets too full or too empty.

Models: lib/maple_tree.c mas_split(), mas_push_data(), mab_calc_split(), mab_no_null_split(), mas_root_split(), mas_rebalance().
Left out: the three-way split (two nodes always do here), bulk mode, the rule that no node gets fewer addresses than it has slots.

A node that overflows first hands slots to its left, then to its right sibling, which is then one slot short of full; only when neither has
room is it split in the middle. That is why maps made one below the other leave nodes nearly full: 15 of 16 slots in leaves, 9 of 10 above.
A node below its minimum is joined with its right sibling (the last one with its left) and, if that is too much for one node, halved again.
All this goes through a buffer (st.buf_*) that takes the slots of two nodes.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab_linux.vma_index.maple_node import (
    INNER_SLOTS, LEAF_SLOTS, LIMIT, N_COUNT, N_GAP, N_SLOT, NODE_MASK, T_HEIGHT, T_ROOT, drop_node, forget_way, max_gap, min_slots,
    slot_start, slots_of, take_node, update_gaps,
)


@kernel
def load(st, node, first, last, to):
    """Copy slots [first, last) of a node to position `to` of the buffer."""
    for k in range(first, last):
        at = to + k - first
        st.buf_pivot[at] = st.node[node + k]
        st.buf_slot[at] = st.node[node + N_SLOT + k]
        st.buf_gap[at] = st.node[node + N_GAP + k] if k < INNER_SLOTS else 0
    return 0


@kernel
def write(st, node, first, count):
    """Make the buffer's slots [first, first + count) the whole of a node."""
    for k in range(LEAF_SLOTS):
        used = k < count
        st.node[node + k] = st.buf_pivot[first + k] if used else LIMIT
        st.node[node + N_SLOT + k] = st.buf_slot[first + k] if used else -1
        if k < INNER_SLOTS:
            st.node[node + N_GAP + k] = st.buf_gap[first + k] if used else 0
    st.node[node + N_COUNT] = count
    return 0


@kernel
def move_slots(st, node, first, to, is_leaf):
    """Move slots [first, count) so that the first comes to `to`; sets the count, clears what is left over."""
    base = node & NODE_MASK
    count = st.node[base + N_COUNT]
    shift = to - first
    total = count + shift
    if shift > 0:
        for k in range(total - 1, to - 1, -1):
            st.node[base + k] = st.node[base + k - shift]
            st.node[base + N_SLOT + k] = st.node[base + N_SLOT + k - shift]
            if not is_leaf:
                st.node[base + N_GAP + k] = st.node[base + N_GAP + k - shift]
    else:
        for k in range(to, total):
            st.node[base + k] = st.node[base + k - shift]
            st.node[base + N_SLOT + k] = st.node[base + N_SLOT + k - shift]
            if not is_leaf:
                st.node[base + N_GAP + k] = st.node[base + N_GAP + k - shift]
        for k in range(total, count):
            st.node[base + k] = LIMIT
            st.node[base + N_SLOT + k] = -1
            if not is_leaf:
                st.node[base + N_GAP + k] = 0
    st.node[base + N_COUNT] = total
    return 0


@leaf
def _can_push(total, sibling_count, node_end, is_leaf):
    """Whether a sibling with so many slots can take some of `total`: both must be left with room, or the next store would split again."""
    room = 2 * slots_of(is_leaf) - (1 if is_leaf else 0) - (1 if node_end == LIMIT else 0)
    return total + sibling_count < room


@kernel
def push_side(st, level, total, is_leaf):
    """-1 or 1: the sibling that takes slots of the overfull node at this level of the path (level > 0); 0: it must be split."""
    parent = st.path_node[level - 1]
    at = st.path_slot[level - 1]
    node_end = st.node[parent + at]
    if at > 0 and _can_push(total, st.node[st.node[parent + N_SLOT + at - 1] + N_COUNT], node_end, is_leaf):
        return -1
    if at + 1 < st.node[parent + N_COUNT] and _can_push(total, st.node[st.node[parent + N_SLOT + at + 1] + N_COUNT], node_end, is_leaf):
        return 1
    return 0


@kernel
def nodes_needed(m, st, row, total):
    """Nodes that a store takes which leaves `total` slots in the leaf at the end of the path."""
    level = m.mm[row + T_HEIGHT] - 1
    needed = 0
    is_leaf = True
    while total > slots_of(is_leaf):
        if level == 0:
            return needed + 2
        if push_side(st, level, total, is_leaf) != 0:
            return needed
        needed += 1
        level -= 1
        is_leaf = False
        total = st.node[st.path_node[level] + N_COUNT] + 1
    return needed


@leaf
def _split_point(st, left_count, total, is_leaf):
    """Slots for the left node: as asked, or one more or less so that no leaf but the last ends in a gap."""
    if is_leaf and st.buf_slot[left_count - 1] < 0:
        if left_count < LEAF_SLOTS and total - left_count - 1 >= min_slots(is_leaf):
            return left_count + 1
        return left_count - 1
    return left_count


@kernel
def _write_pair(st, level, at, left, right, left_count, total, is_leaf):
    """Write the buffer to two nodes, children `at` and `at` + 1 of the parent, and set the parent's pivot and gaps."""
    parent = st.path_node[level - 1]
    write(st, left, 0, left_count)
    write(st, right, left_count, total - left_count)
    middle = st.buf_pivot[left_count - 1]
    st.node[parent + at] = middle
    st.node[parent + N_GAP + at] = max_gap(st, left, slot_start(st, parent, at, st.path_start[level - 1]), is_leaf)
    st.node[parent + N_GAP + at + 1] = max_gap(st, right, middle, is_leaf)
    return 0


@leaf
def _raise_root(m, st, row):
    """A new root above the old one; the path grows by a level at the top."""
    root = take_node(m, st, row)
    write(st, root, 0, 0)
    st.node[root + N_SLOT] = m.mm[row + T_ROOT]
    st.node[root + N_COUNT] = 1
    for level in range(m.mm[row + T_HEIGHT], 0, -1):
        st.path_node[level] = st.path_node[level - 1]
        st.path_slot[level] = st.path_slot[level - 1]
        st.path_start[level] = st.path_start[level - 1]
    st.path_node[0] = root
    st.path_slot[0] = 0
    st.path_start[0] = 0
    m.mm[row + T_ROOT] = root
    m.mm[row + T_HEIGHT] += 1


@kernel
def _push(st, level, total, side, is_leaf):
    """Share the buffer's slots of the node at this level with its left (side -1) or right (1) sibling, which gets one less than full."""
    parent = st.path_node[level - 1]
    at = st.path_slot[level - 1]
    node = st.path_node[level]
    sibling = st.node[parent + N_SLOT + at + side]
    count = st.node[sibling + N_COUNT]
    full = slots_of(is_leaf) - 1
    if side > 0:
        load(st, sibling, 0, count, total)
        left_count = _split_point(st, total + count - full, total + count, is_leaf)
        return _write_pair(st, level, at, node, sibling, left_count, total + count, is_leaf)
    for k in range(total - 1, -1, -1):
        st.buf_pivot[k + count] = st.buf_pivot[k]
        st.buf_slot[k + count] = st.buf_slot[k]
        st.buf_gap[k + count] = st.buf_gap[k]
    load(st, sibling, 0, count, 0)
    left_count = _split_point(st, full, total + count, is_leaf)
    return _write_pair(st, level, at - 1, sibling, node, left_count, total + count, is_leaf)


@kernel
def grow(m, st, row, total):
    """The leaf at the end of the path is to hold the buffer's `total` slots, more than it can: push or split, level by level."""
    forget_way(st)
    level = m.mm[row + T_HEIGHT] - 1
    is_leaf = True
    while True:
        if level == 0:
            _raise_root(m, st, row)
            level = 1
        node = st.path_node[level]
        parent = st.path_node[level - 1]
        at = st.path_slot[level - 1]
        side = push_side(st, level, total, is_leaf)
        if side != 0:
            _push(st, level, total, side, is_leaf)
            return update_gaps(m, st, row, level - 1)
        right = take_node(m, st, row)
        left_count = _split_point(st, (total + 1) // 2, total, is_leaf)
        children = st.node[parent + N_COUNT]
        if children < INNER_SLOTS:
            move_slots(st, parent, at, at + 1, False)
            st.node[parent + N_SLOT + at] = node
            st.node[parent + N_SLOT + at + 1] = right
            _write_pair(st, level, at, node, right, left_count, total, is_leaf)
            return update_gaps(m, st, row, level - 1)
        write(st, node, 0, left_count)
        write(st, right, left_count, total - left_count)
        middle = st.buf_pivot[left_count - 1]
        load(st, parent, 0, at + 1, 0)
        load(st, parent, at, children, at + 1)
        st.buf_pivot[at] = middle
        st.buf_gap[at] = max_gap(st, node, slot_start(st, parent, at, st.path_start[level - 1]), is_leaf)
        st.buf_slot[at + 1] = right
        st.buf_gap[at + 1] = max_gap(st, right, middle, is_leaf)
        total = children + 1
        level -= 1
        is_leaf = False


@kernel
def rebalance(m, st, row):
    """The leaf at the end of the path lost slots: join nodes below their minimum with a sibling, then drop a root that holds one slot."""
    forget_way(st)
    level = m.mm[row + T_HEIGHT] - 1
    is_leaf = True
    while level > 0 and st.node[st.path_node[level] + N_COUNT] < min_slots(is_leaf):
        parent = st.path_node[level - 1]
        at = st.path_slot[level - 1]
        if at + 1 == st.node[parent + N_COUNT]:
            at -= 1
        left = st.node[parent + N_SLOT + at]
        right = st.node[parent + N_SLOT + at + 1]
        left_count = st.node[left + N_COUNT]
        total = left_count + st.node[right + N_COUNT]
        load(st, left, 0, left_count, 0)
        load(st, right, 0, total - left_count, left_count)
        level -= 1
        if total > slots_of(is_leaf):
            left_count = _split_point(st, (total + 1) // 2, total, is_leaf)
            _write_pair(st, level + 1, at, left, right, left_count, total, is_leaf)
            break
        write(st, left, 0, total)
        drop_node(m, st, row, right)
        st.node[parent + N_SLOT + at + 1] = left
        move_slots(st, parent, at + 1, at, False)
        st.node[parent + N_GAP + at] = max_gap(st, left, slot_start(st, parent, at, st.path_start[level]), is_leaf)
        is_leaf = False
    update_gaps(m, st, row, level)
    root = m.mm[row + T_ROOT]
    while m.mm[row + T_HEIGHT] > 0 and st.node[root + N_COUNT] == 1:
        m.mm[row + T_HEIGHT] -= 1
        child = st.node[root + N_SLOT]
        drop_node(m, st, row, root)
        root = child  # -1, the one gap of an empty tree, when the leaf goes
        m.mm[row + T_ROOT] = root
        if root < 0:
            break
    return 0
