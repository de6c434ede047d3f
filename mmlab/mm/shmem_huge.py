"""Huge pages of swap-backed files: when they are made, how they are mapped, cut and put together.

Models: mm/shmem.c shmem_huge_global_enabled(), shmem_allowable_huge_orders(), shmem_alloc_and_add_folio(), shmem_get_unmapped_area();
mm/memory.c do_set_pmd(); mm/khugepaged.c collapse_file(), retract_page_tables(), collapse_pte_mapped_thp(). The cache's tree has an entry a
page. Left out: sizes below 2 MiB, the list of huge pages that reach beyond a file's end.
"""

from mmlab.kernels.dirty import folio_mark_dirty
from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.large_folio import folio_add_rmap_pmd
from mmlab.kernels.ops import reclaimer_folio_added, thp_fault_gfp
from mmlab.kernels.page_class import set_page_class
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import alloc_pages, folio_put, free_pages, rmap_walk, shmem_get_page, xa_store
from mmlab.kernels.zones import page_node
from mmlab.mm.collapse_node import add_node_load, alloc_collapse_pages, reset_node_load
from mmlab.mm.huge_memory import make_large_folio
from mmlab.mm.mempolicy import alloc_pages_mpol, shmem_interleave_index
from mmlab.mm.page_cache import filemap_get_page, filemap_remove
from mmlab.mm.page_counter import current_memcg, mem_cgroup_charge
from mmlab.mm.pgtable import free_table, pmd_alloc
from mmlab.mm.shared_policy import shmem_policy
from mmlab.mm.shmem import shmem_acct_blocks
from mmlab.mm.xarray import XA_PAGE, XA_VALUE, entry_is, xa_load, xa_next
from mmlab.model.const import (
    ENOMEM, HPAGE_PMD_NR, HPAGE_PMD_ORDER, RMAP_UNMAP, SCAN_ALLOC_HUGE_PAGE_FAIL, SCAN_EXCEED_NONE_PTE, SCAN_EXCEED_SWAP_PTE, SCAN_FAIL,
    SCAN_PAGE_COUNT, SCAN_PMD_MAPPED, SCAN_SCAN_ABORT, SCAN_SUCCEED, VM_FAULT_SIGBUS, WRITE,
)
from mmlab.model.page import (
    KIND_SHMEM, NO_MAPPING, PG_DIRTY, PG_HEAD, PG_SWAPBACKED, PG_TAIL, PG_UPTODATE, add_refs, page_folio, page_index, page_mapping,
    page_order, page_refs, page_set, page_test, set_page_index, set_page_kind, set_page_mapping,
)
from mmlab.model.rows import (
    CLASS_ZERO, COST_COPY_PAGE, COST_HUGE_ZERO, IF_ANON_SHMEM, IF_MNT, IF_SHMEM, INODE_STRIDE, I_FLAGS, I_MAP_FIRST, I_SIZE_BYTES,
    MTHP_SHMEM_ALLOC, MTHP_SHMEM_FALLBACK, MTHP_STRIDE, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_PRESENT, PTE_SHIFT, PTE_WRITE, SC_NOW_NS,
    SC_NR_NODES, SC_SHMEM_HUGE, SC_SHMEM_MOUNT_HUGE, SC_TMPFS_HUGE, VMA_ANON_VMA, VMA_END, VMA_FLAGS, VMA_INODE, VMA_MAP_NEXT, VMA_MM, VMA_PGOFF,
    VMA_START, VMA_STRIDE, VM_HUGEPAGE, VM_NOHUGEPAGE, VM_SHARED, VM_WRITE,
)
from mmlab.model.vmstat import (
    V_NR_FILE_PAGES, V_NR_SHMEM, V_NR_SHMEM_HUGEPAGES, V_THP_COLLAPSE_ALLOC, V_THP_COLLAPSE_ALLOC_FAILED, V_THP_FILE_ALLOC,
    V_THP_FILE_FALLBACK, V_THP_FILE_MAPPED, V_THP_SCAN_EXCEED_NONE_PTE, V_THP_SCAN_EXCEED_SWAP_PTE, mod_node_state,
)

# m.sc[SC_SHMEM_HUGE], what shmem_enabled says; SC_SHMEM_MOUNT_HUGE: the last value that was not deny or force, which shared anonymous memory goes by;
# SC_TMPFS_HUGE: the huge= option of the mounted tmpfs, which its files go by
SHMEM_HUGE_NEVER, SHMEM_HUGE_ALWAYS, SHMEM_HUGE_WITHIN_SIZE, SHMEM_HUGE_ADVISE, SHMEM_HUGE_DENY, SHMEM_HUGE_FORCE = 0, 1, 2, 3, -1, -2


