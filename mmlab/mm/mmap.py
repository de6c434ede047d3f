"""Address-space calls: mmap, munmap, mprotect, brk.

Models: mm/mmap.c do_mmap(), mmap_region(), do_vmi_munmap(), do_brk_flags(), expand_downwards(), __vm_enough_memory() of mm/util.c, thp_get_unmapped_area(),
mm/mprotect.c mprotect_fixup(). All take byte addresses; lengths are rounded up to pages; answers are addresses or -errno.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import fault_handler_unshare, vma_index_find, vma_index_find_gap, vma_index_find_prev, vma_index_resize
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import anon_vma_prepare, inode_put, split_huge_pmd, zap_range
from mmlab.mm.files import file_close, file_open, inode_create
from mmlab.mm.gup import mm_populate
from mmlab.mm.khugepaged import khugepaged_enter_vma
from mmlab.mm.pgtable import free_pgtables
from mmlab.mm.shmem_huge import SHMEM_HUGE_DENY, SHMEM_HUGE_FORCE, shmem_mount_huge
from mmlab.mm.swap import lru_lazyfree_drain
from mmlab.mm.vma import split_vma, vm_area_alloc, vm_area_free, vm_stat_account, vma_link, vma_merge_new_range, vma_modify, vma_unlink
from mmlab.model.const import EACCES, EEXIST, EINVAL, ENOMEM, TASK_SIZE
from mmlab.model.page import PG_ANON, PG_ANON_EXCLUSIVE, PG_SWAPBACKED, page_test
from mmlab.model.rows import (
    COST_SYSCALL, F_INODE, FILE_STRIDE, I_COMMITTED, I_FLAGS, IF_ANON_SHMEM, IF_NORESERVE, IF_SHMEM, INODE_STRIDE, MM_BRK, MM_DATA_VM,
    MM_DEF_FLAGS, MM_HIWATER_VM, MM_KHUGEPAGED, MM_LOCKED_VM, MM_MAP_COUNT, MM_MMAP_BASE, MM_RLIMIT_AS, MM_RLIMIT_DATA, MM_RLIMIT_STACK, MM_START_BRK,
    MM_STRIDE, MM_TOTAL_VM, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE, PTE_SHIFT, PTE_SPECIAL, PTE_WRITE, SC_COMMIT_LIMIT,
    SC_COMMITTED_AS, SC_CPU, SC_MAX_MAP_COUNT, SC_MMAP_MIN_ADDR, SC_NOW_NS, SC_NR_SWAP_SLOTS, SC_OVERCOMMIT, SC_SHARED_TABLES,
    SC_SHMEM_HUGE, SC_STACK_GUARD_GAP, SC_TOTALRAM, VM_ACCOUNT, VM_EXEC, VM_GROWSDOWN, VM_LOCKED, VM_MAYEXEC,
    VM_MAYREAD, VM_MAYSHARE, VM_MAYWRITE, VM_NORESERVE, VM_READ, VM_SHARED, VM_SOFTDIRTY, VM_WRITE, VMA_ANON_VMA, VMA_END, VMA_FILE,
    VMA_FLAGS, VMA_INODE, VMA_PGOFF, VMA_POLICY, VMA_START, VMA_STRIDE,
)

# flags of sys_mmap, mmlab's own numbering of MAP_*
MAP_SHARED, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_GROWSDOWN, MAP_LOCKED, MAP_POPULATE = 1, 2, 4, 8, 16, 32, 64
HPAGE = 1 << 21


@leaf
def page_align(length):
    """Round bytes up to whole pages."""
    return (length + 4095) >> 12 << 12


@kernel
def vm_enough_memory(m, mm, pages):
    """Account `pages` of commit charge: 0, or -ENOMEM by the overcommit mode."""
    mode = m.sc[SC_OVERCOMMIT]
    if mode == 0 and pages > m.sc[SC_TOTALRAM] + max(0, m.sc[SC_NR_SWAP_SLOTS] - 1):
        return -ENOMEM
    if mode == 2:
        allowed = m.sc[SC_COMMIT_LIMIT] - min(m.mm[mm * MM_STRIDE + MM_TOTAL_VM] // 32, 32768)
        if m.sc[SC_COMMITTED_AS] + pages >= allowed:
            return -ENOMEM
    m.sc[SC_COMMITTED_AS] += pages
    return 0


@kernel
def shmem_zero_setup(m, mm, length, vm_flags):
    """An open file over `length` bytes of nameless shared memory, charged as a whole unless VM_NORESERVE: its row, or -ENOMEM."""
    charged = 0 if vm_flags & VM_NORESERVE else length >> 12
    if charged and vm_enough_memory(m, mm, charged) < 0:
        return -ENOMEM
    inode = inode_create(m, length, IF_SHMEM | IF_ANON_SHMEM | (IF_NORESERVE if charged == 0 else 0))
    if inode < 0:
        m.sc[SC_COMMITTED_AS] -= charged
        return -ENOMEM
    m.inode[inode * INODE_STRIDE + I_COMMITTED] = charged
    file = file_open(m, inode)
    inode_put(m, inode)  # no name: the open file alone keeps it
    return file


@leaf
def find_vma_intersection(m, mm, start, end):
    """The lowest VMA that has a byte in [start, end), or -1."""
    vma = vma_index_find(m, mm, start)
    return vma if vma >= 0 and m.vma[vma * VMA_STRIDE + VMA_START] < end else -1


@leaf
def _hint_is_free(m, mm, addr, length):
    """1 if [addr, addr + length) is free and far enough from a stack above."""
    if addr < m.sc[SC_MMAP_MIN_ADDR] or addr + length > TASK_SIZE:
        return 0
    above = vma_index_find(m, mm, addr)
    if above < 0:
        return 1
    start = m.vma[above * VMA_STRIDE + VMA_START]
    if m.vma[above * VMA_STRIDE + VMA_FLAGS] & VM_GROWSDOWN:
        start -= m.sc[SC_STACK_GUARD_GAP] << 12
    return 1 if start >= addr + length else 0


@kernel
def get_unmapped_area(m, mm, addr, length, flags, aligned, pgoff):
    """Where a new mapping goes: the hint if free, else the top of the highest gap; aligned: 2 MiB-aligned as thp_get_unmapped_area() does."""
    if length > TASK_SIZE:
        return -ENOMEM
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        if addr & 4095:
            return -EINVAL
        if addr + length > TASK_SIZE or addr < 0:
            return -ENOMEM
        return addr
    if addr:
        hint = page_align(addr)
        if _hint_is_free(m, mm, hint, length):
            return hint
    low, high = m.sc[SC_MMAP_MIN_ADDR], m.mm[mm * MM_STRIDE + MM_MMAP_BASE]
    if aligned:
        found = vma_index_find_gap(m, mm, length + HPAGE, low, high)
        if found >= 0:
            shift = ((pgoff << 12) - found) & (HPAGE - 1)
            if shift == 0:
                return found + HPAGE
            return found + shift
    return vma_index_find_gap(m, mm, length, low, high)


@leaf
def thp_alignment(m, length, file, pgoff, shared):
    """(1 for the 2 MiB-aligned search of anonymous memory and files on a disk, 1 for shmem's own) by what is to be mapped."""
    if file < 0 and shared == 0:
        return 1 if length % HPAGE == 0 else 0, 0
    huge = m.sc[SC_SHMEM_HUGE] == SHMEM_HUGE_FORCE
    kind = IF_SHMEM | IF_ANON_SHMEM if file < 0 else m.inode[m.file[file * FILE_STRIDE + F_INODE] * INODE_STRIDE + I_FLAGS]
    if kind & IF_SHMEM:
        return 0, 1 if huge or (shmem_mount_huge(m, kind) and m.sc[SC_SHMEM_HUGE] != SHMEM_HUGE_DENY) else 0
    offset = pgoff << 12
    return 1 if offset + length - ((offset + HPAGE - 1) & ~(HPAGE - 1)) >= HPAGE else 0, 0


@kernel
def shmem_aligned_area(m, mm, addr, length, pgoff):
    """shmem_get_unmapped_area(): addr, or a place where address and offset agree modulo 2 MiB if the map can hold a huge page there."""
    offset = (pgoff << 12) & (HPAGE - 1)
    if length < HPAGE or (offset and offset + length < 2 * HPAGE) or addr & (HPAGE - 1) == offset:
        return addr
    found = vma_index_find_gap(m, mm, length + HPAGE - 4096, m.sc[SC_MMAP_MIN_ADDR], m.mm[mm * MM_STRIDE + MM_MMAP_BASE])
    if found < 0:
        return addr
    place = found & (HPAGE - 1)
    return found + offset - place + (HPAGE if place > offset else 0)


@leaf
def may_expand_vm(m, mm, flags, pages):
    """1 if the address space may grow by so many pages under its limits."""
    base = mm * MM_STRIDE
    if m.mm[base + MM_TOTAL_VM] + pages > m.mm[base + MM_RLIMIT_AS] >> 12:
        return 0
    if flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) == VM_WRITE and m.mm[base + MM_DATA_VM] + pages > m.mm[base + MM_RLIMIT_DATA] >> 12:
        return 0
    return 1


