"""Ops of allocators without mobility types that count free blocks by order in st.nr_blocks, NR_PAGE_ORDERS a zone."""

from mmlab.kernels.jit import kernel
from mmlab.model.const import MIGRATE_MOVABLE, NR_PAGE_ORDERS


@kernel
def nr_free_blocks(m, st, zone, order, migratetype):
    """All free memory counts as Movable."""
    return st.nr_blocks[zone * NR_PAGE_ORDERS + order] if migratetype == MIGRATE_MOVABLE else 0


@kernel
def block_type(m, st, pfn):
    """Every pageblock is Movable."""
    return MIGRATE_MOVABLE
