"""Linux's policies keep the contracts of their slots."""

import pytest
from mmlab_linux.cost_model.free import FREE
from mmlab_linux.cost_model.icount_guest import ICOUNT_GUEST
from mmlab_linux.cost_model.nvme_desktop import NVME_DESKTOP
from mmlab_linux.cost_model.skylake import SKYLAKE
from mmlab_linux.cost_model.tcg_guest import TCG_GUEST
from mmlab_linux.cost_model.vm_guest import VM_GUEST
from mmlab_linux.cost_model.zen import ZEN
from mmlab_linux.fault_handler.linux import LINUX_FAULT
from mmlab_linux.memory_model.sparsemem_vmemmap import SPARSEMEM_VMEMMAP
from mmlab_linux.monitor.damon import DAMON
from mmlab_linux.monitor.none import NONE
from mmlab_linux.monitor.oracle import ORACLE
from mmlab_linux.oom_policy.linux import LINUX_OOM
from mmlab_linux.page_allocator.buddy import BUDDY
from mmlab_linux.reclaimer.mglru import MGLRU
from mmlab_linux.reclaimer.two_list import TWO_LIST
from mmlab_linux.slab_allocator.slub import SLUB
from mmlab_linux.thp.fault_time import ALWAYS, MADVISE, NEVER
from mmlab_linux.tiering.linux import LINUX_TIERING
from mmlab_linux.vma_index.maple_tree import MAPLE_TREE

from mmlab.testing.conformance import (
    CostModelConformance, FaultHandlerConformance, MemoryModelConformance, MonitorConformance, OomPolicyConformance,
    PageAllocatorConformance, ReclaimerConformance, SlabAllocatorConformance, ThpConformance, TieringConformance, VmaIndexConformance,
)

pytestmark = pytest.mark.nojit


class TestSparsememVmemmap(MemoryModelConformance):
    policy = SPARSEMEM_VMEMMAP


class TestBuddy(PageAllocatorConformance):
    policy = BUDDY


class TestSlub(SlabAllocatorConformance):
    policy = SLUB


class TestMapleTree(VmaIndexConformance):
    policy = MAPLE_TREE


class TestLinuxFault(FaultHandlerConformance):
    policy = LINUX_FAULT


class TestTwoList(ReclaimerConformance):
    policy = TWO_LIST


class TestMglru(ReclaimerConformance):
    policy = MGLRU


class TestLinuxOom(OomPolicyConformance):
    policy = LINUX_OOM


class TestTiering(TieringConformance):
    policy = LINUX_TIERING


class TestThpAlways(ThpConformance):
    policy = ALWAYS


class TestThpMadvise(ThpConformance):
    policy = MADVISE


class TestThpNever(ThpConformance):
    policy = NEVER


class TestNone(MonitorConformance):
    policy = NONE
    must_be_called = False


class TestOracle(MonitorConformance):
    policy = ORACLE


class TestDamon(MonitorConformance):
    policy = DAMON
    params = {"sample_us": 200, "aggr_us": 2000}


class TestDamonOnTasks(MonitorConformance):
    policy = DAMON
    params = {"paddr": False, "sample_us": 200, "aggr_us": 2000, "update_us": 3000}


class TestVmGuest(CostModelConformance):
    policy = VM_GUEST


class TestNvmeDesktop(CostModelConformance):
    policy = NVME_DESKTOP


class TestSkylake(CostModelConformance):
    policy = SKYLAKE


class TestZen(CostModelConformance):
    policy = ZEN


class TestTcgGuest(CostModelConformance):
    policy = TCG_GUEST


class TestIcountGuest(CostModelConformance):
    policy = ICOUNT_GUEST


class TestFree(CostModelConformance):
    policy = FREE