@leaf
def note_total_vm(m, mm):
    """The high-water mark of total_vm, which Linux notes before it unmaps: update_hiwater_vm()."""
    base = mm * MM_STRIDE
    m.mm[base + MM_HIWATER_VM] = max(m.mm[base + MM_HIWATER_VM], m.mm[base + MM_TOTAL_VM])


@kernel
def mmap_region(m, mm, addr, length, vm_flags, file, pgoff):
    """Make the mapping [addr, addr + length), merged where it can be: addr, or -errno. What was there is gone already."""
    pages = length >> 12
    if may_expand_vm(m, mm, vm_flags, pages) == 0:
        return -ENOMEM
    inode = m.file[file * FILE_STRIDE + F_INODE] if file >= 0 else -1
    accountable = vm_flags & VM_NORESERVE == 0 and ((vm_flags & (VM_SHARED | VM_WRITE) == VM_WRITE) or (vm_flags & VM_ACCOUNT))
    vm_flags &= ~VM_ACCOUNT
    if accountable:
        if vm_enough_memory(m, mm, pages) < 0:
            return -ENOMEM
        vm_flags |= VM_ACCOUNT
    vma = -1
    if vm_flags & VM_GROWSDOWN == 0:
        vma = vma_merge_new_range(m, mm, addr, addr + length, vm_flags, -1, file, pgoff, 0, -1)
    if vma < 0:
        vma = vm_area_alloc(m, mm)
        if vma >= 0:
            row = vma * VMA_STRIDE
            m.vma[row + VMA_START] = addr
            m.vma[row + VMA_END] = addr + length
            m.vma[row + VMA_FLAGS] = vm_flags
            m.vma[row + VMA_PGOFF] = pgoff
            m.vma[row + VMA_FILE] = file
            m.vma[row + VMA_INODE] = inode
            if vma_link(m, vma) < 0:
                vm_area_free(m, vma)
                vma = -ENOMEM
        if vma < 0:
            if accountable:
                m.sc[SC_COMMITTED_AS] -= pages
            return -ENOMEM
    if m.mm[mm * MM_STRIDE + MM_KHUGEPAGED] == 0:
        khugepaged_enter_vma(m, mm, vma)
    vm_stat_account(m, mm, vm_flags, pages)
    if vm_flags & VM_LOCKED:
        m.mm[mm * MM_STRIDE + MM_LOCKED_VM] += pages
    return addr


