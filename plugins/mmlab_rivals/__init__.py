"""Policies that compete with Linux's, one folder a slot."""

from mmlab.hookspecs import hookimpl
from mmlab_rivals.memory_model.flatmem import FLATMEM
from mmlab_rivals.memory_model.sparsemem import SPARSEMEM
from mmlab_rivals.monitor.accessed_bit_scan import ACCESSED_BIT_SCAN
from mmlab_rivals.oom_policy.allocating_task import ALLOCATING_TASK
from mmlab_rivals.page_allocator.buddy_nomigratetype import BUDDY_NOMIGRATETYPE
from mmlab_rivals.page_allocator.buddy_nopcp import BUDDY_NOPCP
from mmlab_rivals.page_allocator.first_fit import FIRST_FIT
from mmlab_rivals.reclaimer import RECLAIMERS
from mmlab_rivals.vma_index.sorted_array import SORTED_ARRAY


@hookimpl
def mmlab_policies():
    """The rivals of every slot."""
    others = [FLATMEM, SPARSEMEM, FIRST_FIT, BUDDY_NOPCP, BUDDY_NOMIGRATETYPE, SORTED_ARRAY, ALLOCATING_TASK, ACCESSED_BIT_SCAN]
    return [*others, *RECLAIMERS]
