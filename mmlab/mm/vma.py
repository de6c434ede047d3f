"""VMAs: rows of m.vma, their books, splitting and merging.

Models: mm/vma.c __split_vma(), vma_merge_new_range(), vma_merge_existing_range(), vma_modify(); mm/mmap.c vm_stat_account().
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import vma_index_erase, vma_index_find, vma_index_find_prev, vma_index_insert, vma_index_resize
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import split_huge_pmd
from mmlab.mm.files import file_close
from mmlab.mm.objcg import alloc_object, free_object
from mmlab.mm.rmap import anon_vma_clone, chain_is_singular, unlink_anon_vmas
from mmlab.model.const import ENOMEM
from mmlab.model.rows import (
    CACHE_VMA_LOCK, CACHE_VM_AREA_STRUCT, FILE_STRIDE, F_USERS, INODE_STRIDE, I_MAP_FIRST, MM_DATA_VM, MM_EXEC_VM, MM_MAP_COUNT,
    MM_STACK_VM, MM_STRIDE, MM_TOTAL_VM, PTE_HUGE, SC_MAX_MAP_COUNT, SC_VMA_FREE, SC_VMA_TOP, VMA_ANON_VMA, VMA_AVC_FIRST, VMA_END,
    VMA_FILE, VMA_FLAGS, VMA_INODE, VMA_LOCK_OBJ, VMA_MAP_NEXT, VMA_MAP_PREV, VMA_MM, VMA_NAME, VMA_NEXT_FREE, VMA_OBJ, VMA_PGOFF,
    VMA_POLICY, VMA_RA_ADDR, VMA_RA_HITS, VMA_RA_WIN, VMA_START, VMA_STRIDE, VM_EXEC, VM_GROWSDOWN, VM_SHARED, VM_SOFTDIRTY, VM_SPECIAL,
    VM_WRITE,
)


@kernel
def vm_area_alloc(m, mm):
    """A blank VMA row with its slab objects: its number, or -ENOMEM."""
    obj = alloc_object(m, CACHE_VM_AREA_STRUCT)
    if obj < 0:
        return -ENOMEM
    lock = alloc_object(m, CACHE_VMA_LOCK)
    if lock < 0:
        free_object(m, CACHE_VM_AREA_STRUCT, obj)
        return -ENOMEM
    vma = m.sc[SC_VMA_FREE]
    if vma:
        m.sc[SC_VMA_FREE] = m.vma[vma * VMA_STRIDE + VMA_NEXT_FREE]
    else:
        m.sc[SC_VMA_TOP] += 1
        vma = m.sc[SC_VMA_TOP]
    row = vma * VMA_STRIDE
    for field in range(VMA_STRIDE):
        m.vma[row + field] = 0
    m.vma[row + VMA_MM] = mm
    m.vma[row + VMA_FILE] = m.vma[row + VMA_INODE] = m.vma[row + VMA_ANON_VMA] = m.vma[row + VMA_AVC_FIRST] = -1
    m.vma[row + VMA_MAP_NEXT] = m.vma[row + VMA_MAP_PREV] = -1
    m.vma[row + VMA_OBJ] = obj
    m.vma[row + VMA_LOCK_OBJ] = lock
    m.vma[row + VMA_RA_HITS] = 4
    return vma


@kernel
def vm_area_free(m, vma):
    """Give a VMA row and its objects back; it is in no index and no list of its file any more."""
    row = vma * VMA_STRIDE
    free_object(m, CACHE_VM_AREA_STRUCT, m.vma[row + VMA_OBJ])
    free_object(m, CACHE_VMA_LOCK, m.vma[row + VMA_LOCK_OBJ])
    m.vma[row + VMA_MM] = -1
    m.vma[row + VMA_NEXT_FREE] = m.sc[SC_VMA_FREE]
    m.sc[SC_VMA_FREE] = vma
    return 0


@leaf
def vm_stat_account(m, mm, flags, pages):
    """Books of the address space: total, stack, code, data."""
    base = mm * MM_STRIDE
    m.mm[base + MM_TOTAL_VM] += pages
    if flags & VM_GROWSDOWN:
        m.mm[base + MM_STACK_VM] += pages
    elif flags & (VM_EXEC | VM_WRITE) == VM_EXEC:
        m.mm[base + MM_EXEC_VM] += pages
    elif flags & (VM_WRITE | VM_SHARED) == VM_WRITE:
        m.mm[base + MM_DATA_VM] += pages


@leaf
def i_mmap_insert(m, vma):
    """Put a file VMA on its inode's list, and count the open file."""
    row = vma * VMA_STRIDE
    inode = m.vma[row + VMA_INODE]
    if inode >= 0:
        first = m.inode[inode * INODE_STRIDE + I_MAP_FIRST]
        m.vma[row + VMA_MAP_NEXT] = first
        m.vma[row + VMA_MAP_PREV] = -1
        if first >= 0:
            m.vma[first * VMA_STRIDE + VMA_MAP_PREV] = vma
        m.inode[inode * INODE_STRIDE + I_MAP_FIRST] = vma
        m.file[m.vma[row + VMA_FILE] * FILE_STRIDE + F_USERS] += 1


