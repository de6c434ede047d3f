"""A change of the nodes that a cpuset allows: the pages of its tasks move along.

Models: mm/mempolicy.c migrate_to_node(). Left out: splitting a large folio for which the node has no block of its size (it
stays). What a cpuset allows is a set of zonelists (T_MEMS); which node's pages
go where, and what becomes of policies, says mmlab.procfs.cpusets.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import vma_index_find
from mmlab.kernels.pte import walk_leaf
from mmlab.kernels.services import lru_add_drain_all, migrate_folio
from mmlab.kernels.zones import page_node
from mmlab.mm.migrate import alloc_migration_target, isolate_folio, putback_movable
from mmlab.model.gfp import GFP_RECLAIM, GFP_THISNODE
from mmlab.model.page import folio_nr_pages, page_folio
from mmlab.model.rows import (
    PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, VM_IO, VM_PFNMAP, VMA_END, VMA_FLAGS, VMA_START,
    VMA_STRIDE,
)
from mmlab.model.vmstat import V_PGMIGRATE_FAIL


@kernel
def migrate_to_node(m, mm, source, target):
    """Move every page that the address space maps on node `source` to node `target`, shared ones too. Returns how many moved."""
    lru_add_drain_all(m)
    moved = 0
    vma = vma_index_find(m, mm, 0)
    while vma >= 0:
        row = vma * VMA_STRIDE
        vpn, end = m.vma[row + VMA_START] >> 12, m.vma[row + VMA_END] >> 12
        if m.vma[row + VMA_FLAGS] & (VM_IO | VM_PFNMAP):
            vpn = end
        while vpn < end:
            slot = walk_leaf(m, mm, vpn)
            entry = m.pt[slot] if slot >= 0 else 0
            vpn = vpn + 1 if slot >= 0 and entry & PTE_HUGE == 0 else ((vpn >> 9) + 1) << 9
            if entry & (PTE_PRESENT | PTE_PROTNONE) == 0 or entry & PTE_SPECIAL:
                continue
            folio = page_folio(m, entry >> PTE_SHIFT)
            if page_node(m, folio) != source or isolate_folio(m, folio) == 0:
                continue
            nr = folio_nr_pages(m, folio)
            dst = alloc_migration_target(m, folio, GFP_RECLAIM | GFP_THISNODE, target)
            if dst < 0:
                putback_movable(m, folio)
                m.vmstat[V_PGMIGRATE_FAIL] += nr
                continue
            migrate_folio(m, folio, dst)
            moved += nr
        vma = vma_index_find(m, mm, m.vma[row + VMA_END])
    return moved
