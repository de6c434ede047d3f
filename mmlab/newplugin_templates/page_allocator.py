"""my_policy: first fit over a map of free frames: the lowest aligned run of free frames that is long enough. O(zone) an allocation."""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.zones import mod_zone_free, zone_free_exact, zone_of
from mmlab.model.const import ENOMEM, MIGRATE_MOVABLE
from mmlab.model.rows import Z_END_PFN, Z_START_PFN, ZONE_STRIDE
from mmlab.policies import PageAllocator


def new_state(params, machine):
    """free: 1 + zone of each free frame, else 0."""
    return {"free": machine.page_column("uint8")}


@leaf
def first_fit(m, st, zone, order):
    """Lowest pfn of an aligned run of 2^order free frames of the zone, or -1."""
    size = 1 << order
    start = m.zone[zone * ZONE_STRIDE + Z_START_PFN]
    end = m.zone[zone * ZONE_STRIDE + Z_END_PFN]
    pfn = (start + size - 1) // size * size
    while pfn + size <= end:
        at = pfn
        while at < pfn + size and st.free[at] == zone + 1:
            at += 1
        if at == pfn + size:
            return pfn
        pfn = (at + size) // size * size
    return -1


@kernel
def init_range(m, st, zone, pfn, nr_pages):
    for at in range(pfn, pfn + nr_pages):
        st.free[at] = zone + 1
    mod_zone_free(m, zone, nr_pages)
    return 0


@kernel
def alloc(m, st, zone, order, migratetype, alloc_flags):
    pfn = first_fit(m, st, zone, order)
    if pfn < 0:
        return -ENOMEM
    for at in range(pfn, pfn + (1 << order)):
        st.free[at] = 0
    mod_zone_free(m, zone, -(1 << order))
    return pfn


@kernel
def free(m, st, pfn, order):
    zone = zone_of(m, pfn)
    for at in range(pfn, pfn + (1 << order)):
        st.free[at] = zone + 1
    mod_zone_free(m, zone, 1 << order)
    return 0


@kernel
def can_alloc(m, st, zone, order, alloc_flags):
    return 1 if first_fit(m, st, zone, order) >= 0 else 0


@kernel
def is_free(m, st, pfn):
    return 1 if st.free[pfn] != 0 else 0


@kernel
def nr_free_blocks(m, st, zone, order, migratetype):
    if order > 0 or migratetype != MIGRATE_MOVABLE:  # this allocator knows single frames only
        return 0
    return zone_free_exact(m, zone)


@kernel
def check(m, st, zone):
    count = 0
    for pfn in range(m.zone[zone * ZONE_STRIDE + Z_START_PFN], m.zone[zone * ZONE_STRIDE + Z_END_PFN]):
        if st.free[pfn] == zone + 1:
            count += 1
    return 1 if count != zone_free_exact(m, zone) else 0


POLICY = PageAllocator(
    name="my_policy",
    summary="first fit over a map of free frames",
    new_state=new_state,
    init_range=init_range,
    alloc=alloc,
    free=free,
    can_alloc=can_alloc,
    is_free=is_free,
    nr_free_blocks=nr_free_blocks,
    check=check,
)
