"""The rivals keep the contracts of their slots."""

import pytest
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
from mmlab_rivals.oom_policy.youngest import YOUNGEST
from mmlab_rivals.page_allocator.buddy_nomigratetype import BUDDY_NOMIGRATETYPE
from mmlab_rivals.page_allocator.buddy_nopcp import BUDDY_NOPCP
from mmlab_rivals.page_allocator.first_fit import FIRST_FIT
from mmlab_rivals.page_allocator.llfree import LLFREE
from mmlab_rivals.page_allocator.next_fit import NEXT_FIT
from mmlab_rivals.page_allocator.reservation import RESERVATION
from mmlab_rivals.page_allocator.tlsf import TLSF
from mmlab_rivals.reclaimer import RECLAIMERS
from mmlab_rivals.reclaimer.lirs import LIRS
from mmlab_rivals.slab_allocator.sheaves import SHEAVES
from mmlab_rivals.slab_allocator.slab import SLAB
from mmlab_rivals.slab_allocator.slob import SLOB
from mmlab_rivals.slab_allocator.slub_nocpupartial import SLUB_NOCPUPARTIAL
from mmlab_rivals.thp.hawkeye import HAWKEYE
from mmlab_rivals.thp.ingens import INGENS
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

from mmlab.testing.conformance import (
    FaultHandlerConformance, MemoryModelConformance, MonitorConformance, OomPolicyConformance, PageAllocatorConformance, ReclaimerConformance,
    SlabAllocatorConformance, ThpConformance, TieringConformance, VmaIndexConformance,
)

pytestmark = pytest.mark.nojit


class TestFlatmem(MemoryModelConformance):
    policy = FLATMEM


class TestSparsemem(MemoryModelConformance):
    policy = SPARSEMEM


class TestBuddyNopcp(PageAllocatorConformance):
    policy = BUDDY_NOPCP


class TestBuddyNomigratetype(PageAllocatorConformance):
    policy = BUDDY_NOMIGRATETYPE


class TestFirstFit(PageAllocatorConformance):
    policy = FIRST_FIT


class TestLlfree(PageAllocatorConformance):
    policy = LLFREE


class TestNextFit(PageAllocatorConformance):
    policy = NEXT_FIT


class TestReservation(PageAllocatorConformance):
    policy = RESERVATION


class TestTlsf(PageAllocatorConformance):
    policy = TLSF


class TestSheaves(SlabAllocatorConformance):
    policy = SHEAVES


class TestSlab(SlabAllocatorConformance):
    policy = SLAB


class TestSlob(SlabAllocatorConformance):
    policy = SLOB


class TestSlubNocpupartial(SlabAllocatorConformance):
    policy = SLUB_NOCPUPARTIAL


class TestSortedArray(VmaIndexConformance):
    policy = SORTED_ARRAY


for _policy in RECLAIMERS:
    _name = f"Test{_policy.name.title().replace('_', '')}"
    globals()[_name] = type(_name, (ReclaimerConformance,), {"policy": _policy, "__module__": __name__})


class TestLirsThatFreesOnHits(ReclaimerConformance):
    policy = LIRS
    params = {"demote_on_queue_hit": True, "hir_size_ratio": 0.1}


class TestAllocatingTask(OomPolicyConformance):
    policy = ALLOCATING_TASK


class TestYoungest(OomPolicyConformance):
    policy = YOUNGEST


class TestEarlyoom(OomPolicyConformance):
    policy = EARLYOOM
    params = {"min_sleep_ms": 1, "max_sleep_ms": 1}


class TestOomd(OomPolicyConformance):
    policy = OOMD
    params = {"interval_ms": 1, "swap_pct": 50, "post_action_ms": 5}
    machine = {"memory": "8M", "swap": "4M", "cpus": 1, "bare": True}


class TestLmkd(OomPolicyConformance):
    policy = LMKD
    params = {"poll_ms": 1}


class TestAccessedBitScan(MonitorConformance):
    policy = ACCESSED_BIT_SCAN


class TestIngens(ThpConformance):
    policy = INGENS
    params = {"util_pct": 40, "promote_ms": 1, "sample_ms": 2}
    machine = {**ThpConformance.machine, "memory": "24M"}


class TestHawkeye(ThpConformance):
    policy = HAWKEYE
    params = {"sample_ms": 4, "window_ms": 1, "promote_ms": 1}
    machine = {**ThpConformance.machine, "memory": "24M"}


class TestReservationThp(ThpConformance):
    policy = RESERVATION_THP
    params = {"step_ms": 1}
    machine = {**ThpConformance.machine, "memory": "24M"}


class TestRbtree(VmaIndexConformance):
    policy = RBTREE


class TestBplusTree(VmaIndexConformance):
    policy = BPLUS_TREE


class TestSkipList(VmaIndexConformance):
    policy = SKIP_LIST


class TestNoFaultAround(FaultHandlerConformance):
    policy = NO_FAULT_AROUND


class TestPrefault(FaultHandlerConformance):
    policy = PREFAULT


class TestEagerCopy(FaultHandlerConformance):
    policy = EAGER_COPY


class TestOnDemandFork(FaultHandlerConformance):
    policy = ON_DEMAND_FORK
    machine = {**FaultHandlerConformance.machine, "memory": "16M", "swap": "16M"}


class TestIdlePage(MonitorConformance):
    policy = IDLE_PAGE


class TestClearRefs(MonitorConformance):
    policy = CLEAR_REFS


class TestPebs(MonitorConformance):
    policy = PEBS


class TestHintFault(MonitorConformance):
    policy = HINT_FAULT
    params = {"scan_period_ms": 1}  # of a life of a few ms


class TestFirstTouch(TieringConformance):
    policy = FIRST_TOUCH
    must_be_called = False  # it has nothing to say where reclaim does not ask


class TestTpp(TieringConformance):
    policy = TPP
    params = {"period_ms": 1}


class TestMemtis(TieringConformance):
    policy = MEMTIS
    params = {"step_ms": 1}


class TestDamos(TieringConformance):
    policy = DAMOS
    params = {"sample_us": 100, "aggr_us": 1000}


class TestOraclePlacement(TieringConformance):
    policy = ORACLE_PLACEMENT
    must_be_called = False  # its life is a stream's
