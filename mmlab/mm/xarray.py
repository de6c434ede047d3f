"""The page cache's index of a file: a radix tree of 64-slot nodes, a page or a shadow in each slot.

m.xa holds the slots of node n at n * 64; an entry is 0, pfn << 2 | 1, value << 2 | 2 (the shadow of a page that left; in a shmem inode a
swap slot) or, inside the tree, node << 2 | 3. I_ROOT is such an entry too: a file with nothing but page 0 needs no node. Node 0 is unused.
Models: lib/xarray.c xas_store(), xas_expand(), xas_delete_node(), xas_shrink(), xas_find(); mm/workingset.c workingset_update_node().
Left out: entries of several pages, marks, RCU. Cost: O(log64 index).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.mm.objcg import alloc_object, free_object, object_memcg, object_node
from mmlab.model.const import ENOMEM
from mmlab.model.rows import (
    CACHE_RADIX_TREE_NODE, INODE_STRIDE, I_HEIGHT, I_NRPAGES, I_NRSHADOWS, I_ROOT, MC_SHADOW_NODES, MEMCG_STRIDE, SC_XA_FREE, SC_XA_TOP, SHR_FIRST, SHR_LAST, SHR_NR,
    XA_STRIDE, XN_COUNT, XN_INODE, XN_LRU_NEXT, XN_LRU_PREV, XN_NEXT_FREE, XN_NR_VALUES, XN_OBJ, XN_PARENT,
    XN_SHIFT, XN_SLOT, XN_STRIDE,
)
from mmlab.model.vmstat import V_WORKINGSET_NODES, mod_node_state

XA_PAGE, XA_VALUE, XA_NODE = 1, 2, 3  # kind of an entry, its two lowest bits
XA_CHUNK_SHIFT = 6


@leaf
def entry_is(entry, kind):
    """1 if the entry is of this kind (XA_*)."""
    return 1 if entry & 3 == kind else 0


@leaf
def _height_for(index):
    """Levels of nodes that a tree needs to hold index; 0 for index 0."""
    height = 0
    while index >> (height * XA_CHUNK_SHIFT):
        height += 1
    return height


@kernel
def xa_load(m, inode, index):
    """The entry at an index, or 0."""
    entry = m.inode[inode * INODE_STRIDE + I_ROOT]
    shift = m.inode[inode * INODE_STRIDE + I_HEIGHT] * XA_CHUNK_SHIFT
    if index >> shift:
        return 0
    while entry & 3 == XA_NODE:
        shift -= XA_CHUNK_SHIFT
        entry = m.xa[(entry >> 2) * XA_STRIDE + ((index >> shift) & 63)]
    return entry


@leaf
def _nodes_needed(m, inode, index):
    """Nodes that a store at index would have to make."""
    height = m.inode[inode * INODE_STRIDE + I_HEIGHT]
    wanted = max(height, _height_for(index))
    entry = m.inode[inode * INODE_STRIDE + I_ROOT]
    if entry == 0:
        return wanted
    if wanted > height:
        return (wanted - height) + (wanted - 1)  # levels above the old root, and a branch of its own below the new one
    shift = height * XA_CHUNK_SHIFT
    while entry & 3 == XA_NODE:
        if shift == XA_CHUNK_SHIFT:
            return 0
        shift -= XA_CHUNK_SHIFT
        entry = m.xa[(entry >> 2) * XA_STRIDE + ((index >> shift) & 63)]
    return shift // XA_CHUNK_SHIFT


@kernel
def _node_alloc(m):
    """An empty node, or -ENOMEM. The allocation may reclaim, and so change any tree."""
    obj = alloc_object(m, CACHE_RADIX_TREE_NODE)
    if obj < 0:
        return -ENOMEM
    node = m.sc[SC_XA_FREE]
    if node:
        m.sc[SC_XA_FREE] = m.xa_node[node * XN_STRIDE + XN_NEXT_FREE]
    else:
        m.sc[SC_XA_TOP] += 1
        node = m.sc[SC_XA_TOP]
    m.xa_node[node * XN_STRIDE + XN_OBJ] = obj
    m.xa_node[node * XN_STRIDE + XN_COUNT] = 0
    m.xa_node[node * XN_STRIDE + XN_NR_VALUES] = 0
    m.xa_node[node * XN_STRIDE + XN_PARENT] = 0
    m.xa_node[node * XN_STRIDE + XN_SLOT] = 0
    for slot in range(node * XA_STRIDE, node * XA_STRIDE + XA_STRIDE):
        m.xa[slot] = 0
    return node


@leaf
def _node_free(m, node):
    free_object(m, CACHE_RADIX_TREE_NODE, m.xa_node[node * XN_STRIDE + XN_OBJ])
    m.xa_node[node * XN_STRIDE + XN_COUNT] = -1
    m.xa_node[node * XN_STRIDE + XN_NEXT_FREE] = m.sc[SC_XA_FREE]
    m.sc[SC_XA_FREE] = node


@leaf
def _only_values(m, node):
    """1 if the node holds shadows (swap entries) and nothing else."""
    count = m.xa_node[node * XN_STRIDE + XN_COUNT]
    return 1 if count > 0 and count == m.xa_node[node * XN_STRIDE + XN_NR_VALUES] else 0


@leaf
def shadow_list(memcg):
    """Where the list of a cgroup's nodes that hold only shadows is in m.memcg."""
    return memcg * MEMCG_STRIDE + MC_SHADOW_NODES


