"""my_policy: one flat array of struct pages, and a mark for each frame that exists."""

from mmlab.kernels.jit import kernel
from mmlab.policies import MemoryModel

STRUCT_PAGE_BYTES = 64


def new_state(params, machine):
    """valid: 1 for each frame that exists."""
    return {"valid": machine.page_column("uint8")}


@kernel
def add_range(m, st, node, start_pfn, end_pfn):
    for pfn in range(start_pfn, end_pfn):
        st.valid[pfn] = 1
    return 0


@kernel
def pfn_valid(m, st, pfn):
    return 1 if 0 <= pfn < len(st.valid) and st.valid[pfn] != 0 else 0


@kernel
def pfn_to_page(m, st, pfn):
    return pfn


@kernel
def page_to_pfn(m, st, page):
    return page


@kernel
def memmap_pages(m, st, start_pfn, end_pfn):
    return ((end_pfn - start_pfn) * STRUCT_PAGE_BYTES + 4095) // 4096


POLICY = MemoryModel(
    name="my_policy",
    summary="struct pages in one flat array",
    new_state=new_state,
    add_range=add_range,
    pfn_valid=pfn_valid,
    pfn_to_page=pfn_to_page,
    page_to_pfn=page_to_pfn,
    memmap_pages=memmap_pages,
)
