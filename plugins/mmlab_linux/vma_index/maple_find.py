"""Look-ups: the VMA at or above an address, and the one below.

Models: mm/mmap.c find_vma(), find_vma_prev(); lib/maple_tree.c mt_find(), mas_find(), mas_prev().
Left out: iteration that keeps its place in the tree between calls.
"""

from mmlab.kernels.jit import kernel
from mmlab_linux.vma_index.maple_node import LEAF_SLOTS, LIMIT, N_SLOT, T_HEIGHT, T_ROOT, T_TOUCHED, slot_of, tree_row


@kernel
def find(m, st, mm, addr):
    """The lowest VMA with vm_end > addr, or -1."""
    row = tree_row(mm)
    height = m.mm[row + T_HEIGHT]
    if height == 0:
        return -1
    while addr < LIMIT:
        node = m.mm[row + T_ROOT]
        for _ in range(height - 1):
            node = st.node[node + N_SLOT + slot_of(st, node, addr)]
        m.mm[row + T_TOUCHED] += height
        at = slot_of(st, node, addr)
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
    height = m.mm[row + T_HEIGHT]
    if height == 0:
        return -1
    while addr > 0:
        node = m.mm[row + T_ROOT]
        start = 0
        for _ in range(height - 1):
            at = slot_of(st, node, addr - 1)
            if at > 0:
                start = st.node[node + at - 1]
            node = st.node[node + N_SLOT + at]
        m.mm[row + T_TOUCHED] += height
        at = slot_of(st, node, addr - 1)
        if st.node[node + N_SLOT + at] >= 0:
            return st.node[node + N_SLOT + at]
        if at > 0:
            return st.node[node + N_SLOT + at - 1]
        addr = start
    return -1
