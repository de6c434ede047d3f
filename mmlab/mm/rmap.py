"""Reverse mapping: anon_vmas and their chains, and the walk from a page to the entries that map it.

Models: mm/rmap.c anon_vma_clone(), anon_vma_fork(), unlink_anon_vmas(), __anon_vma_prepare(), rmap_walk_anon(), rmap_walk_file(),
folio_referenced_one(), try_to_unmap_one(); mm/mmap.c find_mergeable_anon_vma(). Left out: KSM, migration entries (RMAP_MIGRATE points an entry at the new page at once).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_look_around, vma_index_find, vma_index_find_prev
from mmlab.kernels.pte import note_written, remove_rmap, walk_pmd, walk_pte
from mmlab.kernels.services import rmap_walk
from mmlab.mm.objcg import alloc_object, free_object
from mmlab.mm.swap_slots import swap_dup
from mmlab.model.const import (
    ENOMEM, RMAP_CLEAR_YOUNG, RMAP_COUNT, RMAP_DIRTY, RMAP_LOCKED, RMAP_MIGRATE, RMAP_MKCLEAN, RMAP_REFERENCED, RMAP_YOUNG, RMAP_ZEROPAGE,
)
from mmlab.model.page import (
    PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_HEAD, PG_IDLE, PG_SWAPBACKED, PG_YOUNG, page_clear, page_folio, page_index, page_mapcount,
    page_mapping, page_order, page_private, page_set, page_test, page_test_clear,
)
from mmlab.model.rows import (
    ANON_VMA_STRIDE, AVC_ANON_VMA, AVC_NEXT_FREE, AVC_NEXT_IN_ANON, AVC_NEXT_IN_VMA, AVC_OBJ, AVC_PREV_IN_ANON, AVC_STRIDE, AVC_VMA,
    AV_AVC_FIRST, AV_NEXT_FREE, AV_NUM_ACTIVE_VMAS, AV_NUM_CHILDREN, AV_OBJ, AV_PARENT, AV_REFS, AV_ROOT, CACHE_ANON_VMA,
    CACHE_ANON_VMA_CHAIN, INODE_STRIDE, I_MAP_FIRST, MM_STRIDE, MM_SWAPENTS, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_PROTNONE,
    PTE_SEEN, PTE_SHIFT, PTE_SPECIAL, PTE_SWAP, PTE_SWAP_EXCLUSIVE, PTE_WRITE, SC_ANON_VMA_FREE, SC_ANON_VMA_TOP, SC_AVC_FREE, SC_AVC_TOP,
    SC_MIGRATE_DELTA, VMA_ANON_VMA, VMA_AVC_FIRST, VMA_END, VMA_FILE, VMA_FLAGS, VMA_MAP_NEXT, VMA_MM, VMA_PGOFF, VMA_POLICY, VMA_START,
    VMA_STRIDE, VM_EXEC, VM_LOCKED, VM_RAND_READ, VM_READ, VM_SEQ_READ, VM_SHARED, VM_SOFTDIRTY, VM_WRITE, SC_ZERO_PFN,
)

ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC | VM_SOFTDIRTY


@leaf
def _anon_vma_alloc(m):
    obj = alloc_object(m, CACHE_ANON_VMA)
    if obj < 0:
        return -1
    number = m.sc[SC_ANON_VMA_FREE]
    if number:
        m.sc[SC_ANON_VMA_FREE] = m.anon_vma[number * ANON_VMA_STRIDE + AV_NEXT_FREE]
    else:
        m.sc[SC_ANON_VMA_TOP] += 1
        number = m.sc[SC_ANON_VMA_TOP]
    base = number * ANON_VMA_STRIDE
    m.anon_vma[base + AV_ROOT] = number
    m.anon_vma[base + AV_PARENT] = number
    m.anon_vma[base + AV_REFS] = 1
    m.anon_vma[base + AV_NUM_CHILDREN] = 0
    m.anon_vma[base + AV_NUM_ACTIVE_VMAS] = 0
    m.anon_vma[base + AV_AVC_FIRST] = -1
    m.anon_vma[base + AV_OBJ] = obj
    return number


@leaf
def _put_anon_vma(m, number):
    base = number * ANON_VMA_STRIDE
    m.anon_vma[base + AV_REFS] -= 1
    if m.anon_vma[base + AV_REFS] == 0:
        free_object(m, CACHE_ANON_VMA, m.anon_vma[base + AV_OBJ])
        m.anon_vma[base + AV_NEXT_FREE] = m.sc[SC_ANON_VMA_FREE]
        m.sc[SC_ANON_VMA_FREE] = number
        root = m.anon_vma[base + AV_ROOT]
        if root != number:
            root_base = root * ANON_VMA_STRIDE
            m.anon_vma[root_base + AV_REFS] -= 1
            if m.anon_vma[root_base + AV_REFS] == 0:
                free_object(m, CACHE_ANON_VMA, m.anon_vma[root_base + AV_OBJ])
                m.anon_vma[root_base + AV_NEXT_FREE] = m.sc[SC_ANON_VMA_FREE]
                m.sc[SC_ANON_VMA_FREE] = root


@kernel
def anon_vma_chain_link(m, vma, anon_vma):
    """A new chain element between a VMA and an anon_vma: 0, or -ENOMEM."""
    obj = alloc_object(m, CACHE_ANON_VMA_CHAIN)
    if obj < 0:
        return -ENOMEM
    avc = m.sc[SC_AVC_FREE]
    if avc:
        m.sc[SC_AVC_FREE] = m.avc[avc * AVC_STRIDE + AVC_NEXT_FREE]
    else:
        m.sc[SC_AVC_TOP] += 1
        avc = m.sc[SC_AVC_TOP]
    base = avc * AVC_STRIDE
    m.avc[base + AVC_VMA] = vma
    m.avc[base + AVC_ANON_VMA] = anon_vma
    m.avc[base + AVC_OBJ] = obj
    m.avc[base + AVC_NEXT_IN_VMA] = m.vma[vma * VMA_STRIDE + VMA_AVC_FIRST]
    m.vma[vma * VMA_STRIDE + VMA_AVC_FIRST] = avc
    first = m.anon_vma[anon_vma * ANON_VMA_STRIDE + AV_AVC_FIRST]
    m.avc[base + AVC_NEXT_IN_ANON] = first
    m.avc[base + AVC_PREV_IN_ANON] = -1
    if first >= 0:
        m.avc[first * AVC_STRIDE + AVC_PREV_IN_ANON] = avc
    m.anon_vma[anon_vma * ANON_VMA_STRIDE + AV_AVC_FIRST] = avc
    return 0


@kernel
def unlink_anon_vmas(m, vma):
    """Take a VMA out of all its anon_vmas; free those that nobody needs any more."""
    row = vma * VMA_STRIDE
    avc = m.vma[row + VMA_AVC_FIRST]
    while avc >= 0:
        base = avc * AVC_STRIDE
        following = m.avc[base + AVC_NEXT_IN_VMA]
        anon_vma = m.avc[base + AVC_ANON_VMA]
        before, after = m.avc[base + AVC_PREV_IN_ANON], m.avc[base + AVC_NEXT_IN_ANON]
        if before >= 0:
            m.avc[before * AVC_STRIDE + AVC_NEXT_IN_ANON] = after
        else:
            m.anon_vma[anon_vma * ANON_VMA_STRIDE + AV_AVC_FIRST] = after
        if after >= 0:
            m.avc[after * AVC_STRIDE + AVC_PREV_IN_ANON] = before
        free_object(m, CACHE_ANON_VMA_CHAIN, m.avc[base + AVC_OBJ])
        m.avc[base + AVC_NEXT_FREE] = m.sc[SC_AVC_FREE]
        m.sc[SC_AVC_FREE] = avc
        if anon_vma == m.vma[row + VMA_ANON_VMA]:
            m.anon_vma[anon_vma * ANON_VMA_STRIDE + AV_NUM_ACTIVE_VMAS] -= 1
        if m.anon_vma[anon_vma * ANON_VMA_STRIDE + AV_AVC_FIRST] < 0:
            parent = m.anon_vma[anon_vma * ANON_VMA_STRIDE + AV_PARENT]
            if parent != anon_vma:
                m.anon_vma[parent * ANON_VMA_STRIDE + AV_NUM_CHILDREN] -= 1
            _put_anon_vma(m, anon_vma)
        avc = following
    m.vma[row + VMA_AVC_FIRST] = -1
    m.vma[row + VMA_ANON_VMA] = -1
    return 0


@kernel
def anon_vma_clone(m, dst, src, may_reuse):
    """Link dst to all anon_vmas of src: 0, or -ENOMEM. may_reuse (fork): dst takes over an anon_vma that has lost its VMAs and has one child."""
    avc = m.vma[src * VMA_STRIDE + VMA_AVC_FIRST]
    while avc >= 0:
        anon_vma = m.avc[avc * AVC_STRIDE + AVC_ANON_VMA]
        if anon_vma_chain_link(m, dst, anon_vma) < 0:
            unlink_anon_vmas(m, dst)
            return -ENOMEM
        base = anon_vma * ANON_VMA_STRIDE
        if may_reuse and m.vma[dst * VMA_STRIDE + VMA_ANON_VMA] < 0 and m.vma[src * VMA_STRIDE + VMA_ANON_VMA] >= 0:
            if m.anon_vma[base + AV_NUM_CHILDREN] < 2 and m.anon_vma[base + AV_NUM_ACTIVE_VMAS] == 0:
                m.vma[dst * VMA_STRIDE + VMA_ANON_VMA] = anon_vma
        avc = m.avc[avc * AVC_STRIDE + AVC_NEXT_IN_VMA]
    if m.vma[dst * VMA_STRIDE + VMA_ANON_VMA] >= 0:
        m.anon_vma[m.vma[dst * VMA_STRIDE + VMA_ANON_VMA] * ANON_VMA_STRIDE + AV_NUM_ACTIVE_VMAS] += 1
    return 0


@kernel
def anon_vma_fork(m, vma, parent_vma):
    """A child's VMA: linked to its parent's anon_vmas and, unless one could be reused, to one of its own."""
    if m.vma[parent_vma * VMA_STRIDE + VMA_ANON_VMA] < 0:
        return 0
    m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] = -1
    if anon_vma_clone(m, vma, parent_vma, 1) < 0:
        return -ENOMEM
    if m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] >= 0:
        return 0
    own = _anon_vma_alloc(m)
    if own < 0 or anon_vma_chain_link(m, vma, own) < 0:
        unlink_anon_vmas(m, vma)
        return -ENOMEM
    parent = m.vma[parent_vma * VMA_STRIDE + VMA_ANON_VMA]
    root = m.anon_vma[parent * ANON_VMA_STRIDE + AV_ROOT]
    m.anon_vma[own * ANON_VMA_STRIDE + AV_ROOT] = root
    m.anon_vma[own * ANON_VMA_STRIDE + AV_PARENT] = parent
    m.anon_vma[root * ANON_VMA_STRIDE + AV_REFS] += 1
    m.anon_vma[parent * ANON_VMA_STRIDE + AV_NUM_CHILDREN] += 1
    m.anon_vma[own * ANON_VMA_STRIDE + AV_NUM_ACTIVE_VMAS] = 1
    m.vma[vma * VMA_STRIDE + VMA_ANON_VMA] = own
    return 0


@leaf
def chain_is_singular(m, vma):
    """1 if the VMA's chain has exactly one element."""
    avc = m.vma[vma * VMA_STRIDE + VMA_AVC_FIRST]
    return 1 if avc >= 0 and m.avc[avc * AVC_STRIDE + AVC_NEXT_IN_VMA] < 0 else 0


