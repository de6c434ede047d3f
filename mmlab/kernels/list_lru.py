"""Lists of objects that shrinkers look at, oldest first: of dentries and of inodes, linked through the inodes' rows.

Models: mm/list_lru.c list_lru_add(), list_lru_del(). Cost: O(1).
"""

from mmlab.kernels.jit import leaf
from mmlab.model.rows import INODE_STRIDE, I_LRU, I_LRU_NEXT, I_LRU_PREV, SHR_FIRST, SHR_LAST, SHR_NR, SHR_STRIDE


@leaf
def list_lru_add(m, which, inode):
    """Put an inode (or its dentry), which is on none, at the end of a list (SHR_DENTRIES, SHR_INODES)."""
    row = inode * INODE_STRIDE
    ends = which * SHR_STRIDE
    last = m.shrinker[ends + SHR_LAST]
    m.inode[row + I_LRU] = which
    m.inode[row + I_LRU_NEXT] = 0
    m.inode[row + I_LRU_PREV] = last
    if last:
        m.inode[last * INODE_STRIDE + I_LRU_NEXT] = inode
    else:
        m.shrinker[ends + SHR_FIRST] = inode
    m.shrinker[ends + SHR_LAST] = inode
    m.shrinker[ends + SHR_NR] += 1


@leaf
def list_lru_del(m, inode):
    """Take an inode (or its dentry) off the list that it is on, if any."""
    row = inode * INODE_STRIDE
    ends = m.inode[row + I_LRU] * SHR_STRIDE
    if m.inode[row + I_LRU] == 0:
        return
    following = m.inode[row + I_LRU_NEXT]
    before = m.inode[row + I_LRU_PREV]
    if before:
        m.inode[before * INODE_STRIDE + I_LRU_NEXT] = following
    else:
        m.shrinker[ends + SHR_FIRST] = following
    if following:
        m.inode[following * INODE_STRIDE + I_LRU_PREV] = before
    else:
        m.shrinker[ends + SHR_LAST] = before
    m.inode[row + I_LRU] = 0
    m.shrinker[ends + SHR_NR] -= 1
