"""FLATMEM: one array of struct pages from the first present frame to the last, holes included.

Models: include/asm-generic/memory_model.h (CONFIG_FLATMEM), mm/mm_init.c alloc_node_mem_map().
Left out: rounding of the array to whole order-10 blocks; FLATMEM with more than one node (ranges of all nodes share the array). Cost: O(1).
"""

import numpy as np

from mmlab.kernels.jit import kernel
from mmlab.policies import MemoryModel

STRUCT_PAGE = 64
PAGE_SIZE = 4096


def new_state(params, machine):
    """arch_pfn_offset: first present frame, -1 before there is one; max_mapnr: struct pages in the array."""
    return {"arch_pfn_offset": np.full(1, -1, "int64"), "max_mapnr": np.zeros(1, "int64")}


@kernel
def add_range(m, st, node, start_pfn, end_pfn):
    """Stretch the array over the range."""
    if st.arch_pfn_offset[0] < 0:
        st.arch_pfn_offset[0] = start_pfn
    last = st.arch_pfn_offset[0] + st.max_mapnr[0]
    first = min(st.arch_pfn_offset[0], start_pfn)
    st.arch_pfn_offset[0] = first
    st.max_mapnr[0] = max(last, end_pfn) - first
    return 0


@kernel
def pfn_valid(m, st, pfn):
    """1 inside the array, in a hole as well."""
    at = pfn - st.arch_pfn_offset[0]
    return 1 if st.arch_pfn_offset[0] >= 0 and 0 <= at < st.max_mapnr[0] else 0


@kernel
def pfn_to_page(m, st, pfn):
    """mem_map + (pfn - ARCH_PFN_OFFSET)."""
    return pfn - st.arch_pfn_offset[0]


@kernel
def page_to_pfn(m, st, page):
    """page - mem_map + ARCH_PFN_OFFSET."""
    return page + st.arch_pfn_offset[0]


@kernel
def memmap_pages(m, st, start_pfn, end_pfn):
    """64 bytes for each frame of the range, present or not, in whole pages."""
    return (max(0, end_pfn - start_pfn) * STRUCT_PAGE + PAGE_SIZE - 1) // PAGE_SIZE


@kernel
def check(m, st):
    """1: the array has a length but no start, or ends behind the machine's last frame."""
    if st.arch_pfn_offset[0] < 0:
        return 1 if st.max_mapnr[0] else 0
    return 1 if st.max_mapnr[0] <= 0 or (st.arch_pfn_offset[0] + st.max_mapnr[0]) * 4 > len(m.pagex) else 0


FLATMEM = MemoryModel(
    name="flatmem",
    summary="one array of struct pages over first to last frame, holes included",
    models="include/asm-generic/memory_model.h, CONFIG_FLATMEM",
    left_out="rounding of the array to order-10 blocks",
    level="L0",
    new_state=new_state,
    add_range=add_range,
    pfn_valid=pfn_valid,
    pfn_to_page=pfn_to_page,
    page_to_pfn=page_to_pfn,
    memmap_pages=memmap_pages,
    check=check,
)