@leaf
def _reusable_anon_vma(m, near, a, b):
    """The anon_vma of `near` if a and b (lower, upper) could be one VMA but for it; -1."""
    lower, upper, other = a * VMA_STRIDE, b * VMA_STRIDE, near * VMA_STRIDE
    if m.vma[lower + VMA_END] != m.vma[upper + VMA_START] or m.vma[lower + VMA_POLICY] != m.vma[upper + VMA_POLICY]:
        return -1
    if m.vma[lower + VMA_FILE] != m.vma[upper + VMA_FILE] or (m.vma[lower + VMA_FLAGS] ^ m.vma[upper + VMA_FLAGS]) & ~ACCESS_FLAGS:
        return -1
    if m.vma[upper + VMA_PGOFF] != m.vma[lower + VMA_PGOFF] + ((m.vma[upper + VMA_START] - m.vma[lower + VMA_START]) >> 12):
        return -1
    if m.vma[other + VMA_ANON_VMA] >= 0 and chain_is_singular(m, near):
        return m.vma[other + VMA_ANON_VMA]
    return -1


@kernel
def anon_vma_prepare(m, vma):
    """Make sure the VMA has an anon_vma: a neighbour's if the two could merge, else a new one. 0, or -ENOMEM."""
    row = vma * VMA_STRIDE
    if m.vma[row + VMA_ANON_VMA] >= 0:
        return 0
    mm = m.vma[row + VMA_MM]
    anon_vma = -1
    after = vma_index_find(m, mm, m.vma[row + VMA_END])
    if after >= 0:
        anon_vma = _reusable_anon_vma(m, after, vma, after)
    if anon_vma < 0:
        before = vma_index_find_prev(m, mm, m.vma[row + VMA_START])
        if before >= 0:
            anon_vma = _reusable_anon_vma(m, before, before, vma)
    fresh = anon_vma < 0
    if fresh:
        anon_vma = _anon_vma_alloc(m)
        if anon_vma < 0:
            return -ENOMEM
    if anon_vma_chain_link(m, vma, anon_vma) < 0:
        if fresh:
            _put_anon_vma(m, anon_vma)
        return -ENOMEM
    m.vma[row + VMA_ANON_VMA] = anon_vma
    m.anon_vma[anon_vma * ANON_VMA_STRIDE + AV_NUM_ACTIVE_VMAS] += 1
    if fresh:
        m.anon_vma[anon_vma * ANON_VMA_STRIDE + AV_NUM_CHILDREN] += 1  # an anon_vma that is its own parent counts itself
    return 0