@leaf
def shmem_mount_huge(m, flags):
    """huge= of the mount that a swap-backed file with these I_FLAGS is on."""
    if flags & IF_ANON_SHMEM:
        return m.sc[SC_SHMEM_MOUNT_HUGE]
    return m.sc[SC_TMPFS_HUGE] if flags & IF_MNT else SHMEM_HUGE_NEVER


@leaf
def shmem_huge_allowed(m, inode, index, vm_flags, write_end, force):
    """1 if the settings let the page at an index of a swap-backed file be huge. write_end: byte of the file behind a write(), else 0; force:
    MADV_COLLAPSE, which only deny stops."""
    if m.sc[SC_SHMEM_HUGE] == SHMEM_HUGE_DENY or vm_flags & VM_NOHUGEPAGE:
        return 0
    if force or m.sc[SC_SHMEM_HUGE] == SHMEM_HUGE_FORCE:
        return 1
    mode = shmem_mount_huge(m, m.inode[inode * INODE_STRIDE + I_FLAGS])
    if mode == SHMEM_HUGE_ALWAYS:
        return 1
    end = max(write_end, m.inode[inode * INODE_STRIDE + I_SIZE_BYTES])
    if mode == SHMEM_HUGE_WITHIN_SIZE and ((index >> HPAGE_PMD_ORDER) + 1) << HPAGE_PMD_ORDER <= (end + 4095) >> 12:
        return 1
    return 1 if mode in (SHMEM_HUGE_WITHIN_SIZE, SHMEM_HUGE_ADVISE) and vm_flags & VM_HUGEPAGE else 0


@leaf
def suitable(m, vma, vpn):
    """1 if the aligned 2 MiB around vpn lies inside the VMA, and is aligned in the file as well."""
    row = vma * VMA_STRIDE
    start = m.vma[row + VMA_START] >> 12
    first = vpn >> HPAGE_PMD_ORDER << HPAGE_PMD_ORDER
    if (start - m.vma[row + VMA_PGOFF]) & (HPAGE_PMD_NR - 1):
        return 0
    return 1 if first >= start and first + HPAGE_PMD_NR <= m.vma[row + VMA_END] >> 12 else 0


@kernel
def thp_eligible_shmem(m, vma):
    """1 if shmem_enabled says huge for a VMA over a swap-backed file, and an aligned block of two pages or more lies in it (no larger one: as
    Linux has it, the size that fits is not that which is allowed)."""
    row = vma * VMA_STRIDE
    inode = m.vma[row + VMA_INODE]
    start, end = m.vma[row + VMA_START] >> 12, m.vma[row + VMA_END] >> 12
    if m.inode[inode * INODE_STRIDE + I_FLAGS] & IF_SHMEM == 0 or (start - m.vma[row + VMA_PGOFF]) & 1 or ((end - 2) >> 1 << 1) < start:
        return 0
    return shmem_huge_allowed(m, inode, m.vma[row + VMA_PGOFF], m.vma[row + VMA_FLAGS], 0, 0)


@kernel
def _new_huge(m, gfp, head):
    """A block of 2 MiB becomes a huge folio of a file, in no cache yet, with one reference: its head, or -ENOMEM. head: < 0 if there is none."""
    if head < 0:
        return -ENOMEM
    if mem_cgroup_charge(m, head, current_memcg(m), gfp, 1 << HPAGE_PMD_ORDER) < 0:
        free_pages(m, head, HPAGE_PMD_ORDER)
        return -ENOMEM
    page_set(m, head, PG_SWAPBACKED | PG_UPTODATE)
    set_page_class(m, head, CLASS_ZERO)
    set_page_kind(m, head, KIND_SHMEM)
    make_large_folio(m, head, HPAGE_PMD_ORDER, PG_SWAPBACKED | PG_UPTODATE, KIND_SHMEM)
    add_refs(m, head, 1)
    m.sc[SC_NOW_NS] += m.cost[COST_HUGE_ZERO]
    return head


@kernel
def _add_huge(m, inode, first, head):
    """Put a huge folio into the cache, which is empty there; the reference becomes the cache's. 0, or -ENOMEM with nothing changed."""
    for i in range(HPAGE_PMD_NR):
        if xa_store(m, inode, first + i, ((head + i) << 2) | XA_PAGE) < 0:
            for undo in range(i):
                xa_store(m, inode, first + undo, 0)
            return -ENOMEM
    set_page_mapping(m, head, inode)
    set_page_index(m, head, first)
    node = page_node(m, head)
    mod_node_state(m, node, V_NR_FILE_PAGES, HPAGE_PMD_NR)
    mod_node_state(m, node, V_NR_SHMEM, HPAGE_PMD_NR)
    mod_node_state(m, node, V_NR_SHMEM_HUGEPAGES, 1)
    shmem_acct_blocks(m, inode, HPAGE_PMD_NR)
    reclaimer_folio_added(m, head)
    return 0


