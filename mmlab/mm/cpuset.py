"""A change of the nodes that a cpuset allows: the pages of its tasks move along.

Models: mm/mempolicy.c migrate_to_node(). Left out: large folios stay. What a cpuset allows is a set of zonelists (T_MEMS); which node's pages
go where, and what becomes of policies, says mmlab.procfs.cpusets.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import reclaimer_drain, vma_index_find
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import alloc_pages, migrate_folio
from mmlab.kernels.zones import page_node
from mmlab.mm.migrate import isolate_movable, putback_movable
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_THISNODE
from mmlab.model.rows import (
    PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, SC_NR_CPUS, VM_IO, VM_PFNMAP, VMA_END, VMA_FLAGS, VMA_START,
    VMA_STRIDE,
)
from mmlab.model.vmstat import V_PGMIGRATE_FAIL


@kernel
def migrate_to_node(m, mm, source, target):
    """Move every page that the address space maps on node `source` to node `target`, shared ones too. Returns how many moved."""
    for cpu in range(m.sc[SC_NR_CPUS]):
        reclaimer_drain(m, cpu)
    moved = 0
    vma = vma_index_find(m, mm, 0)
    while vma >= 0:
        row = vma * VMA_STRIDE
        vpn, end = m.vma[row + VMA_START] >> 12, m.vma[row + VMA_END] >> 12
        if m.vma[row + VMA_FLAGS] & (VM_IO | VM_PFNMAP):
            vpn = end
        while vpn < end:
            pmd = walk_pmd(m, mm, vpn)
            if pmd < 0 or m.pt[pmd] == 0 or m.pt[pmd] & PTE_HUGE:
                vpn = ((vpn >> 9) + 1) << 9
                continue
            entry = m.pt[(m.pt[pmd] >> PTE_SHIFT) * 512 + (vpn & 511)]
            vpn += 1
            if entry & (PTE_PRESENT | PTE_PROTNONE) == 0 or entry & PTE_SPECIAL:
                continue
            pfn = entry >> PTE_SHIFT
            if page_node(m, pfn) != source or isolate_movable(m, pfn) == 0:
                continue
            dst = alloc_pages(m, GFP_HIGHUSER_MOVABLE | GFP_THISNODE, 0, target)
            if dst < 0:
                putback_movable(m, pfn)
                m.vmstat[V_PGMIGRATE_FAIL] += 1
                continue
            migrate_folio(m, pfn, dst)
            moved += 1
        vma = vma_index_find(m, mm, m.vma[row + VMA_END])
    return moved
