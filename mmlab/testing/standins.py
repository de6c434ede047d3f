"""Policies that do the least possible, so that one slot can be tested by itself. Never registered."""

from mmlab.kernels.jit import kernel
from mmlab.policies import CostModel, FaultHandler, MemoryModel, Monitor, OomPolicy, PageAllocator, Reclaimer, SlabAllocator, Thp, Tiering, VmaIndex


@kernel
def nothing_1(m, st, a):
    """An op of 1 arguments that returns 0."""
    return 0


@kernel
def nothing_2(m, st, a, b):
    """An op of 2 arguments that returns 0."""
    return 0


@kernel
def nothing_3(m, st, a, b, c):
    """An op of 3 arguments that returns 0."""
    return 0


@kernel
def nothing_4(m, st, a, b, c, d):
    """An op of 4 arguments that returns 0."""
    return 0


STANDINS = {
    "memory_model": MemoryModel(
        name="standin", summary="does nothing", add_range=nothing_3, pfn_valid=nothing_1, pfn_to_page=nothing_1, page_to_pfn=nothing_1,
        memmap_pages=nothing_2,
    ),
    "page_allocator": PageAllocator(
        name="standin", summary="does nothing", init_range=nothing_3, alloc=nothing_4, free=nothing_2, can_alloc=nothing_3,
        is_free=nothing_1, nr_free_blocks=nothing_3, check=nothing_1,
    ),
    "slab_allocator": SlabAllocator(
        name="standin", summary="does nothing", create=nothing_4, alloc=nothing_2, free=nothing_1, stat=nothing_2,
    ),
    "vma_index": VmaIndex(
        name="standin", summary="does nothing", init_mm=nothing_1, destroy_mm=nothing_1, find=nothing_2, find_prev=nothing_2,
        insert=nothing_2, erase=nothing_2, resize=nothing_4, find_gap=nothing_4, stat=nothing_2, check=nothing_1,
    ),
    "fault_handler": FaultHandler(name="standin", summary="does nothing", handle_mm_fault=nothing_4, copy_page_range=nothing_4),
    "reclaimer": Reclaimer(name="standin", summary="does nothing", folio_added=nothing_1, folio_removed=nothing_1, shrink_node=nothing_4),
    "oom_policy": OomPolicy(name="standin", summary="does nothing", select_victim=nothing_2, oom_score=nothing_1),
    "thp": Thp(name="standin", summary="does nothing", fault_orders=nothing_4, fault_gfp=nothing_3),
    "tiering": Tiering(name="standin", summary="does nothing", demotion_node=nothing_3, should_migrate=nothing_4),
    "monitor": Monitor(name="standin", summary="does nothing", sample=nothing_1),
    "cost_model": CostModel(name="standin", summary="everything is free", costs=lambda params: {}),
}
