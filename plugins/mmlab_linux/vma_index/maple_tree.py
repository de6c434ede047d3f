"""The maple tree: a B-tree of address ranges, VMAs and the gaps between them, with the largest gap below each child.

Models: lib/maple_tree.c with MT_FLAGS_ALLOC_RANGE, as mm_struct.mm_mt uses it: leaves of 16 ranges (maple_leaf_64), inner nodes of 10
children (maple_arange_64), at least 6 and 4 in them; 256 bytes a node, an object of the maple_node cache each.
Left out: RCU (nodes change in place and are freed at once), parent pointers, other node types, copying a tree node by node at fork.
Cost: find, insert, erase O(log VMAs); find_gap O(log VMAs) but for gaps that only limits or a stack's guard make too small.

An address space without VMAs has no node; with the first VMA comes a root leaf, which holds the gaps below and above as well. A node is
allocated only when a split needs it, before anything is changed. Files: maple_node (layout, memory, the way down), maple_balance (splits
and joins), maple_store (insert, erase, resize), maple_find, maple_gap, maple_check.
"""

import numpy as np

from mmlab.kernels.jit import kernel
from mmlab.model.const import VMA_STAT_BYTES, VMA_STAT_HEIGHT, VMA_STAT_NODES, VMA_STAT_TOUCHED, VMA_STAT_WRITE_LOCKS
from mmlab.model.layout import reserve
from mmlab.model.rows import VMA_STRIDE
from mmlab.policies import VmaIndex
from mmlab_linux.vma_index.maple_check import check
from mmlab_linux.vma_index.maple_find import find, find_prev
from mmlab_linux.vma_index.maple_gap import find_gap
from mmlab_linux.vma_index.maple_node import (
    N_COUNT, N_SLOT, NODE_BYTES, NODE_WORDS, T_HEIGHT, T_NODES, T_ROOT, T_STORES, T_TOUCHED, drop_node, forget_way,
    tree_row,
)
from mmlab_linux.vma_index.maple_store import erase, insert, resize

MAX_HEIGHT = 32
BUFFER_SLOTS = 48


def new_state(params, machine):
    """node: the pool of nodes (a tree never has more nodes than VMAs), free ones linked; top_node: words ever used; spare_node, nr_spare:
    nodes reserved for the store under way; path_*: the last way down to a leaf, by level;
    way: whose it was and the leaf's bounds; buf_*: slots on their way between nodes."""
    nr_nodes = len(machine.vma) // VMA_STRIDE + MAX_HEIGHT
    state = {"node": reserve(nr_nodes * NODE_WORDS, "int64", huge=True), "free_node": np.full(1, -1, "int64"), "top_node": np.zeros(1, "int64")}
    state |= {"spare_node": np.full(1, -1, "int64"), "nr_spare": np.zeros(1, "int64")}
    state["way"] = np.full(3, -1, "int64")
    state |= {name: np.zeros(MAX_HEIGHT, "int64") for name in ("path_node", "path_slot", "path_start")}
    return state | {name: np.zeros(BUFFER_SLOTS, "int64") for name in ("buf_pivot", "buf_slot", "buf_gap")}


@kernel
def init_mm(m, st, mm):
    """An empty tree, which takes no memory."""
    row = tree_row(mm)
    m.mm[row + T_ROOT] = -1
    m.mm[row + T_HEIGHT] = 0
    m.mm[row + T_NODES] = 0
    m.mm[row + T_TOUCHED] = 0
    m.mm[row + T_STORES] = 0
    return 0


@kernel
def destroy_mm(m, st, mm):
    """Free all nodes, children before their parent."""
    row = tree_row(mm)
    forget_way(st)
    level = 0
    st.path_node[0] = m.mm[row + T_ROOT]
    st.path_slot[0] = 0
    while level >= 0 and m.mm[row + T_ROOT] >= 0:
        node = st.path_node[level]
        if level + 1 < m.mm[row + T_HEIGHT] and st.path_slot[level] < st.node[node + N_COUNT]:
            st.path_node[level + 1] = st.node[node + N_SLOT + st.path_slot[level]]
            st.path_slot[level] += 1
            level += 1
            st.path_slot[level] = 0
        else:
            drop_node(m, st, row, node)
            level -= 1
    m.mm[row + T_ROOT] = -1
    m.mm[row + T_HEIGHT] = 0
    return 0


@kernel
def stat(m, st, mm, what):
    """Nodes, levels, bytes of nodes, nodes touched by all operations so far; a store locks the tree, look-ups need no lock (RCU)."""
    row = tree_row(mm)
    if what == VMA_STAT_NODES:
        return m.mm[row + T_NODES]
    if what == VMA_STAT_HEIGHT:
        return m.mm[row + T_HEIGHT]
    if what == VMA_STAT_BYTES:
        return m.mm[row + T_NODES] * NODE_BYTES
    if what == VMA_STAT_WRITE_LOCKS:
        return m.mm[row + T_STORES]
    return m.mm[row + T_TOUCHED] if what == VMA_STAT_TOUCHED else 0


MAPLE_TREE = VmaIndex(
    name="maple_tree",
    summary="Linux's B-tree of ranges with gap values: 16 ranges a leaf, 10 children a node",
    models="lib/maple_tree.c, mm/mmap.c unmapped_area_topdown()",
    left_out="RCU copies, parent pointers, mtree_dup()",
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
