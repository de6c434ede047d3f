"""mem_map: what the machine knows of each page frame, in 32 bytes.

Models: struct page and struct folio (include/linux/mm_types.h). `m.page` is uint32, four words a frame: next, prev, flags, counts (the hot
record, one cache line touch); `m.pagex` is uint32, four words: mapping, index, private, and index bits 32-39 | order << 8 | kind << 12 | memcg << 16.
Behind the last frame come the sentinel records of list heads. flags: PG_* in 24 bits, generation (3), zone row (5); counts: mapcount in
22 bits, other references in 10. All helpers give and take int64.
Left out: page->_last_cpupid, pinned counts (FOLL_PIN), locks.
"""

import numpy as np

from mmlab.kernels.jit import leaf

# PG_* bits of flags
PG_LOCKED, PG_REFERENCED, PG_UPTODATE, PG_DIRTY, PG_LRU, PG_ACTIVE = 1, 2, 4, 8, 16, 32
PG_WORKINGSET, PG_WRITEBACK, PG_RECLAIM, PG_SWAPBACKED, PG_UNEVICTABLE, PG_MLOCKED = 64, 128, 256, 512, 1024, 2048
PG_READAHEAD, PG_SWAPCACHE, PG_ANON, PG_ANON_EXCLUSIVE, PG_HEAD, PG_BUDDY = 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17
PG_SLAB, PG_TABLE, PG_RESERVED, PG_YOUNG, PG_IDLE, PG_TAIL = 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23
PG_FLAGS_MASK = (1 << 24) - 1
GEN_SHIFT, GEN_MASK = 24, 7 << 24
ZONE_SHIFT, ZONE_MASK = 27, 31 << 27

MAPCOUNT_MASK = (1 << 22) - 1
REF_SHIFT = 22
REF_ONE = 1 << REF_SHIFT

# kind of a frame, for reports and checks
KIND_FREE, KIND_PCP, KIND_ANON, KIND_FILE, KIND_SHMEM, KIND_SLAB, KIND_TABLE, KIND_KERNEL, KIND_BOOT, KIND_RESERVED = range(10)

NO_MAPPING = 0xFFFFFFFF


@leaf
def page_next(m, pfn):
    """The record after pfn on its list."""
    return np.int64(m.page[pfn * 4])


@leaf
def page_prev(m, pfn):
    """The record before pfn on its list."""
    return np.int64(m.page[pfn * 4 + 1])


@leaf
def set_page_next(m, pfn, value):
    """Link pfn forward."""
    m.page[pfn * 4] = value


@leaf
def set_page_prev(m, pfn, value):
    """Link pfn backward."""
    m.page[pfn * 4 + 1] = value


@leaf
def page_flags(m, pfn):
    """PG_* bits, generation and zone row as one int64."""
    return np.int64(m.page[pfn * 4 + 2])


@leaf
def set_page_flags(m, pfn, value):
    """Replace all of flags."""
    m.page[pfn * 4 + 2] = value


@leaf
def page_set(m, pfn, bits):
    """Set PG_* bits."""
    m.page[pfn * 4 + 2] = np.int64(m.page[pfn * 4 + 2]) | bits


@leaf
def page_clear(m, pfn, bits):
    """Clear PG_* bits."""
    m.page[pfn * 4 + 2] = np.int64(m.page[pfn * 4 + 2]) & ~bits


@leaf
def page_test(m, pfn, bits):
    """Nonzero if any of the PG_* bits is set."""
    return np.int64(m.page[pfn * 4 + 2]) & bits


@leaf
def page_test_clear(m, pfn, bits):
    """The bits that were set, now cleared."""
    flags = np.int64(m.page[pfn * 4 + 2])
    if flags & bits:
        m.page[pfn * 4 + 2] = flags & ~bits
    return flags & bits


@leaf
def page_zone(m, pfn):
    """Row of the frame's zone in m.zone."""
    return (np.int64(m.page[pfn * 4 + 2]) >> ZONE_SHIFT) & 31


@leaf
def page_counts(m, pfn):
    """mapcount and other references as one int64; 0: nobody uses the page."""
    return np.int64(m.page[pfn * 4 + 3])


@leaf
def page_mapcount(m, pfn):
    """How many page-table entries map the page."""
    return np.int64(m.page[pfn * 4 + 3]) & MAPCOUNT_MASK


