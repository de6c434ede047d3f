"""Stores: VMAs come, go and change their bounds, and the gaps beside them with them.

Models: lib/maple_tree.c mas_store_prealloc(), mas_wr_extend_null(), mas_wr_node_store(), mas_wr_spanning_store().
Left out: where a gap at the border of two leaves lies. Linux rebuilds both leaves so that it begins the right one; here it stays where it
is, so that a store of a gap never needs memory. Either way no gap is ever cut in two, so that gap values are exact.

A store replaces some neighbouring slots of one leaf (a VMA and the gaps beside it, or a gap) by up to three: gap, VMA, gap.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import ENOMEM
from mmlab.model.rows import VMA_END, VMA_START, VMA_STRIDE
from mmlab_linux.vma_index.maple_balance import grow, load, move_slots, nodes_needed, rebalance, write
from mmlab_linux.vma_index.maple_node import (
    LEAF_MIN, LEAF_SLOTS, LIMIT, N_COUNT, N_SLOT, T_HEIGHT, T_ROOT, T_STORES, descend, drop_spares, forget_way, reserve_nodes,
    slot_of, slot_start, take_node, tree_row, update_gaps,
)


@leaf
def _put(st, node, at, gap_start, vm_start, vm_end, gap_end, vma):
    """Fill the slots from `at` on with gap, VMA, gap, as far as the gaps are not empty."""
    if gap_start < vm_start:
        st.node[node + at] = vm_start
        st.node[node + N_SLOT + at] = -1
        at += 1
    st.node[node + at] = vm_end
    st.node[node + N_SLOT + at] = vma
    if vm_end < gap_end:
        st.node[node + at + 1] = gap_end
        st.node[node + N_SLOT + at + 1] = -1


@leaf
def _put_buffer(st, at, gap_start, vm_start, vm_end, gap_end, vma):
    """The same into the buffer."""
    if gap_start < vm_start:
        st.buf_pivot[at] = vm_start
        st.buf_slot[at] = -1
        at += 1
    st.buf_pivot[at] = vm_end
    st.buf_slot[at] = vma
    if vm_end < gap_end:
        st.buf_pivot[at + 1] = gap_end
        st.buf_slot[at + 1] = -1


@leaf
def _new_slots(gap_start, vm_start, vm_end, gap_end):
    return 1 + (1 if gap_start < vm_start else 0) + (1 if vm_end < gap_end else 0)


@kernel
def store(m, st, row, at, old, gap_start, vm_start, vm_end, gap_end, vma):
    """In the leaf at the end of the path, replace `old` slots from `at` on, which cover [gap_start, gap_end). Nodes for it are reserved."""
    level = m.mm[row + T_HEIGHT] - 1
    node = st.path_node[level]
    count = st.node[node + N_COUNT]
    new = _new_slots(gap_start, vm_start, vm_end, gap_end)
    total = count - old + new
    if total > LEAF_SLOTS:
        load(st, node, 0, at, 0)
        _put_buffer(st, at, gap_start, vm_start, vm_end, gap_end, vma)
        load(st, node, at + old, count, at + new)
        return grow(m, st, row, total)
    if new != old:
        move_slots(st, node, at + old, at + new, True)
    _put(st, node, at, gap_start, vm_start, vm_end, gap_end, vma)
    if total < LEAF_MIN:
        return rebalance(m, st, row)
    return update_gaps(m, st, row, level)


@kernel
def _plant(m, st, row):
    """A root leaf with one gap for an empty tree. 0, or -ENOMEM."""
    if m.mm[row + T_ROOT] < 0:
        if reserve_nodes(m, st, 1) < 0:
            return -ENOMEM
        if m.mm[row + T_ROOT] < 0:
            root = take_node(m, st, row)
            write(st, root, 0, 0)
            st.node[root + N_COUNT] = 1
            forget_way(st)
            m.mm[row + T_ROOT] = root
            m.mm[row + T_HEIGHT] = 1
    return 0


@kernel
def insert(m, st, mm, vma):
    """Store a VMA in the gap that holds it."""
    row = tree_row(mm)
    m.mm[row + T_STORES] += 1
    vm_start = m.vma[vma * VMA_STRIDE + VMA_START]
    vm_end = m.vma[vma * VMA_STRIDE + VMA_END]
    if _plant(m, st, row) < 0:
        return -ENOMEM
    while True:
        level = descend(m, st, row, vm_start)
        node = st.path_node[level]
        at = st.path_slot[level]
        gap_start = slot_start(st, node, at, st.path_start[level])
        gap_end = st.node[node + at]
        needed = nodes_needed(m, st, row, st.node[node + N_COUNT] - 1 + _new_slots(gap_start, vm_start, vm_end, gap_end))
        if needed <= st.nr_spare[0]:
            break
        if reserve_nodes(m, st, needed) < 0:
            drop_spares(m, st)
            return -ENOMEM
    store(m, st, row, at, 1, gap_start, vm_start, vm_end, gap_end, vma)
    return drop_spares(m, st)


@kernel
def _is_gap(m, st, row, addr):
    """1 if no VMA covers addr."""
    node = m.mm[row + T_ROOT]
    height = m.mm[row + T_HEIGHT]
    for _ in range(height):
        node = st.node[node + N_SLOT + slot_of(st, node, addr)]
    return 1 if node < 0 else 0


@kernel
def _set_end(st, level, end):
    """The node at this level of the path ends elsewhere now: set the pivots above it, as far up as it is the last child."""
    forget_way(st)
    while level > 0:
        level -= 1
        parent = st.path_node[level]
        st.node[parent + st.path_slot[level]] = end
        if st.path_slot[level] + 1 < st.node[parent + N_COUNT]:
            return 0
    return 0


@kernel
def _shrink(m, st, row):
    """The leaf at the end of the path lost slots: set gaps, and join it with a sibling if it is too empty."""
    level = m.mm[row + T_HEIGHT] - 1
    if st.node[st.path_node[level] + N_COUNT] < LEAF_MIN:
        return rebalance(m, st, row)
    return update_gaps(m, st, row, level)


@kernel
def _join_gap_above(m, st, row, first, gap_start):
    """Slots from `first` to the end of the leaf go, and the gap at the start of the next leaf begins at gap_start."""
    level = m.mm[row + T_HEIGHT] - 1
    node = st.path_node[level]
    move_slots(st, node, st.node[node + N_COUNT], first, True)
    _set_end(st, level, gap_start)
    update_gaps(m, st, row, level)
    update_gaps(m, st, row, descend(m, st, row, gap_start))
    descend(m, st, row, gap_start - 1)
    return _shrink(m, st, row)


@kernel
def _join_gap_below(m, st, row, nr_slots, gap_start, gap_end):
    """The leaf's first slots, [gap_start, gap_end), go, and the gap at the end of the leaf below ends at gap_end."""
    level = m.mm[row + T_HEIGHT] - 1
    move_slots(st, st.path_node[level], nr_slots, 0, True)
    level = descend(m, st, row, gap_start - 1)
    st.node[st.path_node[level] + st.path_slot[level]] = gap_end
    _set_end(st, level, gap_end)
    update_gaps(m, st, row, level)
    descend(m, st, row, gap_end)
    return _shrink(m, st, row)


