"""Blocks of a disk that a CPU looked up last: it holds on to them, so that they cannot be reclaimed.

m.bh_lru: BH_LRU_SIZE entries a CPU, the latest first; page + 1, or 0. Models: fs/buffer.c bh_lru_install(), lookup_bh_lru(), buffer_busy(),
invalidate_bh_lrus(). Left out: several blocks in a page have one entry.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.rows import BH_LRU_SIZE, SC_CPU


@leaf
def bh_lru_install(m, pfn):
    """The running CPU looks a block up: it becomes the first it holds, and if it is new the last one is let go."""
    first = m.sc[SC_CPU] * BH_LRU_SIZE
    at = first
    while at < first + BH_LRU_SIZE - 1 and m.bh_lru[at] != pfn + 1:
        at += 1
    while at > first:
        m.bh_lru[at] = m.bh_lru[at - 1]
        at -= 1
    m.bh_lru[first] = pfn + 1


@leaf
def bh_lru_holds(m, pfn):
    """1 if some CPU holds the block."""
    for at in range(len(m.bh_lru)):
        if m.bh_lru[at] == pfn + 1:
            return 1
    return 0


@kernel
def invalidate_bh_lrus(m):
    """All CPUs let go of their blocks."""
    for at in range(len(m.bh_lru)):
        m.bh_lru[at] = 0
    return 0