@leaf
def page_refs(m, pfn):
    """References other than mappings (page cache, swap cache, batches, isolation)."""
    return np.int64(m.page[pfn * 4 + 3]) >> REF_SHIFT


@leaf
def set_page_counts(m, pfn, mapcount, refs):
    """Set both counts."""
    m.page[pfn * 4 + 3] = mapcount | (refs << REF_SHIFT)


@leaf
def add_mapcount(m, pfn, delta):
    """Change mapcount by delta; returns the new value."""
    counts = np.int64(m.page[pfn * 4 + 3]) + delta
    m.page[pfn * 4 + 3] = counts
    return counts & MAPCOUNT_MASK


@leaf
def add_refs(m, pfn, delta):
    """Change the other references by delta; returns both counts (0: the page is free to go)."""
    counts = np.int64(m.page[pfn * 4 + 3]) + delta * REF_ONE
    m.page[pfn * 4 + 3] = counts
    return counts


@leaf
def page_mapping(m, pfn):
    """anon_vma, inode or kmem_cache number; NO_MAPPING for none."""
    return np.int64(m.pagex[pfn * 4])


@leaf
def set_page_mapping(m, pfn, value):
    """Set the mapping number."""
    m.pagex[pfn * 4] = value


@leaf
def page_index(m, pfn):
    """Offset of the page in its mapping, in pages (40 bits)."""
    return np.int64(m.pagex[pfn * 4 + 1]) | ((np.int64(m.pagex[pfn * 4 + 3]) & 255) << 32)


@leaf
def set_page_index(m, pfn, index):
    """Set the offset in the mapping."""
    m.pagex[pfn * 4 + 1] = index & 0xFFFFFFFF
    m.pagex[pfn * 4 + 3] = (np.int64(m.pagex[pfn * 4 + 3]) & ~255) | ((index >> 32) & 255)


@leaf
def page_private(m, pfn):
    """Swap slot, slab's inuse and freelist, page-table number."""
    return np.int64(m.pagex[pfn * 4 + 2])


@leaf
def set_page_private(m, pfn, value):
    """Set the private word (32 bits)."""
    m.pagex[pfn * 4 + 2] = value


@leaf
def page_order(m, pfn):
    """Order of the block that this frame heads (free block, large folio, slab)."""
    return (np.int64(m.pagex[pfn * 4 + 3]) >> 8) & 15


@leaf
def folio_nr_pages(m, pfn):
    """Pages of the folio that pfn heads."""
    return 1 << page_order(m, pfn) if page_test(m, pfn, PG_HEAD) else 1


@leaf
def set_page_order(m, pfn, order):
    """Set the block's order."""
    m.pagex[pfn * 4 + 3] = (np.int64(m.pagex[pfn * 4 + 3]) & ~(15 << 8)) | (order << 8)


@leaf
def page_kind(m, pfn):
    """KIND_* of the frame."""
    return (np.int64(m.pagex[pfn * 4 + 3]) >> 12) & 15


@leaf
def set_page_kind(m, pfn, kind):
    """Set KIND_*."""
    m.pagex[pfn * 4 + 3] = (np.int64(m.pagex[pfn * 4 + 3]) & ~(15 << 12)) | (kind << 12)


@leaf
def set_page_fresh(m, pfn, kind, order):
    """A frame just allocated: its KIND_* and order; no index, nobody charged."""
    m.pagex[pfn * 4 + 3] = (kind << 12) | (order << 8)


@leaf
def page_memcg(m, pfn):
    """Row in m.memcg of the cgroup that is charged for the page; 0: none but the root."""
    return np.int64(m.pagex[pfn * 4 + 3]) >> 16


@leaf
def set_page_memcg(m, pfn, memcg):
    """Note who is charged for the page."""
    m.pagex[pfn * 4 + 3] = (np.int64(m.pagex[pfn * 4 + 3]) & 0xFFFF) | (memcg << 16)


@leaf
def page_folio(m, pfn):
    """The head of the folio that pfn belongs to (a tail's private word is its offset from the head)."""
    if np.int64(m.page[pfn * 4 + 2]) & PG_TAIL:
        return pfn - np.int64(m.pagex[pfn * 4 + 2])
    return pfn
