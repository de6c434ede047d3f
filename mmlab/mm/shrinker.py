"""Shrinkers: caches of kernel objects give some back under memory pressure, in proportion to their size and to the priority.

Models: mm/shrinker.c shrink_slab(), do_shrink_slab(); mm/vmscan.c drop_slab(); mm/huge_memory.c deferred_split_scan(). Left out: one count a node
and cgroup (but for shadows, zswap and folios to split all objects are the root's, on node 0); that huge pages which are mapped whole are split when more of their pages than max_ptes_none
are zeroes (by default they never are); shrinkers of other subsystems (the huge zero page, other file systems).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import PG_PARTIALLY_MAPPED, folio_unqueue_deferred_split, requeue_deferred_split, split_queue
from mmlab.kernels.services import split_folio, zswap_shrinker_scan
from mmlab.mm.dcache import ext4_es_scan, pseudo_cache_scan, super_cache_count, super_cache_scan
from mmlab.mm.kfree_rcu import kfree_rcu_count, kfree_rcu_scan
from mmlab.mm.workingset import count_shadow_nodes, scan_shadow_nodes
from mmlab.mm.xarray import shadow_list
from mmlab.mm.zswap import zswap_shrinker_count
from mmlab.model.page import page_test
from mmlab.model.rows import (
    MC_ZSWAP_DEFERRED, MEMCG_STRIDE, SC_NR_MEMCGS, SC_SHRINK_MEMCG, SC_VFS_CACHE_PRESSURE, SHR_DEFERRED, SHR_EXTENTS, SHR_FIRST,
    SHR_KFREE_RCU, SHR_NR, SHR_PROC, SHR_SHADOWS, SHR_SPLIT, SHR_STRIDE, SHR_SUPER, SHR_SYSFS, SHR_ZSWAP, ZSW_SHRINKER,
)
from mmlab.model.vmstat import V_DROP_SLAB, V_SLABS_SCANNED

SHRINK_BATCH = 128
DEFAULT_SEEKS = 2
SUPER_BATCH = 1024  # of a file system's names and inodes
NR_KINDS = 7  # SHR_SUPER, SHR_EXTENTS, SHR_SHADOWS, SHR_SPLIT, SHR_PROC, SHR_SYSFS, SHR_KFREE_RCU; shadows, zswap and folios to split have a turn a cgroup
SHRINK_STOP = -1


@kernel
def deferred_split_scan(m, memcg, nr_to_scan):
    """The shrinker looks at a cgroup's folios that wait, oldest first: those that are mapped in part are split, the others are no longer looked at.

    Folios split, or -1: none, and nothing waits any more.
    """
    queue = split_queue(memcg)
    split = 0
    for _ in range(min(nr_to_scan, m.memcg[queue + SHR_NR])):
        head = m.memcg[queue + SHR_FIRST] - 1
        if page_test(m, head + 1, PG_PARTIALLY_MAPPED) == 0:
            folio_unqueue_deferred_split(m, head)
        elif split_folio(m, head):
            split += 1
        else:
            requeue_deferred_split(m, head)
    return -1 if split == 0 and m.memcg[queue + SHR_NR] == 0 else split


@leaf
def is_pseudo(which):
    """Nonzero for the shrinkers of file systems that hold nothing but views of the kernel."""
    return which == SHR_PROC or which == SHR_SYSFS


@leaf
def count_objects(m, which):
    """Objects that a shrinker could free."""
    if which == SHR_SUPER:
        return super_cache_count(m) * m.sc[SC_VFS_CACHE_PRESSURE] // 100
    if is_pseudo(which):
        return m.shrinker[which * SHR_STRIDE + SHR_NR] * m.sc[SC_VFS_CACHE_PRESSURE] // 100
    if which == SHR_ZSWAP:
        return zswap_shrinker_count(m, m.sc[SC_SHRINK_MEMCG])
    if which == SHR_KFREE_RCU:
        return kfree_rcu_count(m)
    if which == SHR_SPLIT:
        return m.memcg[split_queue(m.sc[SC_SHRINK_MEMCG]) + SHR_NR]
    if which == SHR_EXTENTS:
        return m.shrinker[which * SHR_STRIDE + SHR_NR]
    return count_shadow_nodes(m, m.sc[SC_SHRINK_MEMCG])


@leaf
def scan_objects(m, which, nr_to_scan):
    """Let a shrinker look at so many. Returns objects freed, or SHRINK_STOP."""
    if which == SHR_SUPER:
        return super_cache_scan(m, nr_to_scan)
    if is_pseudo(which):
        return pseudo_cache_scan(m, which, nr_to_scan)
    if which == SHR_ZSWAP:
        return zswap_shrinker_scan(m, m.sc[SC_SHRINK_MEMCG], nr_to_scan)
    if which == SHR_KFREE_RCU:
        return kfree_rcu_scan(m, nr_to_scan)
    if which == SHR_EXTENTS:
        return ext4_es_scan(m, nr_to_scan)
    if which == SHR_SPLIT:
        return deferred_split_scan(m, m.sc[SC_SHRINK_MEMCG], nr_to_scan)
    return scan_shadow_nodes(m, m.sc[SC_SHRINK_MEMCG], nr_to_scan)


@kernel
def do_shrink_slab(m, which, priority):
    """One shrinker at a priority: what earlier runs left over comes on top, and what is too little for a batch is left over. Objects freed."""
    freeable = count_objects(m, which)
    if freeable == 0:
        return 0
    row = which * SHR_STRIDE
    deferred = m.shrinker[row + SHR_DEFERRED]
    # an object of the page cache's index, or of /proc, costs nothing to make again
    delta = freeable // 2 if which == SHR_SHADOWS or is_pseudo(which) else (freeable >> priority) * 4 // DEFAULT_SEEKS
    total = min((deferred >> priority) + delta, 2 * freeable)
    batch = SUPER_BATCH if which == SHR_SUPER or is_pseudo(which) else SHRINK_BATCH
    freed = 0
    scanned = 0
    while total >= batch or total >= freeable:
        nr_to_scan = min(batch, total)
        got = scan_objects(m, which, nr_to_scan)
        if got == SHRINK_STOP:
            break
        freed += got
        m.vmstat[V_SLABS_SCANNED] += nr_to_scan
        total -= nr_to_scan
        scanned += nr_to_scan
    m.shrinker[row + SHR_DEFERRED] = min(max(0, deferred + delta - scanned), 2 * freeable)
    return freed


@kernel
def do_shrink_all(m, priority):
    """Service shrink_slab: all shrinkers once that keep one count for all cgroups. Returns objects freed."""
    freed = 0
    for which in range(NR_KINDS):
        if which != SHR_SPLIT and which != SHR_SHADOWS:
            freed += do_shrink_slab(m, which, priority)
    return freed


@leaf
def _shrink_of_memcg(m, which, memcg, deferred, priority):
    """One shrinker's turn at a cgroup, which keeps at `deferred` in m.memcg what is left over."""
    m.sc[SC_SHRINK_MEMCG] = memcg
    m.shrinker[which * SHR_STRIDE + SHR_DEFERRED] = m.memcg[deferred]
    freed = do_shrink_slab(m, which, priority)
    m.memcg[deferred] = m.shrinker[which * SHR_STRIDE + SHR_DEFERRED]
    return freed


