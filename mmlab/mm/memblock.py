"""Boot's hand-over of memory: list heads, frames in use, free ranges.

Models: mm/memblock.c memblock_free_all(), mm/mm_init.c memmap_init_range().
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_init
from mmlab.kernels.ops import memory_model_add_range, page_allocator_free, page_allocator_init_range
from mmlab.model.page import KIND_RESERVED, PG_RESERVED, ZONE_SHIFT, set_page_flags, set_page_kind


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
def init_range(m, zone, pfn, nr_pages):
    """page_allocator init_range."""
    return page_allocator_init_range(m, zone, pfn, nr_pages)


@kernel
def boot_free_to_pcp(m, pfn):
    """One page that boot left on this CPU's list."""
    return page_allocator_free(m, pfn, 0)