@kernel
def sys_mmap(m, mm, addr, length, prot, flags, file, pgoff):
    """mmap(2). prot: VM_READ|VM_WRITE|VM_EXEC; flags: MAP_* of this module; file: a row of m.file, -1 anonymous; pgoff in pages.

    A shared anonymous map is one of a file of its own (shmem).
    """
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    length = page_align(length)
    if length <= 0:
        return -EINVAL
    if m.mm[mm * MM_STRIDE + MM_MAP_COUNT] > m.sc[SC_MAX_MAP_COUNT]:
        return -ENOMEM
    shared = flags & MAP_SHARED
    hint = addr
    aligned, by_shmem = thp_alignment(m, length, file, pgoff, shared)
    addr = get_unmapped_area(m, mm, hint, length, flags, aligned, pgoff if file >= 0 else 0)
    if addr < 0:
        return addr
    if by_shmem and addr != hint and flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) == 0:
        addr = shmem_aligned_area(m, mm, addr, length, pgoff if file >= 0 else 0)
    if flags & MAP_FIXED_NOREPLACE and find_vma_intersection(m, mm, addr, addr + length) >= 0:
        return -EEXIST
    vm_flags = prot | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_SOFTDIRTY | m.mm[mm * MM_STRIDE + MM_DEF_FLAGS]
    if shared:
        vm_flags |= VM_SHARED | VM_MAYSHARE
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    if flags & MAP_NORESERVE and m.sc[SC_OVERCOMMIT] != 2:
        vm_flags |= VM_NORESERVE
    if flags & MAP_FIXED and find_vma_intersection(m, mm, addr, addr + length) >= 0:
        done = do_munmap(m, mm, addr, length)
        if done < 0:
            return done
    opened = -1
    if file < 0:
        pgoff = 0 if shared else addr >> 12
        if shared:
            file = opened = shmem_zero_setup(m, mm, length, vm_flags)
            if file < 0:
                return -ENOMEM
    done = mmap_region(m, mm, addr, length, vm_flags, file, pgoff)
    if opened >= 0:
        file_close(m, opened)  # the VMA keeps it open
    if done >= 0 and (vm_flags & VM_LOCKED or flags & MAP_POPULATE):
        mm_populate(m, mm, addr, addr + length, 1)
    return done