@leaf
def _entry_of(m, vma, pfn):
    """Slot of the entry of this VMA that maps the page, or -1."""
    row = vma * VMA_STRIDE
    vpn = (m.vma[row + VMA_START] >> 12) + page_index(m, pfn) - m.vma[row + VMA_PGOFF]
    if vpn < m.vma[row + VMA_START] >> 12 or vpn >= m.vma[row + VMA_END] >> 12:
        return -1
    mm = m.vma[row + VMA_MM]
    slot = walk_pte(m, mm, vpn)
    if slot < 0:
        slot = walk_pmd(m, mm, vpn)
        if slot < 0 or m.pt[slot] & PTE_HUGE == 0:
            return -1
    entry = m.pt[slot]
    if entry & (PTE_PRESENT | PTE_PROTNONE) == 0 or entry >> PTE_SHIFT != pfn:
        return -1
    return slot


@leaf
def _referenced(m, vma, slot, pfn):
    """folio_referenced_one(): 1 if the entry was young in a VMA whose accesses tell something. The PMD entry remembers the access."""
    entry = m.pt[slot]
    row = vma * VMA_STRIDE
    if entry & PTE_ACCESSED == 0 or m.vma[row + VMA_FLAGS] & (VM_SEQ_READ | VM_RAND_READ):
        return 0
    m.pt[slot] = entry & ~(PTE_ACCESSED | PTE_SEEN)
    if entry & PTE_HUGE == 0:
        pmd = walk_pmd(m, m.vma[row + VMA_MM], (m.vma[row + VMA_START] >> 12) + page_index(m, pfn) - m.vma[row + VMA_PGOFF])
        if entry & PTE_SEEN == 0:
            m.pt[pmd] |= PTE_ACCESSED
        reclaimer_look_around(m, vma, pmd, slot, pfn)
    return 1


