"""nvme_desktop with the data TLBs of an AMD Zen core.

Geometry: Software Optimization Guide for AMD Family 17h Processors, publication 55723 revision 3.00, section 2.7: 64 entries, fully associative, for
pages of all sizes, and 1536 entries, 12-way, for 4 KiB and 2 MiB pages behind them. Times are estimated as for skylake. Left out: that four
neighbouring pages may share an entry, that ways of the second level belong to one size, entries of page directories kept there.
"""

import attrs

from mmlab.policies import CostModel
from mmlab_linux.cost_model import nvme_desktop
from mmlab_linux.cost_model.tlb import tlb


@attrs.frozen(kw_only=True)
class Params(nvme_desktop.Params):
    """The core's TLBs."""

    tlb_l1_entries: int = 64
    tlb_l1_ways: int = 64
    tlb_l2_entries: int = 1536
    tlb_l2_ways: int = 12


ZEN = CostModel(
    name="zen",
    summary="nvme_desktop with the TLBs of an AMD Zen core; times estimated",
    models="AMD Software Optimization Guide for Family 17h, TLBs",
    params=Params,
    costs=nvme_desktop.costs,
    tlb=tlb,
)
