"""Faulting in a range without touching it: mlock(), MAP_POPULATE, MADV_POPULATE_READ and _WRITE.

Models: mm/gup.c __mm_populate(), populate_vma_page_range(), faultin_page(), faultin_page_range(); mm/madvise.c madvise_populate(). The faults are
the calling task's own. One that has to wait for the disk drops the mmap lock; the walk then comes back to a page that is there, and the
fault counts as minor (unless it need not wait: a zram device, zswap, a page of zeroes).
"""

from mmlab.kernels.dirty import folio_mark_dirty
from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import fault_handler_handle_mm_fault, reclaimer_folio_accessed, vma_index_find
from mmlab.kernels.pte import walk_pmd, walk_pte
from mmlab.mm.mlock import mlock_new_folio, mlock_pte_range
from mmlab.mm.swap import lru_add_drain
from mmlab.model.const import EFAULT, EINVAL, ENOMEM, READ, VM_FAULT_ERROR, VM_FAULT_MAJOR, VM_FAULT_OOM, VM_FAULT_RETRY, WRITE
from mmlab.model.page import PG_ANON, page_folio, page_test
from mmlab.model.rows import (
    BIO_WAITS, COST_FAULT, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_SWAP, PTE_WRITE, SC_NOW_NS, SC_TASK, T_MAJ_FLT,
    T_MIN_FLT, TASK_STRIDE, VM_EXEC, VM_IO, VM_LOCKED, VM_LOCKONFAULT, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE, VMA_END, VMA_FLAGS,
    VMA_INODE, VMA_START, VMA_STRIDE,
)
from mmlab.model.vmstat import V_PGFAULT


@kernel
def populate_vma_page_range(m, mm, vma, start_vpn, end_vpn, access):
    """Fault in what is not there yet (or not writable, for WRITE), and mark each small page as accessed: 0, -EFAULT, or -ENOMEM."""
    vpn = start_vpn
    while vpn < end_vpn:
        slot = walk_pte(m, mm, vpn)
        if slot < 0:
            slot = walk_pmd(m, mm, vpn)
            if slot >= 0 and m.pt[slot] & PTE_HUGE == 0:
                slot = -1
        entry = m.pt[slot] if slot >= 0 else 0
        unevictable = 0
        if entry & PTE_PRESENT == 0 or (access == WRITE and entry & PTE_WRITE == 0):
            m.sc[SC_NOW_NS] += m.cost[COST_FAULT]
            file_page = entry & PTE_PRESENT and entry & (PTE_HUGE | PTE_SPECIAL) == 0 and page_test(m, entry >> PTE_SHIFT, PG_ANON) == 0
            waits = m.bio[BIO_WAITS]
            result = VM_FAULT_RETRY
            tries = 0
            while result & VM_FAULT_RETRY:
                result = fault_handler_handle_mm_fault(m, mm, vma, vpn, access)
                tries += 1
                if tries > 64:
                    result = VM_FAULT_OOM
            if result & VM_FAULT_ERROR:
                return -ENOMEM if result & VM_FAULT_OOM else -EFAULT
            m.vmstat[V_PGFAULT] += 1
            major = result & VM_FAULT_MAJOR and entry & PTE_SWAP and m.bio[BIO_WAITS] == waits
            if m.sc[SC_TASK] >= 0:
                m.task[m.sc[SC_TASK] * TASK_STRIDE + (T_MAJ_FLT if major else T_MIN_FLT)] += 1
            shared = m.vma[vma * VMA_STRIDE + VMA_INODE] >= 0 and (access == READ or m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_SHARED)
            fresh = shared == 0 and (entry == 0 or entry & PTE_SPECIAL or file_page)
            slot = walk_pte(m, mm, vpn)
            entry = m.pt[slot] if slot >= 0 else 0
            if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED and entry & PTE_PRESENT and entry & (PTE_HUGE | PTE_SPECIAL) == 0:
                unevictable = mlock_new_folio(m, page_folio(m, entry >> PTE_SHIFT))
            if fresh and entry & PTE_DIRTY:
                entry &= ~PTE_DIRTY  # the page is dirty, but full of zeroes or a file's: nobody has stored anything into it
                m.pt[slot] = entry
        if entry & PTE_PRESENT and entry & (PTE_HUGE | PTE_SPECIAL) == 0:
            head = page_folio(m, entry >> PTE_SHIFT)
            if access == WRITE and entry & PTE_DIRTY == 0:
                folio_mark_dirty(m, head)
            if unevictable == 0:
                reclaimer_folio_accessed(m, head)
        vpn += 1
    if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED:
        mlock_pte_range(m, mm, vma, start_vpn, end_vpn)
    lru_add_drain(m)
    return 0


@kernel
def mm_populate(m, mm, start, end, ignore_errors):
    """Fault in the VMAs of [start, end): for writing where they are private and writable. 0, or -EFAULT, -ENOMEM of the first that fails."""
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] >= end:
            return 0
        row = vma * VMA_STRIDE
        at = max(at, m.vma[row + VMA_START])
        stop = min(end, m.vma[row + VMA_END])
        flags = m.vma[row + VMA_FLAGS]
        done = 0
        if flags & (VM_READ | VM_WRITE | VM_EXEC) == 0:
            done = -EFAULT
        elif flags & (VM_IO | VM_PFNMAP | VM_LOCKONFAULT) == 0:
            done = populate_vma_page_range(m, mm, vma, at >> 12, stop >> 12, WRITE if flags & (VM_WRITE | VM_SHARED) == VM_WRITE else READ)
        if done < 0 and ignore_errors == 0:
            return done
        at = stop
    return 0


@kernel
def madvise_populate(m, mm, start, end, access):
    """MADV_POPULATE_READ, _WRITE: 0, -EINVAL where the protection forbids it, -EFAULT beyond a file's end, -ENOMEM over a hole."""
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] > at:
            return -ENOMEM
        row = vma * VMA_STRIDE
        stop = min(end, m.vma[row + VMA_END])
        if m.vma[row + VMA_FLAGS] & (VM_WRITE if access == WRITE else VM_READ) == 0 or m.vma[row + VMA_FLAGS] & (VM_IO | VM_PFNMAP):
            return -EINVAL
        done = populate_vma_page_range(m, mm, vma, at >> 12, stop >> 12, access)
        if done < 0:
            return done
        at = stop
    return 0
