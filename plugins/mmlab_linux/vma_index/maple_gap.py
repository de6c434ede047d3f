"""The search for a free address range, from the top.

Models: lib/maple_tree.c mas_empty_area_rev(), mas_rev_awalk(); mm/mmap.c unmapped_area_topdown(), vm_start_gap().
Left out: the bottom-up search, VM_GROWSUP and the page kept free below a shadow stack, alignment (the caller's).
"""

from mmlab.kernels.jit import kernel
from mmlab.model.const import ENOMEM, PAGE_SHIFT
from mmlab.model.rows import SC_STACK_GUARD_GAP, VM_GROWSDOWN, VMA_FLAGS, VMA_START, VMA_STRIDE
from mmlab_linux.vma_index.maple_find import find
from mmlab_linux.vma_index.maple_node import N_COUNT, N_GAP, N_SLOT, T_HEIGHT, T_ROOT, T_TOUCHED, forget_way, slot_of, slot_start, tree_row


@kernel
def empty_area_rev(m, st, row, length, low, high):
    """Top end, at most `high`, of the highest gap that holds `length` bytes in [low, high), or -ENOMEM, by the gap values."""
    if m.mm[row + T_ROOT] < 0:
        return high
    forget_way(st)
    leaf_level = m.mm[row + T_HEIGHT] - 1
    level = 0
    node = m.mm[row + T_ROOT]
    at = slot_of(st, node, high - 1)
    start = 0
    m.mm[row + T_TOUCHED] += 1
    while True:
        # at, start: slot to look at next in this node, and where the node begins
        if level < leaf_level:
            while at >= 0 and st.node[node + N_GAP + at] < length and st.node[node + at] > low:
                at -= 1
        else:
            while at >= 0 and st.node[node + at] > low:
                if st.node[node + N_SLOT + at] < 0:
                    top = min(st.node[node + at], high)
                    if top - max(low, slot_start(st, node, at, start)) >= length:
                        return top
                at -= 1
        if at >= 0 and st.node[node + at] <= low:
            return -ENOMEM
        if at >= 0:
            st.path_node[level] = node
            st.path_slot[level] = at
            st.path_start[level] = start
            start = slot_start(st, node, at, start)
            node = st.node[node + N_SLOT + at]
            at = min(slot_of(st, node, high - 1), st.node[node + N_COUNT] - 1)
            level += 1
            m.mm[row + T_TOUCHED] += 1
        elif level == 0:
            return -ENOMEM
        else:
            level -= 1
            node = st.path_node[level]
            start = st.path_start[level]
            at = st.path_slot[level] - 1


@kernel
def find_gap(m, st, mm, length, low, high):
    """Highest free range. Where the guard of a VM_GROWSDOWN VMA above reaches into it, the search begins again below the guard."""
    row = tree_row(mm)
    low = max(0, low)
    while length > 0 and high - low >= length:
        top = empty_area_rev(m, st, row, length, low, high)
        if top < 0:
            return -ENOMEM
        guard = top
        above = find(m, st, mm, top)
        if above >= 0 and m.vma[above * VMA_STRIDE + VMA_FLAGS] & VM_GROWSDOWN:
            guard = max(0, m.vma[above * VMA_STRIDE + VMA_START] - (m.sc[SC_STACK_GUARD_GAP] << PAGE_SHIFT))
        if guard >= top:
            return top - length
        high = guard
    return -ENOMEM
