"""NUMA policy of address ranges: what mbind() does to VMAs. Where pages go does not follow it yet (see `sim.mbind`).

Models: mm/mempolicy.c do_mbind(), mbind_range(). A policy is one number: 0 the default, else mode | nodes << 8; equal numbers may merge.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import vma_index_find
from mmlab.mm.mmap import page_align
from mmlab.mm.vma import vma_modify
from mmlab.model.const import EFAULT, EINVAL, ENOMEM
from mmlab.model.rows import COST_SYSCALL, SC_NOW_NS, VMA_END, VMA_FLAGS, VMA_START, VMA_STRIDE

MODES = ("default", "preferred", "bind", "interleave", "local", "preferred_many", "weighted_interleave")  # numbered as in the kernel


@kernel
def sys_mbind(m, mm, start, length, policy):
    """mbind(2): 0, -EINVAL (unaligned), -EFAULT over a hole (nothing changed), -ENOMEM at max_map_count."""
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
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        stop = min(end, m.vma[vma * VMA_STRIDE + VMA_END])
        if vma_modify(m, vma, at, stop, m.vma[vma * VMA_STRIDE + VMA_FLAGS], policy) < 0:
            return -ENOMEM
        at = stop
    return 0