@kernel
def shmem_remove_huge(m, head):
    """A huge folio that nobody maps leaves its file's cache, and is freed unless something holds it."""
    inode, first = page_mapping(m, head), page_index(m, head)
    for i in range(HPAGE_PMD_NR):
        xa_store(m, inode, first + i, 0)
    node = page_node(m, head)
    mod_node_state(m, node, V_NR_FILE_PAGES, -HPAGE_PMD_NR)
    mod_node_state(m, node, V_NR_SHMEM, -HPAGE_PMD_NR)
    mod_node_state(m, node, V_NR_SHMEM_HUGEPAGES, -1)
    shmem_acct_blocks(m, inode, -HPAGE_PMD_NR)
    set_page_mapping(m, head, NO_MAPPING)
    folio_put(m, head)
    return 0


@kernel
def shmem_alloc_huge(m, mm, inode, index, vma, vpn, write_end):
    """The huge page around an index of which nothing exists yet, if settings and VMA want one: its head, or -1.

    vma -1: for a write() whose last byte is before write_end.
    """
    first = index >> HPAGE_PMD_ORDER << HPAGE_PMD_ORDER
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS] if vma >= 0 else 0
    if shmem_huge_allowed(m, inode, index, flags, write_end, 0) == 0 or (vma >= 0 and suitable(m, vma, vpn) == 0):
        return -1
    present = xa_next(m, inode, first)
    if present >= 0 and present < first + HPAGE_PMD_NR:
        return -1
    gfp = thp_fault_gfp(m, mm, vma, HPAGE_PMD_ORDER)
    if m.sc[SC_NR_NODES] > 1:
        place = shmem_interleave_index(m, inode, index, HPAGE_PMD_ORDER)
        head = alloc_pages_mpol(m, gfp, HPAGE_PMD_ORDER, shmem_policy(m, inode, index), place)
    else:
        head = alloc_pages(m, gfp, HPAGE_PMD_ORDER, -1)
    head = _new_huge(m, gfp, head)
    if head < 0 or _add_huge(m, inode, first, head) < 0:
        if head >= 0:
            folio_put(m, head)
        m.vmstat[V_THP_FILE_FALLBACK] += 1
        m.mthp[HPAGE_PMD_ORDER * MTHP_STRIDE + MTHP_SHMEM_FALLBACK] += 1
        return -1
    m.vmstat[V_THP_FILE_ALLOC] += 1
    m.mthp[HPAGE_PMD_ORDER * MTHP_STRIDE + MTHP_SHMEM_ALLOC] += 1
    return head


@kernel
def do_set_pmd(m, mm, vma, vpn, head, access):
    """Map a huge folio of a file over the empty PMD around vpn: 0, or -1 if it does not fit there."""
    flags = m.vma[vma * VMA_STRIDE + VMA_FLAGS]
    if flags & VM_NOHUGEPAGE or page_order(m, head) != HPAGE_PMD_ORDER or suitable(m, vma, vpn) == 0:
        return -1
    pmd = pmd_alloc(m, mm, vpn)
    if pmd < 0 or m.pt[pmd]:
        return -1
    folio_add_rmap_pmd(m, mm, head)
    entry = (head << PTE_SHIFT) | PTE_PRESENT | PTE_HUGE | PTE_ACCESSED
    if flags & VM_SHARED and flags & VM_WRITE:
        entry |= PTE_WRITE
        if access == WRITE:
            entry |= PTE_DIRTY
            folio_mark_dirty(m, head)
    m.pt[pmd] = entry
    m.vmstat[V_THP_FILE_MAPPED] += 1
    return 0


@kernel
def do_huge_pmd_shmem_fault(m, mm, vma, vpn, access):
    """Service: a fault on an empty PMD of a swap-backed file: a huge page that is there, or can be made, is mapped (VM_FAULT_* bits); -1: not so."""
    row = vma * VMA_STRIDE
    inode = m.vma[row + VMA_INODE]
    flags = m.vma[row + VMA_FLAGS]
    if m.inode[inode * INODE_STRIDE + I_FLAGS] & IF_SHMEM == 0 or (access == WRITE and flags & VM_SHARED == 0):
        return -1
    index = vpn - (m.vma[row + VMA_START] >> 12) + m.vma[row + VMA_PGOFF]
    if index >= (m.inode[inode * INODE_STRIDE + I_SIZE_BYTES] + 4095) >> 12:
        return VM_FAULT_SIGBUS
    pfn = filemap_get_page(m, inode, index)
    if pfn < 0:
        pfn = shmem_alloc_huge(m, mm, inode, index, vma, vpn, 0)
    if pfn < 0 or page_test(m, pfn, PG_HEAD | PG_TAIL) == 0:
        return -1
    return do_set_pmd(m, mm, vma, vpn, page_folio(m, pfn), access)


