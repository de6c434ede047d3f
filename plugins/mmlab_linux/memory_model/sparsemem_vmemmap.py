"""SPARSEMEM_VMEMMAP: memory in sections of 128 MiB, struct pages in one virtual array that is backed only where sections exist.

Models: include/asm-generic/memory_model.h, include/linux/mmzone.h pfn_valid(), mm/sparse.c, mm/sparse-vmemmap.c.
Deferred initialisation (CONFIG_DEFERRED_STRUCT_PAGE_INIT) goes further than Linux's: boot writes the first struct page of each free block, the
others are written when the block is cut or handed out, so that a machine of 1 TiB starts as fast as a small one.
Left out: early sections being valid as a whole (frames of a hole are invalid here from one subsection on); hot-added sections whose struct
pages lie in the section itself (memmap_on_memory). Cost: add_range and memmap_pages O(subsections of the range), everything else O(1).
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.policies import MemoryModel

SECTION_SHIFT = 15  # 32768 frames, 128 MiB
SUBSECTION_SHIFT = 9  # 512 frames, 2 MiB
SUBSECTIONS = 1 << (SECTION_SHIFT - SUBSECTION_SHIFT)
MEMMAP_PAGES = 512  # a section's struct pages, 64 bytes each: 2 MiB


def new_state(params, machine):
    """section: 1 + node of each section that exists; subsection: 1 where frames are present; base: mem_map index of frame 0."""
    sections = (machine.sizes.nr_frames >> SECTION_SHIFT) + 1
    return {"section": np.zeros(sections, "int64"), "subsection": np.zeros(sections * SUBSECTIONS, "uint8"), "base": np.zeros(1, "int64")}


@leaf
def _present_in_section(st, section, first, last):
    """1 if a subsection first..last of the machine, cut to the section, has frames."""
    low = max(first, section * SUBSECTIONS)
    high = min(last, section * SUBSECTIONS + SUBSECTIONS - 1)
    for at in range(low, high + 1):
        if st.subsection[at]:
            return 1
    return 0


@kernel
def add_range(m, st, node, start_pfn, end_pfn):
    """Mark the range's sections and subsections; a section belongs to the node that came first."""
    for at in range(start_pfn >> SUBSECTION_SHIFT, (end_pfn + 511) >> SUBSECTION_SHIFT):
        st.subsection[at] = 1
        section = at >> (SECTION_SHIFT - SUBSECTION_SHIFT)
        if st.section[section] == 0:
            st.section[section] = node + 1
    return 0


@kernel
def remove_range(m, st, start_pfn, end_pfn):
    """Its subsections go, and sections in which none is left."""
    for at in range(start_pfn >> SUBSECTION_SHIFT, end_pfn >> SUBSECTION_SHIFT):
        st.subsection[at] = 0
    for section in range(start_pfn >> SECTION_SHIFT, ((end_pfn - 1) >> SECTION_SHIFT) + 1):
        if _present_in_section(st, section, 0, len(st.subsection) - 1) == 0:
            st.section[section] = 0
    return 0


@kernel
def pfn_valid(m, st, pfn):
    """1 if a range covers some frame of pfn's subsection."""
    if pfn < 0 or pfn >> SECTION_SHIFT >= len(st.section) or st.section[pfn >> SECTION_SHIFT] == 0:
        return 0
    return np.int64(st.subsection[pfn >> SUBSECTION_SHIFT])


@kernel
def pfn_to_page(m, st, pfn):
    """vmemmap + pfn."""
    return st.base[0] + pfn


@kernel
def page_to_pfn(m, st, page):
    """page - vmemmap."""
    return page - st.base[0]


@kernel
def memmap_pages(m, st, start_pfn, end_pfn):
    """512 pages for each section with a present frame in the range: vmemmap comes in 2 MiB pieces."""
    if end_pfn <= start_pfn:
        return 0
    sections = 0
    for section in range(start_pfn >> SECTION_SHIFT, min(len(st.section), ((end_pfn - 1) >> SECTION_SHIFT) + 1)):
        sections += _present_in_section(st, section, start_pfn >> SUBSECTION_SHIFT, (end_pfn - 1) >> SUBSECTION_SHIFT)
    return sections * MEMMAP_PAGES


@kernel
def check(m, st):
    """1: a section without frames exists, 2: frames lie in a section that does not."""
    for section in range(len(st.section)):
        present = _present_in_section(st, section, 0, len(st.subsection) - 1)
        if present == 0 and st.section[section] != 0:
            return 1
        if present and st.section[section] == 0:
            return 2
    return 0


SPARSEMEM_VMEMMAP = MemoryModel(
    name="sparsemem_vmemmap",
    summary="sections of 128 MiB, one virtual array of struct pages",
    models="mm/sparse.c, mm/sparse-vmemmap.c",
    left_out="early sections valid as a whole, memmap_on_memory",
    level="L2",
    new_state=new_state,
    add_range=add_range,
    remove_range=remove_range,
    pfn_valid=pfn_valid,
    pfn_to_page=pfn_to_page,
    page_to_pfn=page_to_pfn,
    memmap_pages=memmap_pages,
    check=check,
)