@leaf
def _migrated(m, entry, flags, swapbacked):
    """remove_migration_pte(): the entry names the new place. One that a NUMA scan closed is open again, with the VMA's protection: that does
    not let write unless memory is shared and nobody has to notice."""
    entry += m.sc[SC_MIGRATE_DELTA] << PTE_SHIFT
    if entry & PTE_PROTNONE == 0 or flags & (VM_READ | VM_WRITE) == 0:
        return entry
    write = PTE_WRITE if flags & VM_SHARED and flags & VM_WRITE and swapbacked else 0
    return (entry & ~(PTE_PROTNONE | PTE_WRITE)) | PTE_PRESENT | write


@leaf
def _act(m, vma, slot, pfn, what):
    """Do `what` to one entry; what it adds to the sum."""
    entry = m.pt[slot]
    if what == RMAP_COUNT:
        return 1
    if what == RMAP_YOUNG:
        return 1 if entry & PTE_ACCESSED else 0
    if what == RMAP_REFERENCED:
        return _referenced(m, vma, slot, pfn)
    if what == RMAP_CLEAR_YOUNG:
        if entry & PTE_ACCESSED:
            m.pt[slot] = entry & ~PTE_ACCESSED
            return 1 if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & (VM_SEQ_READ | VM_RAND_READ) == 0 else 0
        return 0
    if what == RMAP_DIRTY:
        return 1 if entry & PTE_DIRTY else 0
    if what == RMAP_MKCLEAN:
        note_written(m, page_folio(m, pfn), entry)
        m.pt[slot] = entry & ~(PTE_DIRTY | PTE_WRITE)
        return 1 if entry & PTE_DIRTY else 0
    if what == RMAP_LOCKED:
        return 1 if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED else 0
    if what == RMAP_MIGRATE:
        m.pt[slot] = _migrated(m, entry, m.vma[vma * VMA_STRIDE + VMA_FLAGS], page_test(m, pfn, PG_SWAPBACKED))
        return 1
    mm = m.vma[vma * VMA_STRIDE + VMA_MM]
    if what == RMAP_ZEROPAGE:
        if m.vma[vma * VMA_STRIDE + VMA_FLAGS] & VM_LOCKED:
            return 0
        m.pt[slot] = (m.sc[SC_ZERO_PFN] << PTE_SHIFT) | PTE_PRESENT | PTE_ACCESSED | PTE_SPECIAL
        remove_rmap(m, mm, pfn)
        return 1
    if entry & PTE_DIRTY:
        page_set(m, page_folio(m, pfn), PG_DIRTY)
        note_written(m, page_folio(m, pfn), entry)
    if page_test(m, pfn, PG_ANON) and page_test(m, pfn, PG_SWAPBACKED):
        head = page_folio(m, pfn)
        swap = page_private(m, head) + pfn - head
        swap_dup(m, swap)
        m.mm[mm * MM_STRIDE + MM_SWAPENTS] += 1
        m.pt[slot] = (swap << PTE_SHIFT) | PTE_SWAP | (PTE_SWAP_EXCLUSIVE if page_test(m, pfn, PG_ANON_EXCLUSIVE) else 0)
    else:
        m.pt[slot] = 0
    remove_rmap(m, mm, pfn)
    return 1