@leaf
def _shadow_list_add(m, node):
    """A node that holds only shadows waits for the shrinker of its cgroup, behind those that wait already."""
    row = shadow_list(object_memcg(m.xa_node[node * XN_STRIDE + XN_OBJ]))
    last = m.memcg[row + SHR_LAST]
    m.xa_node[node * XN_STRIDE + XN_LRU_NEXT] = 0
    m.xa_node[node * XN_STRIDE + XN_LRU_PREV] = last
    if last:
        m.xa_node[last * XN_STRIDE + XN_LRU_NEXT] = node
    else:
        m.memcg[row + SHR_FIRST] = node
    m.memcg[row + SHR_LAST] = node
    m.memcg[row + SHR_NR] += 1


@leaf
def _shadow_list_del(m, node):
    row = shadow_list(object_memcg(m.xa_node[node * XN_STRIDE + XN_OBJ]))
    following = m.xa_node[node * XN_STRIDE + XN_LRU_NEXT]
    before = m.xa_node[node * XN_STRIDE + XN_LRU_PREV]
    if before:
        m.xa_node[before * XN_STRIDE + XN_LRU_NEXT] = following
    else:
        m.memcg[row + SHR_FIRST] = following
    if following:
        m.xa_node[following * XN_STRIDE + XN_LRU_PREV] = before
    else:
        m.memcg[row + SHR_LAST] = before
    m.memcg[row + SHR_NR] -= 1


@leaf
def _set_slot(m, node, slot, entry):
    """Replace one slot, keeping the node's counts and the number of nodes that hold only shadows."""
    was = _only_values(m, node)
    old = m.xa[node * XA_STRIDE + slot]
    m.xa[node * XA_STRIDE + slot] = entry
    m.xa_node[node * XN_STRIDE + XN_COUNT] += (1 if entry else 0) - (1 if old else 0)
    m.xa_node[node * XN_STRIDE + XN_NR_VALUES] += entry_is(entry, XA_VALUE) - entry_is(old, XA_VALUE)
    now = _only_values(m, node)
    if now != was:
        if now:
            _shadow_list_add(m, node)
        else:
            _shadow_list_del(m, node)
        mod_node_state(m, object_node(m, m.xa_node[node * XN_STRIDE + XN_OBJ]), V_WORKINGSET_NODES, now - was)


@leaf
def _take(m, inode, spare, shift, parent, slot):
    """Give a spare node its place in an inode's tree; returns the next spare."""
    m.xa_node[spare * XN_STRIDE + XN_INODE] = inode
    m.xa_node[spare * XN_STRIDE + XN_SHIFT] = shift
    m.xa_node[spare * XN_STRIDE + XN_PARENT] = parent
    m.xa_node[spare * XN_STRIDE + XN_SLOT] = slot
    return m.xa_node[spare * XN_STRIDE + XN_NEXT_FREE]