@kernel
def do_munmap(m, mm, start, length):
    """Unmap [start, start + length): 0, or -ENOMEM when a middle piece cannot be cut out. Holes are no error."""
    end = start + page_align(length)
    vma = find_vma_intersection(m, mm, start, end)
    if vma < 0:
        return 0
    if m.vma[vma * VMA_STRIDE + VMA_START] < start:
        if m.vma[vma * VMA_STRIDE + VMA_END] > end and m.mm[mm * MM_STRIDE + MM_MAP_COUNT] >= m.sc[SC_MAX_MAP_COUNT]:
            return -ENOMEM
        vma = _split_for_munmap(m, mm, vma, start)
        if vma < 0:
            return -ENOMEM
    last = vma if m.vma[vma * VMA_STRIDE + VMA_END] >= end else find_vma_intersection(m, mm, end - 1, end)
    if last >= 0 and m.vma[last * VMA_STRIDE + VMA_END] > end:
        if _split_for_munmap(m, mm, last, end) < 0:
            return -ENOMEM
    low = 0
    below = vma_index_find_prev(m, mm, start)
    if below >= 0:
        low = m.vma[below * VMA_STRIDE + VMA_END] >> 12
    above = vma_index_find(m, mm, end)
    high = m.vma[above * VMA_STRIDE + VMA_START] >> 12 if above >= 0 else TASK_SIZE + 4096 >> 12
    lru_lazyfree_drain(m, m.sc[SC_CPU])
    note_total_vm(m, mm)
    while vma >= 0:
        row = vma * VMA_STRIDE
        first, stop = m.vma[row + VMA_START] >> 12, m.vma[row + VMA_END] >> 12
        zap_range(m, mm, vma, first, stop)
        vm_stat_account(m, mm, m.vma[row + VMA_FLAGS], first - stop)
        if m.vma[row + VMA_FLAGS] & VM_ACCOUNT:
            m.sc[SC_COMMITTED_AS] -= stop - first
        if m.vma[row + VMA_FLAGS] & VM_LOCKED:
            m.mm[mm * MM_STRIDE + MM_LOCKED_VM] -= stop - first
        vma_unlink(m, vma)
        vma = find_vma_intersection(m, mm, stop << 12, end) if stop < end >> 12 else -1
    # only now: a table may span several of the VMAs
    return free_pgtables(m, mm, start >> 12, end >> 12, low, high)


@leaf
def _split_for_munmap(m, mm, vma, address):
    """split_vma() that may exceed max_map_count by one: a head or tail piece goes away again at once."""
    limit = m.sc[SC_MAX_MAP_COUNT]
    m.sc[SC_MAX_MAP_COUNT] = limit + 2
    upper = split_vma(m, vma, address)
    m.sc[SC_MAX_MAP_COUNT] = limit
    return upper