@kernel
def _act_on_large(m, vma, head, nr, what):
    """_act() on every entry of this VMA that maps something of a large folio; their sum."""
    row = vma * VMA_STRIDE
    mm = m.vma[row + VMA_MM]
    start = (m.vma[row + VMA_START] >> 12) + page_index(m, head) - m.vma[row + VMA_PGOFF]
    vpn = max(start, m.vma[row + VMA_START] >> 12)
    end = min(start + nr, m.vma[row + VMA_END] >> 12)
    total = 0
    while vpn < end:
        pmd = walk_pmd(m, mm, vpn)
        if pmd >= 0 and m.pt[pmd] & PTE_HUGE:
            if m.pt[pmd] >> PTE_SHIFT == head and m.pt[pmd] & PTE_SPECIAL == 0:
                total += _act(m, vma, pmd, head, what)
            vpn = ((vpn >> 9) + 1) << 9
            continue
        slot = walk_pte(m, mm, vpn)
        if slot >= 0:
            entry = m.pt[slot]
            if entry & (PTE_PRESENT | PTE_PROTNONE) and entry >> PTE_SHIFT == head + vpn - start and entry & PTE_SWAP == 0:
                total += _act(m, vma, slot, head + vpn - start, what)
        vpn += 1
    return total


@kernel
def _walk_large(m, head, what):
    nr = 1 << page_order(m, head)
    total = 0
    if page_test(m, head, PG_ANON):
        avc = m.anon_vma[page_mapping(m, head) * ANON_VMA_STRIDE + AV_AVC_FIRST]
        while avc >= 0:
            total += _act_on_large(m, m.avc[avc * AVC_STRIDE + AVC_VMA], head, nr, what)
            avc = m.avc[avc * AVC_STRIDE + AVC_NEXT_IN_ANON]
        return total
    vma = m.inode[page_mapping(m, head) * INODE_STRIDE + I_MAP_FIRST]
    while vma >= 0:
        total += _act_on_large(m, vma, head, nr, what)
        vma = m.vma[vma * VMA_STRIDE + VMA_MAP_NEXT]
    return total


