"""What `mmlab new-plugin` writes keeps the contract of its slot from the first day."""

import pytest

from mmlab.newplugin_templates import (
    cost_model, fault_handler, memory_model, monitor, oom_policy, page_allocator, reclaimer, slab_allocator, thp, tiering, vma_index,
)
from mmlab.testing.conformance import (
    CostModelConformance, FaultHandlerConformance, MemoryModelConformance, MonitorConformance, OomPolicyConformance,
    PageAllocatorConformance, ReclaimerConformance, SlabAllocatorConformance, ThpConformance, TieringConformance, VmaIndexConformance,
)

pytestmark = pytest.mark.nojit


class TestMemoryModel(MemoryModelConformance):
    policy = memory_model.POLICY


class TestPageAllocator(PageAllocatorConformance):
    policy = page_allocator.POLICY


class TestSlabAllocator(SlabAllocatorConformance):
    policy = slab_allocator.POLICY
    machine = {"memory": "16M", "swap": "16M", "cpus": 2, "bare": True}  # a page for each object takes room


class TestVmaIndex(VmaIndexConformance):
    policy = vma_index.POLICY


class TestFaultHandler(FaultHandlerConformance):
    policy = fault_handler.POLICY


class TestReclaimer(ReclaimerConformance):
    policy = reclaimer.POLICY


class TestOomPolicy(OomPolicyConformance):
    policy = oom_policy.POLICY


class TestThp(ThpConformance):
    policy = thp.POLICY


class TestTiering(TieringConformance):
    policy = tiering.POLICY


class TestMonitor(MonitorConformance):
    policy = monitor.POLICY


class TestCostModel(CostModelConformance):
    policy = cost_model.POLICY