@kernel
def sys_munmap(m, mm, start, length):
    """munmap(2)."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    if start & 4095 or length <= 0 or start < 0 or start + length > TASK_SIZE:
        return -EINVAL
    return do_munmap(m, mm, start, length)


@kernel
def change_protection(m, mm, vma, start_vpn, end_vpn):
    """Rewrite the entries of [start, end) for the VMA's new flags; an exclusive anonymous page becomes writable without a fault to come.

    What may only be executed is closed to data accesses, so that they fault: a protection key does that in Linux.
    """
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    none = flags & (VM_READ | VM_WRITE) == 0
    vpn = start_vpn
    while vpn < end_vpn:
        pmd = walk_pmd(m, mm, vpn)
        if pmd < 0:
            vpn = ((vpn >> 18) + 1) << 18
            continue
        stop = min(end_vpn, ((vpn >> 9) + 1) << 9)
        if m.pt[pmd] & PTE_HUGE and (vpn & 511 or stop != vpn + 512):
            split_huge_pmd(m, mm, pmd)
        if m.pt[pmd] & PTE_HUGE:
            m.pt[pmd] = _changed_entry(m, m.pt[pmd], flags, none)
        elif m.pt[pmd]:
            table = (m.pt[pmd] >> PTE_SHIFT) * 512
            for at in range(vpn, stop):
                entry = m.pt[table + (at & 511)]
                if entry & (PTE_PRESENT | PTE_PROTNONE):
                    m.pt[table + (at & 511)] = _changed_entry(m, entry, flags, none)
        vpn = stop
    return 0


@leaf
def _changed_entry(m, entry, flags, none):
    if none:
        return (entry & ~(PTE_PRESENT | PTE_WRITE)) | PTE_PROTNONE
    entry = (entry & ~PTE_PROTNONE) | PTE_PRESENT
    if flags & VM_WRITE == 0:
        return entry & ~PTE_WRITE
    if entry & PTE_SPECIAL:
        return entry
    pfn = entry >> PTE_SHIFT
    if flags & VM_SHARED:
        return entry | PTE_WRITE if entry & PTE_DIRTY or page_test(m, pfn, PG_SWAPBACKED) else entry  # writes to tmpfs are not tracked
    if page_test(m, pfn, PG_ANON) and page_test(m, pfn, PG_ANON_EXCLUSIVE):
        return entry | PTE_WRITE
    return entry


@kernel
def sys_mprotect(m, mm, start, length, prot):
    """mprotect(2): 0, -ENOMEM over a hole or at max_map_count, -EACCES where the mapping never may have prot (what lies before is changed)."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    if start & 4095:
        return -EINVAL
    end = start + page_align(length)
    if m.sc[SC_SHARED_TABLES]:
        fault_handler_unshare(m, mm, start >> 12, end >> 12, 0)
    at = start
    while at < end:
        vma = vma_index_find(m, mm, at)
        if vma < 0 or m.vma[vma * VMA_STRIDE + VMA_START] > at:
            return -ENOMEM
        row = vma * VMA_STRIDE
        stop = min(end, m.vma[row + VMA_END])
        pages = (stop - at) >> 12
        old = m.vma[row + VMA_FLAGS]
        flags = (old & ~(VM_READ | VM_WRITE | VM_EXEC)) | prot
        if prot & ~(flags >> 4):  # where VM_MAYREAD, VM_MAYWRITE and VM_MAYEXEC are
            return -EACCES
        if flags != old:
            charged = 0
            if flags & VM_WRITE and may_expand_vm(m, mm, flags, pages) == 0 and may_expand_vm(m, mm, old, pages):
                return -ENOMEM
            if flags & VM_WRITE and old & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE) == 0:
                if vm_enough_memory(m, mm, pages) < 0:
                    return -ENOMEM
                charged = pages
                flags |= VM_ACCOUNT
            elif old & VM_ACCOUNT and flags & VM_WRITE == 0 and m.vma[row + VMA_INODE] < 0 and m.vma[row + VMA_ANON_VMA] < 0 and old & VM_SHARED == 0:
                flags &= ~VM_ACCOUNT
            changed = vma_modify(m, vma, at, stop, flags, m.vma[row + VMA_POLICY])
            if changed < 0:
                m.sc[SC_COMMITTED_AS] -= charged
                return -ENOMEM
            if old & VM_ACCOUNT and flags & VM_ACCOUNT == 0:
                m.sc[SC_COMMITTED_AS] -= pages
            vm_stat_account(m, mm, old, -pages)
            vm_stat_account(m, mm, flags, pages)
            change_protection(m, mm, changed, at >> 12, stop >> 12)
            if old & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED and flags & VM_WRITE:
                mm_populate(m, mm, at, stop, 1)
        at = stop
    return 0