@leaf
def _insert(m, inode, index, entry, spare):
    """Store with enough spare nodes at hand (a chain by XN_NEXT_FREE); returns the spares left."""
    row = inode * INODE_STRIDE
    wanted = _height_for(index)
    if m.inode[row + I_ROOT] == 0:
        m.inode[row + I_HEIGHT] = wanted
    while m.inode[row + I_HEIGHT] < wanted:
        root = m.inode[row + I_ROOT]
        node = spare
        spare = _take(m, inode, node, m.inode[row + I_HEIGHT] * XA_CHUNK_SHIFT, 0, 0)
        if entry_is(root, XA_NODE):
            m.xa_node[(root >> 2) * XN_STRIDE + XN_PARENT] = node
        _set_slot(m, node, 0, root)
        m.inode[row + I_ROOT] = (node << 2) | XA_NODE
        m.inode[row + I_HEIGHT] += 1
    shift = m.inode[row + I_HEIGHT] * XA_CHUNK_SHIFT
    if shift == 0:
        m.inode[row + I_ROOT] = entry
        return spare
    if m.inode[row + I_ROOT] == 0:
        m.inode[row + I_ROOT] = (spare << 2) | XA_NODE
        spare = _take(m, inode, spare, shift - XA_CHUNK_SHIFT, 0, 0)
    node = m.inode[row + I_ROOT] >> 2
    shift -= XA_CHUNK_SHIFT
    while shift > 0:
        slot = (index >> shift) & 63
        shift -= XA_CHUNK_SHIFT
        if m.xa[node * XA_STRIDE + slot] == 0:
            _set_slot(m, node, slot, (spare << 2) | XA_NODE)
            spare = _take(m, inode, spare, shift, node, slot)
        node = m.xa[node * XA_STRIDE + slot] >> 2
    _set_slot(m, node, index & 63, entry)
    return spare


@kernel
def _erase(m, inode, index):
    """Empty a slot; free the nodes that have nothing left, and lower a tree whose root holds only index 0."""
    row = inode * INODE_STRIDE
    if entry_is(m.inode[row + I_ROOT], XA_NODE) == 0:
        m.inode[row + I_ROOT] = 0
        return 0
    node = m.inode[row + I_ROOT] >> 2
    while m.xa_node[node * XN_STRIDE + XN_SHIFT] > 0:
        node = m.xa[node * XA_STRIDE + ((index >> m.xa_node[node * XN_STRIDE + XN_SHIFT]) & 63)] >> 2
    _set_slot(m, node, index & 63, 0)
    while m.xa_node[node * XN_STRIDE + XN_COUNT] == 0:
        parent = m.xa_node[node * XN_STRIDE + XN_PARENT]
        slot = m.xa_node[node * XN_STRIDE + XN_SLOT]
        _node_free(m, node)
        if parent == 0:
            m.inode[row + I_ROOT] = 0
            m.inode[row + I_HEIGHT] = 0
            return 0
        _set_slot(m, parent, slot, 0)
        node = parent
    if m.xa_node[node * XN_STRIDE + XN_PARENT]:
        return 0
    while m.xa_node[node * XN_STRIDE + XN_COUNT] == 1 and m.xa[node * XA_STRIDE] != 0:
        below = m.xa[node * XA_STRIDE]
        _set_slot(m, node, 0, 0)
        _node_free(m, node)
        m.inode[row + I_ROOT] = below
        m.inode[row + I_HEIGHT] -= 1
        if entry_is(below, XA_NODE) == 0:
            return 0
        node = below >> 2
        m.xa_node[node * XN_STRIDE + XN_PARENT] = 0
    return 0


@kernel
def xa_store(m, inode, index, entry):
    """Put an entry (0: nothing) at an index: 0, or -ENOMEM when a node could not be made (then nothing changed).

    Nodes are allocated before the tree is touched: the allocation may reclaim pages of this very tree.
    """
    old = xa_load(m, inode, index)
    if entry == 0:
        if old:
            _erase(m, inode, index)
    else:
        spare = 0
        nr_spare = 0
        while nr_spare < _nodes_needed(m, inode, index):
            node = _node_alloc(m)
            if node < 0:
                _free_spares(m, spare)
                return -ENOMEM
            m.xa_node[node * XN_STRIDE + XN_NEXT_FREE] = spare
            spare = node
            nr_spare += 1
        old = xa_load(m, inode, index)
        _free_spares(m, _insert(m, inode, index, entry, spare))
    m.inode[inode * INODE_STRIDE + I_NRPAGES] += entry_is(entry, XA_PAGE) - entry_is(old, XA_PAGE)
    m.inode[inode * INODE_STRIDE + I_NRSHADOWS] += entry_is(entry, XA_VALUE) - entry_is(old, XA_VALUE)
    return 0


