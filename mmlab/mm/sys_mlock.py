"""mlock(), munlock(), mlockall(), munlockall(). Tasks may lock without limit (they run as root).

Models: mm/mlock.c apply_vma_lock_flags(), mlock_fixup(), do_mlock(), apply_mlockall_flags(). Left out: RLIMIT_MEMLOCK.
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import vma_index_find
from mmlab.mm.gup import mm_populate
from mmlab.mm.mlock import mlock_pte_range
from mmlab.mm.swap import lru_add_drain
from mmlab.mm.vma import vma_modify
from mmlab.model.const import EAGAIN, EFAULT, EINVAL, ENOMEM, TASK_SIZE
from mmlab.model.rows import (
    COST_SYSCALL, MM_DEF_FLAGS, MM_LOCKED_VM, MM_STRIDE, SC_NOW_NS, VM_LOCKED, VM_LOCKONFAULT, VM_SPECIAL, VMA_END, VMA_FLAGS, VMA_POLICY,
    VMA_START, VMA_STRIDE,
)

VM_LOCKED_MASK = VM_LOCKED | VM_LOCKONFAULT
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4


@kernel
def mlock_fixup(m, mm, vma, start, end, lock_flags):
    """[start, end) of a VMA gets these VM_LOCKED, VM_LOCKONFAULT flags, its pages the mark: 0, or -ENOMEM."""
    row = vma * VMA_STRIDE
    old = m.vma[row + VMA_FLAGS]
    new = (old & ~VM_LOCKED_MASK) | lock_flags
    if new == old or old & VM_SPECIAL:
        return 0
    vma = vma_modify(m, vma, start, end, new, m.vma[row + VMA_POLICY])
    if vma < 0:
        return -ENOMEM
    pages = (end - start) >> 12
    if new & VM_LOCKED == 0:
        m.mm[mm * MM_STRIDE + MM_LOCKED_VM] -= pages
    elif old & VM_LOCKED == 0:
        m.mm[mm * MM_STRIDE + MM_LOCKED_VM] += pages
    if old & VM_LOCKED == 0 or new & VM_LOCKED == 0:
        lru_add_drain(m)
        mlock_pte_range(m, mm, vma, start >> 12, end >> 12)
        lru_add_drain(m)
    return 0


@kernel
def apply_vma_lock_flags(m, mm, start, end, lock_flags):
    """mlock_fixup() over [start, end): 0, or -ENOMEM at the first hole, with what lies before it done."""
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] > at:
            return -ENOMEM
        stop = min(end, m.vma[vma * VMA_STRIDE + VMA_END])
        done = mlock_fixup(m, mm, vma, at, stop, lock_flags)
        if done < 0:
            return done
        at = stop
    return 0


@kernel
def sys_mlock(m, mm, start, length, lock_flags):
    """mlock(2), mlock2(2); with flags 0 munlock(2). The range is widened to whole pages. 0, or -ENOMEM, -EAGAIN."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    end = (start + length + 4095) >> 12 << 12
    start = start >> 12 << 12
    if end < start:
        return -EINVAL
    done = apply_vma_lock_flags(m, mm, start, end, lock_flags)
    if done < 0 or lock_flags == 0:
        return done
    done = mm_populate(m, mm, start, end, 0)
    if done == -EFAULT:
        return -ENOMEM
    return -EAGAIN if done == -ENOMEM else done


@kernel
def sys_mlockall(m, mm, flags):
    """mlockall(2) with MCL_*; flags 0: munlockall(2). 0, or -EINVAL."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    if flags == MCL_ONFAULT:
        return -EINVAL
    lock_flags = VM_LOCKED | (VM_LOCKONFAULT if flags & MCL_ONFAULT else 0)
    base = mm * MM_STRIDE + MM_DEF_FLAGS
    m.mm[base] &= ~VM_LOCKED_MASK
    if flags & MCL_FUTURE:
        m.mm[base] |= lock_flags
        if flags & MCL_CURRENT == 0:
            return 0
    at = 0
    while True:
        vma = vma_index_find(m, mm, at)
        if vma < 0:
            break
        at = m.vma[vma * VMA_STRIDE + VMA_END]
        mlock_fixup(m, mm, vma, m.vma[vma * VMA_STRIDE + VMA_START], at, lock_flags if flags else 0)
    if flags & MCL_CURRENT:
        mm_populate(m, mm, 0, TASK_SIZE, 1)
    return 0