# collapsing ---------------------------------------------------------------------------------------------------------------------------------
@kernel
def scan_file(m, inode, first, max_ptes_none, max_ptes_swap):
    """May the 512 pages from index `first` on become one: SCAN_SUCCEED, SCAN_PMD_MAPPED if they are, or why not."""
    pfn = filemap_get_page(m, inode, first)
    if pfn >= 0 and page_test(m, pfn, PG_HEAD) and page_order(m, pfn) == HPAGE_PMD_ORDER:
        return SCAN_PMD_MAPPED
    none = swapped = 0
    reset_node_load(m)
    for index in range(first, first + HPAGE_PMD_NR):
        entry = xa_load(m, inode, index)
        if entry_is(entry, XA_VALUE):
            swapped += 1
        elif entry == 0:
            none += 1
        elif add_node_load(m, entry >> 2) == 0:
            return SCAN_SCAN_ABORT
        elif page_refs(m, entry >> 2) > 1:
            return SCAN_PAGE_COUNT
    if swapped > max_ptes_swap:
        m.vmstat[V_THP_SCAN_EXCEED_SWAP_PTE] += 1
        return SCAN_EXCEED_SWAP_PTE
    if none > max_ptes_none:
        m.vmstat[V_THP_SCAN_EXCEED_NONE_PTE] += 1
        return SCAN_EXCEED_NONE_PTE
    return SCAN_SUCCEED


@kernel
def collapse_file(m, inode, first, gfp):
    """Put a huge folio in place of the 512 pages from index `first` on, zeroes where none is; nothing maps it then. SCAN_*."""
    head = _new_huge(m, gfp, alloc_collapse_pages(m, gfp))
    if head < 0:
        m.vmstat[V_THP_COLLAPSE_ALLOC_FAILED] += 1
        return SCAN_ALLOC_HUGE_PAGE_FAIL
    m.vmstat[V_THP_COLLAPSE_ALLOC] += 1
    present = xa_next(m, inode, first)
    if present < 0 or present >= first + HPAGE_PMD_NR:
        folio_put(m, head)
        return SCAN_FAIL
    page_set(m, head, PG_DIRTY)
    for index in range(first, first + HPAGE_PMD_NR):
        if xa_load(m, inode, index) == 0:
            continue
        found = shmem_get_page(m, inode, index)
        if found < 0:
            folio_put(m, head)
            return SCAN_FAIL
    for index in range(first, first + HPAGE_PMD_NR):
        pfn = filemap_get_page(m, inode, index)
        if pfn < 0:
            continue
        rmap_walk(m, pfn, RMAP_UNMAP)
        add_refs(m, pfn, 1)
        filemap_remove(m, pfn, -1)
        shmem_acct_blocks(m, inode, -1)
        folio_put(m, pfn)
    m.sc[SC_NOW_NS] += HPAGE_PMD_NR * m.cost[COST_COPY_PAGE]
    if _add_huge(m, inode, first, head) < 0:
        folio_put(m, head)
        return SCAN_FAIL
    retract_page_tables(m, inode, first)
    return SCAN_SUCCEED


@kernel
def retract_page_tables(m, inode, first):
    """Free the page tables over a collapsed range of a file, so that its VMAs may map it by a PMD."""
    vma = m.inode[inode * INODE_STRIDE + I_MAP_FIRST]
    while vma >= 0:
        row = vma * VMA_STRIDE
        vpn = (m.vma[row + VMA_START] >> 12) + first - m.vma[row + VMA_PGOFF]
        if m.vma[row + VMA_ANON_VMA] < 0 and vpn & (HPAGE_PMD_NR - 1) == 0 and suitable(m, vma, vpn):
            pmd = walk_pmd(m, m.vma[row + VMA_MM], vpn)
            if pmd >= 0 and m.pt[pmd] and m.pt[pmd] & PTE_HUGE == 0:
                free_table(m, m.vma[row + VMA_MM], m.pt[pmd] >> PTE_SHIFT, 1)
                m.pt[pmd] = 0
        vma = m.vma[row + VMA_MAP_NEXT]
    return 0