@kernel
def i_mmap_remove(m, vma):
    """Take a file VMA off its inode's list, and drop the open file."""
    row = vma * VMA_STRIDE
    inode = m.vma[row + VMA_INODE]
    if inode >= 0:
        before, after = m.vma[row + VMA_MAP_PREV], m.vma[row + VMA_MAP_NEXT]
        if before >= 0:
            m.vma[before * VMA_STRIDE + VMA_MAP_NEXT] = after
        else:
            m.inode[inode * INODE_STRIDE + I_MAP_FIRST] = after
        if after >= 0:
            m.vma[after * VMA_STRIDE + VMA_MAP_PREV] = before
        file_close(m, m.vma[row + VMA_FILE])
    return 0


@kernel
def vma_link(m, vma):
    """Store a VMA in its address space's index and its file's list: 0, or -ENOMEM."""
    mm = m.vma[vma * VMA_STRIDE + VMA_MM]
    if vma_index_insert(m, mm, vma) < 0:
        return -ENOMEM
    i_mmap_insert(m, vma)
    m.mm[mm * MM_STRIDE + MM_MAP_COUNT] += 1
    return 0


@kernel
def vma_unlink(m, vma):
    """Remove a VMA from everything and free it. Its pages are unmapped already."""
    mm = m.vma[vma * VMA_STRIDE + VMA_MM]
    vma_index_erase(m, mm, vma)
    i_mmap_remove(m, vma)
    unlink_anon_vmas(m, vma)
    m.mm[mm * MM_STRIDE + MM_MAP_COUNT] -= 1
    return vm_area_free(m, vma)


@leaf
def _split_pmd_at(m, mm, address):
    """A boundary inside a huge PMD splits it."""
    if address & 0x1FFFFF:
        pmd = walk_pmd(m, mm, address >> 12)
        if pmd >= 0 and m.pt[pmd] & PTE_HUGE:
            split_huge_pmd(m, mm, pmd)


