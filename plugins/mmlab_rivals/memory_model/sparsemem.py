"""SPARSEMEM without a virtual map: each section of 128 MiB has an array of struct pages of its own, found through a table of roots.

Models: mm/sparse.c sparse_init(), include/linux/mmzone.h __nr_to_section(), pfn_valid(), include/asm-generic/memory_model.h
(CONFIG_SPARSEMEM, CONFIG_SPARSEMEM_EXTREME). A section is valid as a whole. Left out: where a section's array lies in memory; arrays are
numbered in the order in which sections appear. Cost: O(sections of the range) for add_range and memmap_pages, O(1) for the rest, with two
more loads than sparsemem_vmemmap.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.policies import MemoryModel

SECTION_SHIFT = 15  # 32768 frames, 128 MiB
SECTION_MASK = (1 << SECTION_SHIFT) - 1
ROOT_SHIFT = 8  # sections a root: a page of 16-byte mem_sections
MEMMAP_PAGES = 512  # a section's struct pages, 64 bytes each: 2 MiB


def new_state(params, machine):
    """root: 1 + number of the table of 256 sections, 0 none; section: 1 + number of the section's array; array: the section of each."""
    roots = (machine.sizes.nr_frames >> SECTION_SHIFT + ROOT_SHIFT) + 1
    return {
        "root": np.zeros(roots, "int64"), "section": np.zeros(roots << ROOT_SHIFT, "int64"), "array": np.zeros(roots << ROOT_SHIFT, "int64"),
        "nr": np.zeros(2, "int64"),
    }  # fmt: skip


@leaf
def array_of(st, pfn):
    """1 + number of the array of the frame's section, or 0."""
    section = pfn >> SECTION_SHIFT
    if pfn < 0 or section >> ROOT_SHIFT >= len(st.root) or st.root[section >> ROOT_SHIFT] == 0:
        return 0
    return st.section[((st.root[section >> ROOT_SHIFT] - 1) << ROOT_SHIFT) + (section & ((1 << ROOT_SHIFT) - 1))]


@kernel
def add_range(m, st, node, start_pfn, end_pfn):
    """Make the sections of the range, and their root where it is missing."""
    for section in range(start_pfn >> SECTION_SHIFT, (end_pfn + SECTION_MASK) >> SECTION_SHIFT):
        root = section >> ROOT_SHIFT
        if st.root[root] == 0:
            st.nr[0] += 1
            st.root[root] = st.nr[0]
        at = ((st.root[root] - 1) << ROOT_SHIFT) + (section & ((1 << ROOT_SHIFT) - 1))
        if st.section[at] == 0:
            number = 0
            while number < st.nr[1] and st.array[number] >= 0:
                number += 1
            st.nr[1] = max(st.nr[1], number + 1)
            st.array[number] = section
            st.section[at] = number + 1
    return 0


@kernel
def remove_range(m, st, start_pfn, end_pfn):
    """The sections go with their arrays, whose numbers the next sections take."""
    for section in range(start_pfn >> SECTION_SHIFT, (end_pfn + SECTION_MASK) >> SECTION_SHIFT):
        number = array_of(st, section << SECTION_SHIFT)
        if number:
            st.array[number - 1] = -1
            st.section[((st.root[section >> ROOT_SHIFT] - 1) << ROOT_SHIFT) + (section & ((1 << ROOT_SHIFT) - 1))] = 0
    return 0


@kernel
def pfn_valid(m, st, pfn):
    """1 in a section that exists, in its holes as well."""
    return 1 if array_of(st, pfn) else 0


@kernel
def pfn_to_page(m, st, pfn):
    """The section's array + the frame's place in the section."""
    return ((array_of(st, pfn) - 1) << SECTION_SHIFT) + (pfn & SECTION_MASK)


@kernel
def page_to_pfn(m, st, page):
    """The struct page says which section it belongs to."""
    return (st.array[page >> SECTION_SHIFT] << SECTION_SHIFT) + (page & SECTION_MASK)


@kernel
def memmap_pages(m, st, start_pfn, end_pfn):
    """512 pages for each section of the range that exists."""
    pages = 0
    for section in range(start_pfn >> SECTION_SHIFT, (end_pfn + SECTION_MASK) >> SECTION_SHIFT):
        if array_of(st, section << SECTION_SHIFT):
            pages += MEMMAP_PAGES
    return pages


@kernel
def check(m, st):
    """1: an array and its section do not name each other."""
    for number in range(st.nr[1]):
        if st.array[number] >= 0 and array_of(st, st.array[number] << SECTION_SHIFT) != number + 1:
            return 1
    return 0


SPARSEMEM = MemoryModel(
    name="sparsemem", summary="sections of 128 MiB, each with its own array of struct pages", models="mm/sparse.c, CONFIG_SPARSEMEM_EXTREME",
    left_out="where the arrays lie", level="L0", new_state=new_state, add_range=add_range, remove_range=remove_range, pfn_valid=pfn_valid, pfn_to_page=pfn_to_page,
    page_to_pfn=page_to_pfn, memmap_pages=memmap_pages, check=check,
)  # fmt: skip
