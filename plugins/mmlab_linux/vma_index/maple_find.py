"""Look-ups: the VMA at or above an address, and the one below.

Models: mm/mmap.c find_vma(), find_vma_prev(); lib/maple_tree.c mt_find(), mas_find(), mas_prev(), which keep their place in the tree.
"""

from mmlab.kernels.jit import kernel
from mmlab_linux.vma_index.maple_node import LEAF_SLOTS, LIMIT, N_SLOT, T_HEIGHT, descend, tree_row


@kernel
def find(m, st, mm, addr):
    """The lowest VMA with vm_end > addr, or -1."""
    row = tree_row(mm)
    if m.mm[row + T_HEIGHT] == 0:
        return -1
    while addr < LIMIT:
        level = descend(m, st, row, addr)
        node, at = st.path_node[level], st.path_slot[level]
        vma = st.node[node + N_SLOT + at]
        if vma < 0 and at + 1 < LEAF_SLOTS:
            vma = st.node[node + N_SLOT + at + 1]  # a gap is followed by a VMA, except at the end of the leaf
        if vma >= 0:
            return vma
        addr = st.node[node + at]
    return -1


@kernel
def find_prev(m, st, mm, addr):
    """The highest VMA with vm_start < addr, or -1."""
    row = tree_row(mm)
    if m.mm[row + T_HEIGHT] == 0:
        return -1
    while addr > 0:
        level = descend(m, st, row, addr - 1)
        node, at = st.path_node[level], st.path_slot[level]
        if st.node[node + N_SLOT + at] >= 0:
            return st.node[node + N_SLOT + at]
        if at > 0:
            return st.node[node + N_SLOT + at - 1]
        addr = st.path_start[level]
    return -1
