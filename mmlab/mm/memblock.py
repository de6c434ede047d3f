"""Boot's hand-over of memory: list heads, frames in use, free ranges.

Models: mm/memblock.c memblock_free_all(), mm/mm_init.c memmap_init_range().
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_init
from mmlab.kernels.ops import memory_model_add_range, memory_model_remove_range, page_allocator_free, page_allocator_init_range
from mmlab.model.const import ENOMEM
from mmlab.model.page import (
    KIND_BOOT, KIND_FREE, KIND_KERNEL, KIND_RESERVED, PG_RESERVED, ZONE_SHIFT, page_kind, set_page_counts, set_page_flags, set_page_kind,
    set_page_order,
)
from mmlab.model.rows import SC_MEMBLOCK_FIRST, SC_MEMBLOCK_PFN, SC_MEMBLOCK_ZONE, SC_NR_ZONES, Z_END_PFN, Z_START_PFN, ZONE_STRIDE


@kernel
def init_heads(m, first, last):
    """Make every list head record empty. Returns how many."""
    for head in range(first, last):
        list_init(m, head)
    return last - first


@kernel
def mark_range(m, start_pfn, end_pfn, zone, kind):
    """Present frames of a zone as in use: kind BOOT or RESERVED. Cost: one record a frame."""
    for pfn in range(start_pfn, end_pfn):
        set_page_flags(m, pfn, (zone << ZONE_SHIFT) | (PG_RESERVED if kind == KIND_RESERVED else 0))
        set_page_kind(m, pfn, kind)
    return end_pfn - start_pfn


@kernel
def mark_free(m, start_pfn, end_pfn, zone):
    """Frames that will be free. The zone is written for the first frame of each order-10 block and for the frames of partial blocks only:
    a frame inside gets its zone when its block is split (set_page_zone), so that a large machine costs nothing until it is used."""
    pfn = start_pfn
    while pfn < end_pfn:
        set_page_flags(m, pfn, zone << ZONE_SHIFT)
        if pfn & 1023 == 0 and pfn + 1024 <= end_pfn:
            pfn += 1024
        else:
            pfn += 1
    return 0


@kernel
def add_range(m, node, start_pfn, end_pfn):
    """memory_model add_range."""
    return memory_model_add_range(m, node, start_pfn, end_pfn)


@kernel
def remove_range(m, start_pfn, end_pfn):
    """memory_model remove_range."""
    return memory_model_remove_range(m, start_pfn, end_pfn)


@kernel
def init_range(m, zone, pfn, nr_pages):
    """page_allocator init_range."""
    return page_allocator_init_range(m, zone, pfn, nr_pages)


@kernel
def boot_free_to_pcp(m, pfn, order):
    """A block that boot left on one of this CPU's lists."""
    for i in range(pfn, pfn + (1 << order)):
        set_page_kind(m, i, KIND_FREE)
    return page_allocator_free(m, pfn, order)


@kernel
def memblock_alloc(m, gfp, order, node):
    """alloc_pages() while the machine boots: memory in use at boot takes on a role, from the top of the first zone asked downwards, then that
    of the zones below it, then that of those above it, the last one first; -ENOMEM at its end."""
    size = 1 << order
    while m.sc[SC_MEMBLOCK_ZONE] >= 0:
        base = m.sc[SC_MEMBLOCK_ZONE] * ZONE_STRIDE
        pfn = m.sc[SC_MEMBLOCK_PFN] // size * size - size
        if pfn < m.zone[base + Z_START_PFN]:
            zone = (m.sc[SC_MEMBLOCK_ZONE] + m.sc[SC_NR_ZONES] - 1) % m.sc[SC_NR_ZONES]
            m.sc[SC_MEMBLOCK_ZONE] = -1 if zone == m.sc[SC_MEMBLOCK_FIRST] else zone
            m.sc[SC_MEMBLOCK_PFN] = m.zone[zone * ZONE_STRIDE + Z_END_PFN]
            continue
        m.sc[SC_MEMBLOCK_PFN] = pfn
        usable = 1
        for i in range(pfn, pfn + size):
            if page_kind(m, i) != KIND_BOOT:
                usable = 0
        if usable:
            for i in range(pfn, pfn + size):
                set_page_flags(m, i, m.sc[SC_MEMBLOCK_ZONE] << ZONE_SHIFT)
                set_page_counts(m, i, 0, 0)
                set_page_kind(m, i, KIND_KERNEL)
            set_page_order(m, pfn, order)
            return pfn
    return -ENOMEM
