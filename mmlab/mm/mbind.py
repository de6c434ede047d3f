"""mbind(): a NUMA policy for address ranges, and moving the pages that are on other nodes than it names.

Models: mm/mempolicy.c do_mbind(), mbind_range(), queue_folios_pte_range(), alloc_migration_target_by_mpol(). Left out: MPOL_MF_STRICT,
MPOL_MF_MOVE_ALL, splitting a large folio for which there is no block of its size (it stays).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import folio_likely_mapped_shared
from mmlab.kernels.ops import vma_index_find
from mmlab.kernels.pte import walk_leaf
from mmlab.kernels.services import lru_add_drain_all, migrate_folio, vma_zonelist
from mmlab.kernels.zones import page_node
from mmlab.mm.mempolicy import policy_nodes
from mmlab.mm.migrate import alloc_migration_target, isolate_folio, putback_movable
from mmlab.mm.mmap import page_align
from mmlab.mm.shared_policy import set_shared_policy, shmem_zonelist
from mmlab.mm.vma import vma_modify
from mmlab.model.const import EFAULT, EINVAL, ENOMEM
from mmlab.model.gfp import GFP_RECLAIM
from mmlab.model.page import PG_HEAD, page_folio, page_index, page_order, page_test
from mmlab.model.rows import (
    COST_SYSCALL, I_FLAGS, IF_SHMEM, INODE_STRIDE, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, SC_NOW_NS, VMA_END,
    VMA_FLAGS, VMA_INODE, VMA_PGOFF, VMA_POLICY, VMA_START, VMA_STRIDE,
)


@leaf
def shared_inode(m, vma):
    """The shared memory object behind a VMA, or -1."""
    inode = m.vma[vma * VMA_STRIDE + VMA_INODE]
    return inode if inode >= 0 and m.inode[inode * INODE_STRIDE + I_FLAGS] & IF_SHMEM else -1


@kernel
def mbind_move(m, mm, vma, first, last):
    """Move the pages in [first, last) of a VMA that lie outside its policy's nodes and that no other task maps. Returns how many moved.

    Outside those of a policy that names none (default, local) lie all pages: each is taken anew, on its own node as well."""
    nodes = policy_nodes(m.vma[vma * VMA_STRIDE + VMA_POLICY])
    shared = shared_inode(m, vma)
    moved = 0
    large = -1  # a large folio's pages are next to one another: it is asked for once
    vpn = first
    while vpn < last:
        at, slot = vpn, walk_leaf(m, mm, vpn)
        entry = m.pt[slot] if slot >= 0 else 0
        vpn = vpn + 1 if slot >= 0 and entry & PTE_HUGE == 0 else ((vpn >> 9) + 1) << 9
        if entry & (PTE_PRESENT | PTE_PROTNONE) == 0 or entry & PTE_SPECIAL:
            continue
        folio = page_folio(m, entry >> PTE_SHIFT)
        if (nodes >> page_node(m, folio)) & 1 or folio == large:
            continue
        order = 0
        if page_test(m, folio, PG_HEAD):
            large = folio
            order = page_order(m, folio)
        if folio_likely_mapped_shared(m, folio) or isolate_folio(m, folio) == 0:
            continue
        if shared >= 0:
            zonelist = shmem_zonelist(m, shared, page_index(m, folio), order)
        else:
            zonelist = vma_zonelist(m, vma, at - ((entry >> PTE_SHIFT) - folio), order)
        dst = alloc_migration_target(m, folio, GFP_RECLAIM, zonelist)
        if dst < 0:
            putback_movable(m, folio)
            continue
        migrate_folio(m, folio, dst)
        moved += 1 << order
    return moved


@kernel
def sys_mbind(m, mm, start, length, policy, move):
    """mbind(2): 0, -EINVAL (unaligned), -EFAULT over a hole (nothing changed; the default policy passes over it, unless nothing else is there),
    -ENOMEM at max_map_count. move: MPOL_MF_MOVE."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    if start & 4095:
        return -EINVAL
    end = start + page_align(length)
    at = start
    found = 0
    while at < end:
        vma = vma_index_find(m, mm, at)
        hole = vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] > at
        if hole and policy:
            return -EFAULT
        if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] >= end:
            break
        found = 1
        at = m.vma[vma * VMA_STRIDE + VMA_END]
    if start < end and found == 0:
        return -EFAULT
    if move:
        lru_add_drain_all(m)
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] >= end:
            break
        at = max(at, m.vma[vma * VMA_STRIDE + VMA_START])
        stop = min(end, m.vma[vma * VMA_STRIDE + VMA_END])
        now = vma_modify(m, vma, at, stop, m.vma[vma * VMA_STRIDE + VMA_FLAGS], policy)
        if now < 0:
            return -ENOMEM
        inode = shared_inode(m, now)
        if inode >= 0:
            index = m.vma[now * VMA_STRIDE + VMA_PGOFF] + ((at - m.vma[now * VMA_STRIDE + VMA_START]) >> 12)
            if set_shared_policy(m, inode, index, index + ((stop - at) >> 12), policy) < 0:
                return -ENOMEM
        if move:
            mbind_move(m, mm, now, at >> 12, stop >> 12)
        at = stop
    return 0