@kernel
def erase(m, st, mm, vma):
    """Make the VMA and the gaps beside it one gap."""
    row = tree_row(mm)
    m.mm[row + T_STORES] += 1
    level = descend(m, st, row, m.vma[vma * VMA_STRIDE + VMA_START])
    node = st.path_node[level]
    count = st.node[node + N_COUNT]
    first = st.path_slot[level]
    last = first
    if first > 0 and st.node[node + N_SLOT + first - 1] < 0:
        first -= 1
    if last + 1 < count and st.node[node + N_SLOT + last + 1] < 0:
        last += 1
    gap_start = slot_start(st, node, first, st.path_start[level])
    gap_end = st.node[node + last]
    if first == 0 and gap_start > 0 and _is_gap(m, st, row, gap_start - 1):
        return _join_gap_below(m, st, row, last + 1, gap_start, gap_end)
    if last + 1 == count and gap_end < LIMIT and _is_gap(m, st, row, gap_end):
        return _join_gap_above(m, st, row, first, gap_start)
    return store(m, st, row, first, last + 1 - first, gap_start, gap_start, gap_end, gap_end, -1)


@kernel
def _resize_in_leaf(m, st, row, vma, vm_start, vm_end):
    """Change the VMA and the gaps beside it where all of them lie in one leaf. 1 if done, 0 if they do not, or -ENOMEM."""
    old_start = m.vma[vma * VMA_STRIDE + VMA_START]
    old_end = m.vma[vma * VMA_STRIDE + VMA_END]
    while True:
        level = descend(m, st, row, old_start)
        node = st.path_node[level]
        count = st.node[node + N_COUNT]
        first = st.path_slot[level]
        last = first
        if first > 0 and st.node[node + N_SLOT + first - 1] < 0:
            first -= 1
        if last + 1 < count and st.node[node + N_SLOT + last + 1] < 0:
            last += 1
        gap_start = slot_start(st, node, first, st.path_start[level])
        gap_end = st.node[node + last]
        if vm_start < gap_start or vm_end > gap_end:
            return 0
        if vm_start > gap_start and first == 0 and gap_start == old_start and old_start > 0 and _is_gap(m, st, row, old_start - 1):
            return 0
        if vm_end < gap_end and last + 1 == count and gap_end == old_end and _is_gap(m, st, row, old_end):
            return 0
        old = last + 1 - first
        needed = nodes_needed(m, st, row, count - old + _new_slots(gap_start, vm_start, vm_end, gap_end))
        if needed <= st.nr_spare[0]:
            break
        if reserve_nodes(m, st, needed) < 0:
            return -ENOMEM
    store(m, st, row, first, old, gap_start, vm_start, vm_end, gap_end, vma)
    return 1


@kernel
def resize(m, st, mm, vma, vm_start, vm_end):
    """Write the new bounds. A VMA whose neighbouring gap lies in another leaf, or that jumps over others, is erased and inserted."""
    row = tree_row(mm)
    done = _resize_in_leaf(m, st, row, vma, vm_start, vm_end)
    m.mm[row + T_STORES] += max(done, 0)
    if done == 0:
        while done == 0 and st.nr_spare[0] < m.mm[row + T_HEIGHT] + 2:  # so that the insertion cannot fail
            done = reserve_nodes(m, st, m.mm[row + T_HEIGHT] + 2)
        if done == 0:
            erase(m, st, mm, vma)
    if done >= 0:
        m.vma[vma * VMA_STRIDE + VMA_START] = vm_start
        m.vma[vma * VMA_STRIDE + VMA_END] = vm_end
        if done == 0:
            insert(m, st, mm, vma)
    drop_spares(m, st)
    return min(done, 0)