@kernel
def shrink_slab_memcg(m, memcg, priority):
    """Service: the shrinkers that keep one count for each cgroup, once at this one. Returns what they freed: nodes, folios split and entries of
    zswap written back."""
    was = m.sc[SC_SHRINK_MEMCG]
    freed = _shrink_of_memcg(m, SHR_SHADOWS, memcg, shadow_list(memcg) + SHR_DEFERRED, priority)
    freed += _shrink_of_memcg(m, SHR_SPLIT, memcg, split_queue(memcg) + SHR_DEFERRED, priority)
    if m.zswap[ZSW_SHRINKER]:
        freed += _shrink_of_memcg(m, SHR_ZSWAP, memcg, memcg * MEMCG_STRIDE + MC_ZSWAP_DEFERRED, priority)
    m.sc[SC_SHRINK_MEMCG] = was
    return freed


@kernel
def shrink_everything(m):
    """All shrinkers for all cgroups with all pressure. Returns objects freed."""
    freed = do_shrink_all(m, 0)
    for memcg in range(max(1, m.sc[SC_NR_MEMCGS])):
        freed += shrink_slab_memcg(m, memcg, 0)
    return freed


@kernel
def drop_slab(m):
    """vm.drop_caches = 2: again and again with all pressure, until a round gives little; each round has to give twice as much as the one before."""
    m.vmstat[V_DROP_SLAB] += 1
    shift = 0
    while shrink_everything(m) >> shift > 1:
        shift += 1
    return shift
