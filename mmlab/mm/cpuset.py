"""A change of the nodes that a cpuset allows: the pages of its tasks move along.

Models: kernel/cgroup/cpuset.c cpuset_migrate_mm(); mm/mempolicy.c do_migrate_pages(), migrate_to_node(). Left out: large folios stay.
What a cpuset allows is a set of zonelists (T_MEMS), and its policies are rebound when it changes: mmlab.procfs.cpusets.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_drain, vma_index_find
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import alloc_pages
from mmlab.kernels.zones import page_node
from mmlab.mm.migrate import isolate_movable, migrate_folio, putback_movable
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_THISNODE
from mmlab.model.rows import (
    PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, SC_NR_CPUS, SC_NR_NODES, VM_IO, VM_PFNMAP, VMA_END, VMA_FLAGS, VMA_START,
    VMA_STRIDE,
)
from mmlab.model.vmstat import V_PGMIGRATE_FAIL


@leaf
def _nr_nodes(nodes):
    count = 0
    for node in range(32):
        count += (nodes >> node) & 1
    return count


@leaf
def node_remap(node, old, new):
    """The node of `new` in the place that `node` has in `old`, round and round; `node` itself if `old` lacks it."""
    if (old >> node) & 1 == 0:
        return node
    ordinal = _nr_nodes(old & ((1 << node) - 1)) % _nr_nodes(new)
    for target in range(32):
        if (new >> target) & 1:
            if ordinal == 0:
                return target
            ordinal -= 1
    return node


@kernel
def migrate_to_node(m, mm, source, target):
    """Move every page that the address space maps on node `source` to node `target`, shared ones too. Returns how many moved."""
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


@kernel
def do_migrate_pages(m, mm, old, new):
    """Pages on the nodes of `old` (a bit each) go to those of `new`, place by place. Returns how many moved.

    Where the sets differ in size, what lies on a node of `new` stays. A node whose own pages have still to go is not filled before.
    """
    for cpu in range(m.sc[SC_NR_CPUS]):
        reclaimer_drain(m, cpu)
    same_size = _nr_nodes(old) == _nr_nodes(new)
    left = old
    moved = 0
    while left:
        source = target = -1
        for node in range(m.sc[SC_NR_NODES]):
            if (left >> node) & 1 == 0 or (same_size == 0 and (new >> node) & 1):
                continue
            to = node_remap(node, old, new)
            if to == node:
                continue
            source, target = node, to
            if (left >> to) & 1 == 0:
                break
        if source < 0:
            break
        left &= ~(1 << source)
        moved += migrate_to_node(m, mm, source, target)
    return moved
