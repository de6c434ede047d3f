"""mbind(): a NUMA policy for address ranges, and moving the pages that are on other nodes than it names.

Models: mm/mempolicy.c do_mbind(), mbind_range(), queue_folios_pte_range(), alloc_migration_target_by_mpol(). Left out: MPOL_MF_STRICT,
MPOL_MF_MOVE_ALL, large folios.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_drain, vma_index_find
from mmlab.kernels.pte import walk_pte
from mmlab.kernels.services import alloc_pages, migrate_folio, vma_zonelist
from mmlab.kernels.zones import page_node
from mmlab.mm.mempolicy import policy_nodes
from mmlab.mm.migrate import isolate_movable, putback_movable
from mmlab.mm.mmap import page_align
from mmlab.mm.shared_policy import set_shared_policy, shmem_zonelist
from mmlab.mm.vma import vma_modify
from mmlab.model.const import EFAULT, EINVAL, ENOMEM
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.page import page_index, page_mapcount
from mmlab.model.rows import (
    COST_SYSCALL, I_FLAGS, IF_SHMEM, INODE_STRIDE, PTE_PRESENT, PTE_SHIFT, SC_NOW_NS, SC_NR_CPUS, SC_ZERO_PFN, VMA_END, VMA_FLAGS, VMA_INODE,
    VMA_PGOFF, VMA_POLICY, VMA_START, VMA_STRIDE,
)


@leaf
def shared_inode(m, vma):
    """The shared memory object behind a VMA, or -1."""
    inode = m.vma[vma * VMA_STRIDE + VMA_INODE]
    return inode if inode >= 0 and m.inode[inode * INODE_STRIDE + I_FLAGS] & IF_SHMEM else -1


@kernel
def mbind_move(m, mm, vma, first, last):
    """Move the pages in [first, last) of a VMA that lie outside its policy's nodes and that no other task maps. Returns how many moved."""
    nodes = policy_nodes(m.vma[vma * VMA_STRIDE + VMA_POLICY])
    shared = shared_inode(m, vma)
    moved = 0
    for vpn in range(first, last):
        slot = walk_pte(m, mm, vpn)
        if slot < 0 or m.pt[slot] & PTE_PRESENT == 0 or m.pt[slot] >> PTE_SHIFT == m.sc[SC_ZERO_PFN]:
            continue
        pfn = m.pt[slot] >> PTE_SHIFT
        if (nodes >> page_node(m, pfn)) & 1 or page_mapcount(m, pfn) != 1 or isolate_movable(m, pfn) == 0:
            continue
        if shared >= 0:
            zonelist = shmem_zonelist(m, shared, page_index(m, pfn), 0)
        else:
            zonelist = vma_zonelist(m, vma, vpn, 0)
        dst = alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0, zonelist)
        if dst < 0:
            putback_movable(m, pfn)
            continue
        migrate_folio(m, pfn, dst)
        moved += 1
    return moved


@kernel
def sys_mbind(m, mm, start, length, policy, move):
    """mbind(2): 0, -EINVAL (unaligned), -EFAULT over a hole (nothing changed), -ENOMEM at max_map_count. move: MPOL_MF_MOVE."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    if start & 4095:
        return -EINVAL
    end = start + page_align(length)
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] > at:
            return -EFAULT
        at = m.vma[vma * VMA_STRIDE + VMA_END]
    if move:
        for cpu in range(m.sc[SC_NR_CPUS]):
            reclaimer_drain(m, cpu)
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        stop = min(end, m.vma[vma * VMA_STRIDE + VMA_END])
        now = vma_modify(m, vma, at, stop, m.vma[vma * VMA_STRIDE + VMA_FLAGS], policy)
        if now < 0:
            return -ENOMEM
        inode = shared_inode(m, now)
        if inode >= 0:
            index = m.vma[now * VMA_STRIDE + VMA_PGOFF] + ((at - m.vma[now * VMA_STRIDE + VMA_START]) >> 12)
            if set_shared_policy(m, inode, index, index + ((stop - at) >> 12), policy) < 0:
                return -ENOMEM
        if move and policy_nodes(policy):
            mbind_move(m, mm, now, at >> 12, stop >> 12)
        at = stop
    return 0
