"""my_policy: no packing at all: each object gets a block of pages of its own. O(1)."""

import numpy as np

from mmlab.kernels.jit import kernel
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.kernels.zones import page_node
from mmlab.model.const import (
    EINVAL, MAX_ORDER, SLAB_STAT_ACTIVE_OBJS, SLAB_STAT_NUM_OBJS, SLAB_STAT_NUM_SLABS, SLAB_STAT_OBJPERSLAB, SLAB_STAT_OBJSIZE,
    SLAB_STAT_PAGESPERSLAB,
)
from mmlab.model.page import KIND_SLAB, PG_SLAB, page_mapping, page_order, page_set, page_test, set_page_kind, set_page_mapping
from mmlab.model.rows import NR_CACHES
from mmlab.model.vmstat import V_NR_SLAB_UNRECLAIMABLE, mod_node_state
from mmlab.policies import SlabAllocator


def new_state(params, machine):
    """size: bytes an object, order: of its block, active: objects in use; a cache each."""
    return {name: np.zeros(NR_CACHES, "int64") for name in ("size", "order", "active")}


@kernel
def create(m, st, cache, size, align, flags):
    if cache < 0 or cache >= NR_CACHES or size <= 0 or size > 4096 << MAX_ORDER or st.size[cache] != 0:
        return -EINVAL
    order = 0
    while 4096 << order < size:
        order += 1
    st.size[cache] = size
    st.order[cache] = order
    return 0


@kernel
def alloc(m, st, cache, gfp):
    pfn = alloc_pages(m, gfp, st.order[cache], -1)
    if pfn < 0:
        return pfn
    page_set(m, pfn, PG_SLAB)
    set_page_mapping(m, pfn, cache)
    for page in range(pfn, pfn + (1 << st.order[cache])):
        set_page_kind(m, page, KIND_SLAB)
    st.active[cache] += 1
    mod_node_state(m, page_node(m, pfn), V_NR_SLAB_UNRECLAIMABLE, 1 << st.order[cache])
    return pfn << 12


@kernel
def free(m, st, obj):
    pfn = obj >> 12
    if obj < 0 or obj & 4095 != 0 or pfn * 4 >= len(m.pagex) or page_test(m, pfn, PG_SLAB) == 0:
        return -EINVAL
    st.active[page_mapping(m, pfn)] -= 1
    mod_node_state(m, page_node(m, pfn), V_NR_SLAB_UNRECLAIMABLE, -(1 << page_order(m, pfn)))
    free_pages(m, pfn, page_order(m, pfn))
    return 0


@kernel
def stat(m, st, cache, what):
    if what == SLAB_STAT_ACTIVE_OBJS or what == SLAB_STAT_NUM_OBJS or what == SLAB_STAT_NUM_SLABS:
        return st.active[cache]
    if what == SLAB_STAT_OBJSIZE:
        return st.size[cache]
    if what == SLAB_STAT_OBJPERSLAB:
        return 1
    return 1 << st.order[cache] if what == SLAB_STAT_PAGESPERSLAB else 0


POLICY = SlabAllocator(
    name="my_policy",
    summary="a block of pages for each object",
    new_state=new_state,
    create=create,
    alloc=alloc,
    free=free,
    stat=stat,
)