@kernel
def split_vma(m, vma, address):
    """Cut a VMA in two at address: the number of the upper part, or -ENOMEM (also beyond max_map_count)."""
    row = vma * VMA_STRIDE
    mm = m.vma[row + VMA_MM]
    if m.mm[mm * MM_STRIDE + MM_MAP_COUNT] >= m.sc[SC_MAX_MAP_COUNT]:
        return -ENOMEM
    upper = vm_area_alloc(m, mm)
    if upper < 0:
        return -ENOMEM
    new = upper * VMA_STRIDE
    m.vma[new + VMA_START] = address
    m.vma[new + VMA_END] = m.vma[row + VMA_END]
    m.vma[new + VMA_FLAGS] = m.vma[row + VMA_FLAGS]
    m.vma[new + VMA_PGOFF] = m.vma[row + VMA_PGOFF] + ((address - m.vma[row + VMA_START]) >> 12)
    m.vma[new + VMA_FILE] = m.vma[row + VMA_FILE]
    m.vma[new + VMA_INODE] = m.vma[row + VMA_INODE]
    m.vma[new + VMA_POLICY] = m.vma[row + VMA_POLICY]
    m.vma[new + VMA_NAME] = m.vma[row + VMA_NAME]
    m.vma[new + VMA_RA_ADDR] = m.vma[row + VMA_RA_ADDR]
    m.vma[new + VMA_RA_WIN] = m.vma[row + VMA_RA_WIN]
    m.vma[new + VMA_RA_HITS] = m.vma[row + VMA_RA_HITS]
    m.vma[new + VMA_ANON_VMA] = m.vma[row + VMA_ANON_VMA]
    if anon_vma_clone(m, upper, vma, 0) < 0:
        vm_area_free(m, upper)
        return -ENOMEM
    _split_pmd_at(m, mm, address)
    end = m.vma[row + VMA_END]
    if vma_index_resize(m, mm, vma, m.vma[row + VMA_START], address) < 0:
        unlink_anon_vmas(m, upper)
        vm_area_free(m, upper)
        return -ENOMEM
    if vma_link(m, upper) < 0:
        vma_index_resize(m, mm, vma, m.vma[row + VMA_START], end)
        unlink_anon_vmas(m, upper)
        vm_area_free(m, upper)
        return -ENOMEM
    return upper


@leaf
def is_mergeable(m, near, flags, file, policy):
    """1 if a neighbour has the same file, policy and flags (soft-dirty aside), and is not special."""
    row = near * VMA_STRIDE
    if (m.vma[row + VMA_FLAGS] ^ flags) & ~VM_SOFTDIRTY or flags & VM_SPECIAL:
        return 0
    return 1 if m.vma[row + VMA_FILE] == file and m.vma[row + VMA_POLICY] == policy else 0


@leaf
def is_mergeable_anon_vma(m, anon_vma, near):
    """The anon_vma rule: equal, or one is missing and the neighbour's chain is singular."""
    other = m.vma[near * VMA_STRIDE + VMA_ANON_VMA]
    if (anon_vma < 0 or other < 0) and chain_is_singular(m, near):
        return 1
    return 1 if anon_vma == other else 0


@leaf
def can_merge_below(m, mm, address, flags, anon_vma, file, pgoff, policy):
    """The VMA that ends at address and could take in what begins there; -1."""
    below = vma_index_find_prev(m, mm, address)
    if below < 0:
        return -1
    row = below * VMA_STRIDE
    if m.vma[row + VMA_END] != address or is_mergeable(m, below, flags, file, policy) == 0 or is_mergeable_anon_vma(m, anon_vma, below) == 0:
        return -1
    if m.vma[row + VMA_PGOFF] + ((address - m.vma[row + VMA_START]) >> 12) != pgoff:
        return -1
    return below


@leaf
def can_merge_above(m, mm, address, flags, anon_vma, file, pgoff, policy):
    """The VMA that starts at address and could take in what ends there; pgoff is that of address in the lower mapping; -1."""
    above = vma_index_find(m, mm, address)
    if above < 0:
        return -1
    row = above * VMA_STRIDE
    if m.vma[row + VMA_START] != address or is_mergeable(m, above, flags, file, policy) == 0 or is_mergeable_anon_vma(m, anon_vma, above) == 0:
        return -1
    return above if m.vma[row + VMA_PGOFF] == pgoff else -1


@leaf
def _adopt_anon_vma(m, into, source):
    """A merged VMA without an anon_vma takes over the chain of the other."""
    if source >= 0 and m.vma[into * VMA_STRIDE + VMA_ANON_VMA] < 0 and m.vma[source * VMA_STRIDE + VMA_ANON_VMA] >= 0:
        m.vma[into * VMA_STRIDE + VMA_ANON_VMA] = m.vma[source * VMA_STRIDE + VMA_ANON_VMA]
        anon_vma_clone(m, into, source, 0)


