"""mremap: grow, shrink and move mappings.

Models: mm/mremap.c sys_mremap(), mremap_to(), vma_to_resize(), move_vma(), move_page_tables(); mm/vma.c copy_vma(), vma_merge_extend().
Left out: an old length of 0 (a second mapping of shared memory), hugetlb, userfaultfd, special mappings. Lengths are rounded up to pages.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import fault_handler_unshare, vma_index_find
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import pte_alloc, split_huge_pmd
from mmlab.mm.gup import mm_populate
from mmlab.mm.huge_memory import deposits_table
from mmlab.mm.mmap import do_munmap, find_vma_intersection, get_unmapped_area, may_expand_vm, page_align, shmem_aligned_area, thp_alignment, vm_enough_memory
from mmlab.mm.pgtable import pgtable_deposit, pgtable_withdraw, pmd_alloc, pud_alloc
from mmlab.mm.rmap import anon_vma_clone, unlink_anon_vmas
from mmlab.mm.vma import split_vma, vm_area_alloc, vm_area_free, vm_stat_account, vma_link, vma_merge_new_range
from mmlab.model.const import EFAULT, EINVAL, ENOMEM, TASK_SIZE
from mmlab.model.rows import (
    COST_SYSCALL, MM_HIWATER_VM, MM_LOCKED_VM, MM_MAP_COUNT, MM_ROOT, MM_STRIDE, PTE_HUGE, PTE_SHIFT, SC_COMMITTED_AS, SC_MAX_MAP_COUNT,
    SC_NOW_NS, SC_SHARED_TABLES, VM_ACCOUNT, VM_LOCKED, VM_LOCKONFAULT, VM_SHARED, VMA_ANON_VMA, VMA_END, VMA_FILE, VMA_FLAGS, VMA_INODE,
    VMA_NAME, VMA_PGOFF, VMA_POLICY, VMA_START, VMA_STRIDE,
)

MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
PMD_PAGES, PUD_PAGES = 1 << 9, 1 << 18


@leaf
def _extent(old_vpn, end_vpn, new_vpn, size):
    """Pages up to the next border of a table of `size` pages on either side, or to the end."""
    return min(end_vpn - old_vpn, min(size - (old_vpn & (size - 1)), size - (new_vpn & (size - 1))))


@leaf
def _pud_slot(m, mm, vpn):
    """Slot in m.pt of the PUD entry, or -1 if the table above is missing."""
    entry = m.pt[m.mm[mm * MM_STRIDE + MM_ROOT] * 512 + ((vpn >> 27) & 511)]
    return -1 if entry == 0 else (entry >> PTE_SHIFT) * 512 + ((vpn >> 18) & 511)


@leaf
def _can_align_down(m, mm, vma, vpn):
    """1 if the VMA begins at vpn and nothing else is mapped down to the border of its 2 MiB."""
    start = m.vma[vma * VMA_STRIDE + VMA_START]
    if start >> 12 != vpn:
        return 0
    return 1 if find_vma_intersection(m, mm, (vpn & ~(PMD_PAGES - 1)) << 12, start) < 0 else 0


@kernel
def move_page_tables(m, mm, vma, old_vpn, new_vma, new_vpn, pages):
    """Move the entries of a range, whole tables where both sides have the same place in them: 0, or -ENOMEM with what was moved moved."""
    end_vpn = old_vpn + pages
    offset = old_vpn & (PMD_PAGES - 1)
    if pages >= PMD_PAGES - offset and offset and offset == new_vpn & (PMD_PAGES - 1):
        if _can_align_down(m, mm, vma, old_vpn) and _can_align_down(m, mm, new_vma, new_vpn):
            old_vpn -= offset
            new_vpn -= offset
    while old_vpn < end_vpn:
        extent = _extent(old_vpn, end_vpn, new_vpn, PUD_PAGES)
        old_pud = _pud_slot(m, mm, old_vpn)
        if old_pud >= 0 and m.pt[old_pud]:
            new_pud = pud_alloc(m, mm, new_vpn)
            if new_pud < 0:
                return -ENOMEM
            if extent == PUD_PAGES and m.pt[new_pud] == 0:
                m.pt[new_pud] = m.pt[old_pud]
                m.pt[old_pud] = 0
            else:
                extent = _extent(old_vpn, end_vpn, new_vpn, PMD_PAGES)
                pmd = walk_pmd(m, mm, old_vpn)
                if m.pt[pmd] and _move_pmd(m, mm, pmd, old_vpn, new_vpn, extent) < 0:
                    return -ENOMEM
        old_vpn += extent
        new_vpn += extent
    return 0


@leaf
def _move_pmd(m, mm, pmd, old_vpn, new_vpn, extent):
    """The part of move_page_tables() that lies below one PMD entry on each side."""
    target = pmd_alloc(m, mm, new_vpn)
    if target < 0:
        return -ENOMEM
    if extent == PMD_PAGES and m.pt[target] == 0:
        if m.pt[pmd] & PTE_HUGE and deposits_table(m, m.pt[pmd]):
            pgtable_deposit(m, target >> 9, pgtable_withdraw(m, pmd >> 9))
        m.pt[target] = m.pt[pmd]
        m.pt[pmd] = 0
        return 0
    if m.pt[pmd] & PTE_HUGE:
        split_huge_pmd(m, mm, pmd)
        if m.pt[pmd] == 0:  # a file's
            return 0
    new = pte_alloc(m, mm, new_vpn)
    if new < 0:
        return -ENOMEM
    old = (m.pt[pmd] >> PTE_SHIFT) * 512 + (old_vpn & 511)
    for i in range(extent):
        if m.pt[old + i]:
            m.pt[new + i] = m.pt[old + i]
            m.pt[old + i] = 0
    return 0


@kernel
def copy_vma(m, mm, vma, addr, length, pgoff, keep_source):
    """The VMA that covers [addr, addr + length) like another one: a neighbour that takes it in, or a copy; -ENOMEM.

    Memory that was never faulted in gets the page offset of its new place; if the source is kept, it does not merge with the source.
    """
    row = vma * VMA_STRIDE
    flags, anon_vma, policy = m.vma[row + VMA_FLAGS], m.vma[row + VMA_ANON_VMA], m.vma[row + VMA_POLICY]
    but = -1
    if m.vma[row + VMA_INODE] < 0 and anon_vma < 0:
        pgoff = addr >> 12
        if keep_source:
            but = vma
    merged = vma_merge_new_range(m, mm, addr, addr + length, flags, anon_vma, m.vma[row + VMA_FILE], pgoff, policy, but)
    if merged >= 0:
        return merged
    fresh = vm_area_alloc(m, mm)
    if fresh < 0:
        return -ENOMEM
    new = fresh * VMA_STRIDE
    m.vma[new + VMA_START] = addr
    m.vma[new + VMA_END] = addr + length
    m.vma[new + VMA_PGOFF] = pgoff
    for field in (VMA_FLAGS, VMA_FILE, VMA_INODE, VMA_POLICY, VMA_NAME, VMA_ANON_VMA):
        m.vma[new + field] = m.vma[row + field]
    if anon_vma_clone(m, fresh, vma, 0) < 0:
        vm_area_free(m, fresh)
        return -ENOMEM
    if vma_link(m, fresh) < 0:
        unlink_anon_vmas(m, fresh)
        vm_area_free(m, fresh)
        return -ENOMEM
    return fresh


@kernel
def move_vma(m, mm, vma, addr, old_length, new_length, target, flags):
    """Move [addr, addr + old_length), which lies in one VMA, to target, where nothing is: target, or -ENOMEM."""
    row = vma * VMA_STRIDE
    vm_flags = m.vma[row + VMA_FLAGS]
    keep = flags & MREMAP_DONTUNMAP
    if m.mm[mm * MM_STRIDE + MM_MAP_COUNT] >= m.sc[SC_MAX_MAP_COUNT] - 3:
        return -ENOMEM
    if keep and vm_flags & VM_LOCKED:  # what stays is no longer locked
        if m.vma[row + VMA_START] != addr:
            vma = split_vma(m, vma, addr)
        if vma >= 0 and m.vma[vma * VMA_STRIDE + VMA_END] != addr + old_length and split_vma(m, vma, addr + old_length) < 0:
            return -ENOMEM
        if vma < 0:
            return -ENOMEM
        row = vma * VMA_STRIDE
    charged = new_length if keep else new_length - old_length
    if vm_flags & VM_ACCOUNT and vm_enough_memory(m, mm, charged >> 12) < 0:
        return -ENOMEM
    pgoff = m.vma[row + VMA_PGOFF] + ((addr - m.vma[row + VMA_START]) >> 12)
    moved = copy_vma(m, mm, vma, target, new_length, pgoff, keep)
    if moved < 0:
        if vm_flags & VM_ACCOUNT:
            m.sc[SC_COMMITTED_AS] -= charged >> 12
        return -ENOMEM
    vma = vma_index_find(m, mm, addr)  # it may be part of what it was merged into
    row = vma * VMA_STRIDE
    answer = target
    if move_page_tables(m, mm, vma, addr >> 12, moved, target >> 12, old_length >> 12) < 0:
        move_page_tables(m, mm, moved, target >> 12, vma, addr >> 12, old_length >> 12)
        addr, old_length, answer = target, new_length, -ENOMEM
    if vm_flags & VM_ACCOUNT and keep == 0:
        m.sc[SC_COMMITTED_AS] += old_length >> 12  # which the unmapping takes back
    peak = m.mm[mm * MM_STRIDE + MM_HIWATER_VM]
    vm_stat_account(m, mm, vm_flags, new_length >> 12)
    if answer >= 0 and keep:
        m.vma[row + VMA_FLAGS] &= ~(VM_LOCKED | VM_LOCKONFAULT)  # the new VMA takes over what locked_vm counts
        if m.vma[row + VMA_START] == addr and m.vma[row + VMA_END] == addr + old_length:
            unlink_anon_vmas(m, vma)
        return answer
    do_munmap(m, mm, addr, old_length)
    m.mm[mm * MM_STRIDE + MM_HIWATER_VM] = peak  # both places counted for a moment
    if vm_flags & VM_LOCKED and answer >= 0:
        m.mm[mm * MM_STRIDE + MM_LOCKED_VM] += new_length >> 12
    return answer


@leaf
def vma_to_resize(m, mm, addr, old_length, new_length):
    """The VMA that holds [addr, addr + old_length) and may have new_length, or -errno."""
    vma = vma_index_find(m, mm, addr)
    if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] > addr or addr + old_length > m.vma[vma * VMA_STRIDE + VMA_END]:
        return -EFAULT
    if new_length != old_length and may_expand_vm(m, mm, m.vma[vma * VMA_STRIDE + VMA_FLAGS], (new_length - old_length) >> 12) == 0:
        return -ENOMEM
    return vma


@leaf
def _new_area(m, mm, vma, addr, length):
    """Where a mapping moves to by itself, or -ENOMEM."""
    row = vma * VMA_STRIDE
    file = m.vma[row + VMA_FILE] if m.vma[row + VMA_INODE] >= 0 else -1
    pgoff = m.vma[row + VMA_PGOFF] + ((addr - m.vma[row + VMA_START]) >> 12)
    aligned, by_shmem = thp_alignment(m, length, file, pgoff, m.vma[row + VMA_FLAGS] & VM_SHARED)
    target = get_unmapped_area(m, mm, 0, length, 0, aligned, pgoff if file >= 0 else 0)
    return shmem_aligned_area(m, mm, target, length, pgoff) if target >= 0 and by_shmem else target


@kernel
def mremap_to(m, mm, addr, old_length, new_length, flags, target):
    """To a given address, or with the old mapping kept: the new address, or -errno. What was there goes before anything else is looked at."""
    if target & 4095 or new_length > TASK_SIZE or target > TASK_SIZE - new_length or (addr + old_length > target and target + new_length > addr):
        return -EINVAL
    if m.mm[mm * MM_STRIDE + MM_MAP_COUNT] + 2 >= m.sc[SC_MAX_MAP_COUNT] - 3:
        return -ENOMEM
    if flags & MREMAP_FIXED:
        done = do_munmap(m, mm, target, new_length)
        if done < 0:
            return done
    if old_length > new_length:
        done = do_munmap(m, mm, addr + new_length, old_length - new_length)
        if done < 0:
            return done
        old_length = new_length
    vma = vma_to_resize(m, mm, addr, old_length, new_length)
    if vma < 0:
        return vma
    if flags & MREMAP_DONTUNMAP and may_expand_vm(m, mm, m.vma[vma * VMA_STRIDE + VMA_FLAGS], old_length >> 12) == 0:
        return -ENOMEM
    if flags & MREMAP_FIXED == 0:
        target = _new_area(m, mm, vma, addr, new_length)
        if target < 0:
            return target
    return move_vma(m, mm, vma, addr, old_length, new_length, target, flags)


@leaf
def _expand(m, mm, vma, pages):
    """Let a VMA grow at its end, where there is room, and merge with the next: 0, or -ENOMEM."""
    row = vma * VMA_STRIDE
    vm_flags, end = m.vma[row + VMA_FLAGS], m.vma[row + VMA_END]
    if vm_flags & VM_ACCOUNT and vm_enough_memory(m, mm, pages) < 0:
        return -ENOMEM
    pgoff = m.vma[row + VMA_PGOFF] + ((end - m.vma[row + VMA_START]) >> 12)
    if vma_merge_new_range(m, mm, end, end + (pages << 12), vm_flags, m.vma[row + VMA_ANON_VMA], m.vma[row + VMA_FILE], pgoff, m.vma[row + VMA_POLICY], -1) < 0:
        if vm_flags & VM_ACCOUNT:
            m.sc[SC_COMMITTED_AS] -= pages
        return -ENOMEM
    vm_stat_account(m, mm, vm_flags, pages)
    return 0


@kernel
def sys_mremap(m, mm, addr, old_length, new_length, flags, new_addr):
    """mremap(2): shrink, grow in place, or move: the new address, or -errno."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    old_length, new_length = page_align(old_length), page_align(new_length)
    if addr & 4095 or new_length <= 0 or (flags & MREMAP_FIXED and flags & MREMAP_MAYMOVE == 0):
        return -EINVAL
    if flags & MREMAP_DONTUNMAP and (flags & MREMAP_MAYMOVE == 0 or old_length != new_length):
        return -EINVAL
    vma = vma_index_find(m, mm, addr)
    if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] > addr:
        return -EFAULT
    if m.sc[SC_SHARED_TABLES]:
        fault_handler_unshare(m, mm, addr >> 12, (addr + old_length) >> 12, 0)
    locked = m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        answer = mremap_to(m, mm, addr, old_length, new_length, flags, new_addr)
    elif new_length <= old_length:
        done = do_munmap(m, mm, addr + new_length, old_length - new_length) if new_length < old_length else 0
        return done if done < 0 else addr
    else:
        vma = vma_to_resize(m, mm, addr, old_length, new_length)
        if vma < 0:
            return vma
        end = addr + old_length
        if end == m.vma[vma * VMA_STRIDE + VMA_END] and addr + new_length <= TASK_SIZE and find_vma_intersection(m, mm, end, addr + new_length) < 0:
            answer = addr
            if _expand(m, mm, vma, (new_length - old_length) >> 12) < 0:
                return -ENOMEM
            if locked:
                m.mm[mm * MM_STRIDE + MM_LOCKED_VM] += (new_length - old_length) >> 12
        elif flags & MREMAP_MAYMOVE:
            answer = _new_area(m, mm, vma, addr, new_length)
            if answer >= 0:
                answer = move_vma(m, mm, vma, addr, old_length, new_length, answer, flags)
        else:
            return -ENOMEM
    if answer >= 0 and locked and new_length > old_length:
        mm_populate(m, mm, answer + old_length, answer + new_length, 1)
    return answer