@kernel
def _free_spares(m, spare):
    while spare:
        following = m.xa_node[spare * XN_STRIDE + XN_NEXT_FREE]
        _node_free(m, spare)
        spare = following
    return 0


@kernel
def xa_next(m, inode, index):
    """The lowest index >= index with an entry (page or value), or -1."""
    root = m.inode[inode * INODE_STRIDE + I_ROOT]
    height = m.inode[inode * INODE_STRIDE + I_HEIGHT]
    if root == 0 or index >> (height * XA_CHUNK_SHIFT):
        return -1
    if height == 0:
        return 0
    node = root >> 2
    shift = (height - 1) * XA_CHUNK_SHIFT
    at = index
    while True:
        entry = m.xa[node * XA_STRIDE + ((at >> shift) & 63)]
        if entry and shift == 0:
            return at
        if entry:
            node = entry >> 2
            shift -= XA_CHUNK_SHIFT
            continue
        at = ((at >> shift) + 1) << shift
        if (at >> shift) & 63 == 0:  # past this node: down again from the root
            if at >> (height * XA_CHUNK_SHIFT):
                return -1
            node = root >> 2
            shift = (height - 1) * XA_CHUNK_SHIFT


@kernel
def xa_check(m, inode):
    """0, or a code > 0: 1 links or shifts, 2 a node's counts, 3 a node without entries, 4 pages or shadows of the inode miscounted."""
    row = inode * INODE_STRIDE
    root = m.inode[row + I_ROOT]
    pages = entry_is(root, XA_PAGE)
    values = entry_is(root, XA_VALUE)
    height = m.inode[row + I_HEIGHT]
    if entry_is(root, XA_NODE):
        node = root >> 2
        slot = 0
        if m.xa_node[node * XN_STRIDE + XN_PARENT] or m.xa_node[node * XN_STRIDE + XN_SHIFT] != (height - 1) * XA_CHUNK_SHIFT:
            return 1
        while node:
            base = node * XN_STRIDE
            shift = m.xa_node[base + XN_SHIFT]
            if slot == 0 and _counts_wrong(m, node):
                return 2 if m.xa_node[base + XN_COUNT] else 3
            if slot == 64:
                slot = m.xa_node[base + XN_SLOT] + 1
                node = m.xa_node[base + XN_PARENT]
                continue
            entry = m.xa[node * XA_STRIDE + slot]
            if entry_is(entry, XA_NODE) != (1 if entry and shift else 0):
                return 1
            if entry_is(entry, XA_NODE):
                below = entry >> 2
                if m.xa_node[below * XN_STRIDE + XN_PARENT] != node or m.xa_node[below * XN_STRIDE + XN_SLOT] != slot:
                    return 1
                if m.xa_node[below * XN_STRIDE + XN_SHIFT] != shift - XA_CHUNK_SHIFT:
                    return 1
                node = below
                slot = 0
                continue
            pages += entry_is(entry, XA_PAGE)
            values += entry_is(entry, XA_VALUE)
            slot += 1
    elif height:
        return 1
    return 0 if pages == m.inode[row + I_NRPAGES] and values == m.inode[row + I_NRSHADOWS] else 4


@leaf
def _counts_wrong(m, node):
    count = 0
    values = 0
    for slot in range(node * XA_STRIDE, node * XA_STRIDE + XA_STRIDE):
        if m.xa[slot]:
            count += 1
        values += entry_is(m.xa[slot], XA_VALUE)
    return 1 if count == 0 or count != m.xa_node[node * XN_STRIDE + XN_COUNT] or values != m.xa_node[node * XN_STRIDE + XN_NR_VALUES] else 0
