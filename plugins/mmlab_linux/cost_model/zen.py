"""nvme_desktop with the data TLBs of an AMD Zen core.

Geometry: Software Optimization Guide for AMD Family 17h Processors, publication 55723 revision 3.00, section 2.7: 64 entries, fully associative, for
pages of all sizes, and 1536 entries, 12-way, for 4 KiB and 2 MiB pages behind them.
Times, of a Ryzen 7 1800X: a walk costs one load, of a PTE from the third cache, 11.0 ns, of a PMD from the second, 4.6 ns (AMD's figures in
AnandTech's review of the second generation Ryzen), after a hit's time in the second level, for which AMD gives no figure: that of
skylake. Left out: that four neighbouring pages may share an entry, that ways of the second level belong to one size, entries of page
directories kept there.
"""

import attrs

from mmlab.policies import CostModel
from mmlab_linux.cost_model import nvme_desktop
from mmlab_linux.cost_model.tlb import tlb


@attrs.frozen(kw_only=True)
class Params(nvme_desktop.Params):
    """The core's TLBs and what they cost."""

    tlb_l1_entries: int = 64
    tlb_l1_ways: int = 64
    tlb_l2_entries: int = 1536
    tlb_l2_ways: int = 12
    tlb_l2_hit_ns: int = 2
    tlb_miss_ns: int = 13  # 2 + 11.0
    tlb_miss_huge_ns: int = 7  # 2 + 4.6


ZEN = CostModel(
    name="zen",
    summary="nvme_desktop with the TLBs of an AMD Zen core",
    models="AMD Software Optimization Guide for Family 17h, TLBs; cache latencies of Ryzen 7 1800X",
    params=Params,
    costs=nvme_desktop.costs,
    tlb=tlb,
)
