"""Policies that compete with Linux's, one folder a slot."""

from mmlab.hookspecs import hookimpl
from mmlab_rivals.fault_handler.eager_copy import EAGER_COPY
from mmlab_rivals.fault_handler.no_fault_around import NO_FAULT_AROUND
from mmlab_rivals.fault_handler.on_demand_fork import ON_DEMAND_FORK
from mmlab_rivals.fault_handler.prefault import PREFAULT
from mmlab_rivals.memory_model.flatmem import FLATMEM
from mmlab_rivals.memory_model.sparsemem import SPARSEMEM
from mmlab_rivals.monitor.accessed_bit_scan import ACCESSED_BIT_SCAN
from mmlab_rivals.monitor.clear_refs import CLEAR_REFS
from mmlab_rivals.monitor.hint_fault import HINT_FAULT
from mmlab_rivals.monitor.idle_page import IDLE_PAGE
from mmlab_rivals.monitor.pebs import PEBS
from mmlab_rivals.oom_policy.allocating_task import ALLOCATING_TASK
from mmlab_rivals.oom_policy.earlyoom import EARLYOOM
from mmlab_rivals.oom_policy.lmkd import LMKD
from mmlab_rivals.oom_policy.oomd import OOMD
from mmlab_rivals.oom_policy.oracle import ORACLE_OOM
from mmlab_rivals.oom_policy.youngest import YOUNGEST
from mmlab_rivals.page_allocator.buddy_nomigratetype import BUDDY_NOMIGRATETYPE
from mmlab_rivals.page_allocator.buddy_nopcp import BUDDY_NOPCP
from mmlab_rivals.page_allocator.first_fit import FIRST_FIT
from mmlab_rivals.page_allocator.llfree import LLFREE
from mmlab_rivals.page_allocator.next_fit import NEXT_FIT
from mmlab_rivals.page_allocator.reservation import RESERVATION
from mmlab_rivals.page_allocator.tlsf import TLSF
from mmlab_rivals.reclaimer import RECLAIMERS
from mmlab_rivals.slab_allocator.sheaves import SHEAVES
from mmlab_rivals.slab_allocator.slab import SLAB
from mmlab_rivals.slab_allocator.slob import SLOB
from mmlab_rivals.slab_allocator.slub_nocpupartial import SLUB_NOCPUPARTIAL
from mmlab_rivals.thp.hawkeye import HAWKEYE
from mmlab_rivals.thp.ingens import INGENS
from mmlab_rivals.thp.oracle import ORACLE_THP
from mmlab_rivals.thp.reservation import RESERVATION_THP
from mmlab_rivals.tiering.damos import DAMOS
from mmlab_rivals.tiering.first_touch import FIRST_TOUCH
from mmlab_rivals.tiering.memtis import MEMTIS
from mmlab_rivals.tiering.oracle import ORACLE_PLACEMENT
from mmlab_rivals.tiering.tpp import TPP
from mmlab_rivals.vma_index.bplus_tree import BPLUS_TREE
from mmlab_rivals.vma_index.rbtree import RBTREE
from mmlab_rivals.vma_index.skip_list import SKIP_LIST
from mmlab_rivals.vma_index.sorted_array import SORTED_ARRAY


@hookimpl
def mmlab_policies():
    """The rivals of every slot."""
    memory_models, monitors = [FLATMEM, SPARSEMEM], [ACCESSED_BIT_SCAN, IDLE_PAGE, CLEAR_REFS, PEBS, HINT_FAULT]
    page_allocators = [FIRST_FIT, NEXT_FIT, LLFREE, TLSF, RESERVATION, BUDDY_NOPCP, BUDDY_NOMIGRATETYPE]
    tiering = [FIRST_TOUCH, TPP, MEMTIS, DAMOS, ORACLE_PLACEMENT]
    slab_allocators = [SLUB_NOCPUPARTIAL, SLAB, SLOB, SHEAVES]
    vma_indexes = [SORTED_ARRAY, RBTREE, BPLUS_TREE, SKIP_LIST]
    fault_handlers = [NO_FAULT_AROUND, PREFAULT, EAGER_COPY, ON_DEMAND_FORK]
    oom_policies = [ALLOCATING_TASK, YOUNGEST, EARLYOOM, OOMD, LMKD, ORACLE_OOM]
    thp = [INGENS, HAWKEYE, RESERVATION_THP, ORACLE_THP]
    return [
        *memory_models, *page_allocators, *slab_allocators, *vma_indexes, *fault_handlers, *RECLAIMERS, *oom_policies, *thp, *monitors, *tiering,
    ]  # fmt: skip