@leaf
def _both_compatible(m, below, above):
    """1 if the neighbours of a hole could be one VMA."""
    a, b = m.vma[below * VMA_STRIDE + VMA_ANON_VMA], m.vma[above * VMA_STRIDE + VMA_ANON_VMA]
    return 1 if a == b or ((a < 0 or b < 0) and (chain_is_singular(m, below) or chain_is_singular(m, above))) else 0


@kernel
def vma_merge_new_range(m, mm, start, end, flags, anon_vma, file, pgoff, policy, but):
    """Let a new mapping be part of its neighbours, `but` not among them: the VMA that now covers it, or -1."""
    below = can_merge_below(m, mm, start, flags, anon_vma, file, pgoff, policy)
    above = can_merge_above(m, mm, end, flags, anon_vma, file, pgoff + ((end - start) >> 12), policy)
    if but >= 0:
        below = -1 if below == but else below
        above = -1 if above == but else above
    if below >= 0 and above >= 0 and _both_compatible(m, below, above):
        upper_end = m.vma[above * VMA_STRIDE + VMA_END]
        _adopt_anon_vma(m, below, above)
        vma_unlink(m, above)
        vma_index_resize(m, mm, below, m.vma[below * VMA_STRIDE + VMA_START], upper_end)
        return below
    if below >= 0:
        vma_index_resize(m, mm, below, m.vma[below * VMA_STRIDE + VMA_START], end)
        return below
    if above >= 0:
        m.vma[above * VMA_STRIDE + VMA_PGOFF] = pgoff
        vma_index_resize(m, mm, above, start, m.vma[above * VMA_STRIDE + VMA_END])
        return above
    return -1


@kernel
def vma_modify(m, vma, start, end, flags, policy):
    """[start, end) of a VMA gets these flags and policy: merged with neighbours, or split off. The VMA that covers it now, or -ENOMEM."""
    row = vma * VMA_STRIDE
    mm = m.vma[row + VMA_MM]
    file, anon_vma = m.vma[row + VMA_FILE], m.vma[row + VMA_ANON_VMA]
    low, high = m.vma[row + VMA_START], m.vma[row + VMA_END]
    pgoff = m.vma[row + VMA_PGOFF] + ((start - low) >> 12)
    below = can_merge_below(m, mm, start, flags, anon_vma, file, pgoff, policy) if start == low else -1
    above = can_merge_above(m, mm, end, flags, anon_vma, file, pgoff + ((end - start) >> 12), policy) if end == high else -1
    if below >= 0 and above >= 0 and _both_compatible(m, below, above):
        upper_end = m.vma[above * VMA_STRIDE + VMA_END]
        _adopt_anon_vma(m, below, vma)
        _adopt_anon_vma(m, below, above)
        vma_unlink(m, vma)
        vma_unlink(m, above)
        vma_index_resize(m, mm, below, m.vma[below * VMA_STRIDE + VMA_START], upper_end)
        return below
    if below >= 0:
        _adopt_anon_vma(m, below, vma)
        if end == high:
            vma_unlink(m, vma)
        else:
            _split_pmd_at(m, mm, end)
            m.vma[row + VMA_PGOFF] += (end - start) >> 12
            vma_index_resize(m, mm, vma, end, high)
        vma_index_resize(m, mm, below, m.vma[below * VMA_STRIDE + VMA_START], end)
        return below
    if above >= 0:
        _adopt_anon_vma(m, above, vma)
        upper_end = m.vma[above * VMA_STRIDE + VMA_END]
        if start == low:
            vma_unlink(m, vma)
        else:
            _split_pmd_at(m, mm, start)
            vma_index_resize(m, mm, vma, low, start)
        m.vma[above * VMA_STRIDE + VMA_PGOFF] = pgoff
        vma_index_resize(m, mm, above, start, upper_end)
        return above
    target = vma
    if start > low:
        target = split_vma(m, vma, start)
        if target < 0:
            return -ENOMEM
    if end < high and split_vma(m, target, end) < 0:
        return -ENOMEM
    m.vma[target * VMA_STRIDE + VMA_FLAGS] = flags
    m.vma[target * VMA_STRIDE + VMA_POLICY] = policy
    return target
