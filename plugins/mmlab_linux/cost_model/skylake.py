"""nvme_desktop with the data TLBs of an Intel Skylake core.

Geometry: Intel 64 and IA-32 Architectures Optimization Reference Manual, "TLB Parameters of the Skylake Microarchitecture": 64 entries, 4-way, for
4 KiB pages; 32 entries, 4-way, for 2 MiB pages; 1536 entries, 12-way, shared by both behind them. Times are estimated, not measured: a hit in
the second level 9 cycles at 4 GHz, a walk that ends in a PTE 30 ns (the entry lies in the second or third cache), one that ends in a PMD 10 ns
(512 times fewer entries, which stay in the first caches). Left out: the 4 (first) and 16 (second level) entries for 1 GiB pages.
"""

import attrs

from mmlab.policies import CostModel
from mmlab_linux.cost_model import nvme_desktop
from mmlab_linux.cost_model.tlb import tlb


@attrs.frozen(kw_only=True)
class Params(nvme_desktop.Params):
    """The core's TLBs."""

    tlb_l1_entries: int = 64
    tlb_l1_ways: int = 4
    tlb_l1_huge_entries: int = 32
    tlb_l1_huge_ways: int = 4
    tlb_l2_entries: int = 1536
    tlb_l2_ways: int = 12


SKYLAKE = CostModel(
    name="skylake",
    summary="nvme_desktop with the TLBs of an Intel Skylake core; times estimated",
    models="Intel Optimization Reference Manual, TLB parameters of Skylake",
    params=Params,
    costs=nvme_desktop.costs,
    tlb=tlb,
)