@kernel
def sys_brk(m, mm, new_end):
    """brk(2): the end of the heap after the call."""
    m.sc[SC_NOW_NS] += m.cost[COST_SYSCALL]
    base = mm * MM_STRIDE
    old = page_align(m.mm[base + MM_BRK])
    new = page_align(new_end)
    if new_end < m.mm[base + MM_START_BRK]:
        return m.mm[base + MM_BRK]
    if new < old:
        if do_munmap(m, mm, new, old - new) == 0:
            m.mm[base + MM_BRK] = new_end
        return m.mm[base + MM_BRK]
    if new > old:
        above = vma_index_find(m, mm, old)
        if above >= 0:
            start = m.vma[above * VMA_STRIDE + VMA_START]
            if m.vma[above * VMA_STRIDE + VMA_FLAGS] & VM_GROWSDOWN:
                start -= m.sc[SC_STACK_GUARD_GAP] << 12
            if new > start:
                return m.mm[base + MM_BRK]
        if m.mm[base + MM_MAP_COUNT] > m.sc[SC_MAX_MAP_COUNT]:
            return m.mm[base + MM_BRK]
        flags = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_SOFTDIRTY | m.mm[base + MM_DEF_FLAGS]
        if mmap_region(m, mm, old, new - old, flags, -1, old >> 12) < 0:
            return m.mm[base + MM_BRK]
        if flags & VM_LOCKED:
            mm_populate(m, mm, old, new, 1)
    m.mm[base + MM_BRK] = new_end
    return new_end


@leaf
def acct_stack_growth(m, mm, vma, address):
    """1 if the limits let the VMA grow down to address; the growth is charged then."""
    row = vma * VMA_STRIDE
    base = mm * MM_STRIDE
    grow = (m.vma[row + VMA_START] - address) >> 12
    if may_expand_vm(m, mm, m.vma[row + VMA_FLAGS], grow) == 0 or m.vma[row + VMA_END] - address > m.mm[base + MM_RLIMIT_STACK]:
        return 0
    return 1 if vm_enough_memory(m, mm, grow) == 0 else 0


@kernel
def expand_downwards(m, mm, vma, address):
    """Grow a VM_GROWSDOWN VMA down to the page of address, which lies below it: 0, or -ENOMEM by its limits or what lies within its guard gap."""
    address = address >> 12 << 12
    if address < m.sc[SC_MMAP_MIN_ADDR]:
        return -ENOMEM
    row = vma * VMA_STRIDE
    below = vma_index_find_prev(m, mm, m.vma[row + VMA_START])
    if below >= 0:
        flags, end = m.vma[below * VMA_STRIDE + VMA_FLAGS], m.vma[below * VMA_STRIDE + VMA_END]
        if end > address or (flags & VM_GROWSDOWN == 0 and flags & (VM_READ | VM_WRITE | VM_EXEC) and address - end < m.sc[SC_STACK_GUARD_GAP] << 12):
            return -ENOMEM
    if m.vma[row + VMA_ANON_VMA] < 0 and anon_vma_prepare(m, vma) < 0:
        return -ENOMEM
    grow = (m.vma[row + VMA_START] - address) >> 12
    if grow > m.vma[row + VMA_PGOFF] or acct_stack_growth(m, mm, vma, address) == 0:
        return -ENOMEM
    if vma_index_resize(m, mm, vma, address, m.vma[row + VMA_END]) < 0:
        m.sc[SC_COMMITTED_AS] -= grow
        return -ENOMEM
    m.vma[row + VMA_PGOFF] -= grow
    if m.vma[row + VMA_FLAGS] & VM_LOCKED:
        m.mm[mm * MM_STRIDE + MM_LOCKED_VM] += grow
    vm_stat_account(m, mm, m.vma[row + VMA_FLAGS], grow)
    return 0