@kernel
def do_rmap_walk(m, pfn, what):
    """Service rmap_walk: `what` (RMAP_*) for every entry that maps the folio; the sum. RMAP_UNMAP of an anonymous one needs its swap slots.

    PMDs that map a folio must be split before RMAP_UNMAP.
    """
    left = page_mapcount(m, pfn)
    total = 0
    if left == 0:
        return 0
    if page_test(m, pfn, PG_HEAD):
        return _walk_large(m, pfn, what)
    if page_test(m, pfn, PG_ANON):
        avc = m.anon_vma[page_mapping(m, pfn) * ANON_VMA_STRIDE + AV_AVC_FIRST]
        while avc >= 0 and left > 0:
            vma = m.avc[avc * AVC_STRIDE + AVC_VMA]
            slot = _entry_of(m, vma, pfn)
            if slot >= 0:
                total += _act(m, vma, slot, pfn, what)
                left -= 1
            avc = m.avc[avc * AVC_STRIDE + AVC_NEXT_IN_ANON]
        return total
    vma = m.inode[page_mapping(m, pfn) * INODE_STRIDE + I_MAP_FIRST]
    while vma >= 0 and left > 0:
        slot = _entry_of(m, vma, pfn)
        if slot >= 0:
            total += _act(m, vma, slot, pfn, what)
            left -= 1
        vma = m.vma[vma * VMA_STRIDE + VMA_MAP_NEXT]
    return total


@kernel
def folio_referenced(m, pfn):
    """Service folio_referenced: young PTEs cleared and counted, with what kind of VMAs map the page."""
    if page_mapcount(m, pfn) == 0:
        return 0
    kinds = 0
    if page_test(m, pfn, PG_ANON) == 0:
        vma = m.inode[page_mapping(m, pfn) * INODE_STRIDE + I_MAP_FIRST]
        while vma >= 0:
            kinds |= m.vma[vma * VMA_STRIDE + VMA_FLAGS]
            vma = m.vma[vma * VMA_STRIDE + VMA_MAP_NEXT]
    else:
        avc = m.anon_vma[page_mapping(m, pfn) * ANON_VMA_STRIDE + AV_AVC_FIRST]
        kinds = m.vma[m.avc[avc * AVC_STRIDE + AVC_VMA] * VMA_STRIDE + VMA_FLAGS] if avc >= 0 else 0
    young = rmap_walk(m, pfn, RMAP_REFERENCED)
    if young:
        page_clear(m, pfn, PG_IDLE)
    if page_test_clear(m, pfn, PG_YOUNG):
        young += 1  # a monitor took the accessed bit
    return young | ((1 << 16) if kinds & VM_EXEC else 0) | ((1 << 17) if kinds & VM_LOCKED else 0)
