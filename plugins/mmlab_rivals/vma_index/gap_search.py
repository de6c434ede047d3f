"""What every index does the same way with a gap that it has found: limits, and the guard below a stack."""

from mmlab.kernels.jit import leaf
from mmlab.model.const import PAGE_SHIFT
from mmlab.model.rows import SC_STACK_GUARD_GAP, VM_GROWSDOWN, VMA_FLAGS, VMA_START, VMA_STRIDE

NO_LIMIT = (1 << 63) - 1  # where the gap above the last VMA ends


@leaf
def guard_below(m, vma):
    """The address that the gap below a VMA (-1: the gap above all) must not be used beyond."""
    if vma < 0:
        return NO_LIMIT
    start = m.vma[vma * VMA_STRIDE + VMA_START]
    if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_GROWSDOWN:
        return max(0, start - (m.sc[SC_STACK_GUARD_GAP] << PAGE_SHIFT))
    return start
