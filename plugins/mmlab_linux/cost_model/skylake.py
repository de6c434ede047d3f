"""nvme_desktop with the data TLBs of an Intel Skylake core.

Geometry: Intel 64 and IA-32 Architectures Optimization Reference Manual, "TLB Parameters of the Skylake Microarchitecture": 64 entries, 4-way, for
4 KiB pages; 32 entries, 4-way, for 2 MiB pages; 1536 entries, 12-way, shared by both behind them.
Times, at the 4 GHz of a Core i7-6700K: a hit in the second level costs 9 cycles (Intel's top-down metrics for Skylake, tma_dtlb_load, as in
Linux's tools/perf/pmu-events/arch/x86/skylake). A walk costs these and one load, since paging-structure caches hold what lies above the
entry: of a PTE from the third cache, 44 cycles, of a PMD, of which there are 512 times fewer, from the second, 12 cycles (the manual's "Cache
Parameters of the Skylake Microarchitecture"). Left out: the 4 (first) and 16 (second level) entries for 1 GiB pages, two walks at once.
"""

import attrs

from mmlab.policies import CostModel
from mmlab_linux.cost_model import nvme_desktop
from mmlab_linux.cost_model.tlb import tlb


@attrs.frozen(kw_only=True)
class Params(nvme_desktop.Params):
    """The core's TLBs and what they cost."""

    tlb_l1_entries: int = 64
    tlb_l1_ways: int = 4
    tlb_l1_huge_entries: int = 32
    tlb_l1_huge_ways: int = 4
    tlb_l2_entries: int = 1536
    tlb_l2_ways: int = 12
    tlb_l2_hit_ns: int = 2  # 9 cycles
    tlb_miss_ns: int = 13  # 9 + 44 cycles
    tlb_miss_huge_ns: int = 5  # 9 + 12 cycles


SKYLAKE = CostModel(
    name="skylake",
    summary="nvme_desktop with the TLBs of an Intel Skylake core",
    models="Intel Optimization Reference Manual, TLB and cache parameters of Skylake; Intel top-down metrics",
    params=Params,
    costs=nvme_desktop.costs,
    tlb=tlb,
)
